"""The search for a path of the trellis; apart, as decoding needs neither it nor numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def search(
    target: Any, weight: Any, table: Any, bits: Any, rate: float, follow: Any, limit: int
) -> Any:
    """The cheapest integers (n,) int16 for a column of float64 targets (n,), in steps.

    ``weight`` (n,) is that of a squared error; ``table`` (n,) chooses among ``bits``
    (tables, 2, levels) float64, prices by parity and index + levels // 2; ``rate`` is the
    cost of a bit.  ``follow`` is that of :func:`trellis.machine`; |x| stays within ``limit``.
    """
    n, n_states = target.size, follow.shape[0]
    middle = bits.shape[2] // 2
    step = 4 if n_states > 1 else 2
    far = np.inf
    cost = np.full(n_states, far)
    cost[0] = 0.0
    after = np.empty(n_states)
    came = np.zeros((n, n_states), np.int16)  # state before, and the bit, in the lowest place
    best = np.empty((n, 4), np.int16)  # of each class modulo 4
    price = np.empty(4)
    for i in range(n):
        prices = bits[table[i]]
        for c in range(4):
            price[c] = far
            if step == 2 and c != 0:
                continue
            # The nearest of the class, its neighbours: a cheaper index may lie further off.
            near = step * int(np.floor((target[i] - c) / step + 0.5)) + c
            for x in (near - step, near, near + step):
                if -limit <= x <= limit:
                    k = (x - (c & 1)) >> 1
                    at = min(max(k + middle, 0), 2 * middle)
                    d = target[i] - x
                    p = weight[i] * d * d + rate * prices[c & 1, at]
                    if p < price[c]:
                        price[c] = p
                        best[i, c] = x
        after[:] = far
        for s in range(n_states):
            for bit in range(2 if n_states > 1 else 1):
                total = cost[s] + price[(s & 1) + 2 * bit]
                to = follow[s, bit]
                if total < after[to]:
                    after[to] = total
                    came[i, to] = 2 * s + bit
        cost, after = after, cost
    out = np.empty(n, np.int16)
    state = int(np.argmin(cost))
    for i in range(n - 1, -1, -1):
        back = int(came[i, state])
        state = back >> 1
        out[i] = best[i, (state & 1) + 2 * (back & 1)]
    return out
