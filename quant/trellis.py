"""Trellis-coded quantization: integers on a fine grid, at the rate of a coarse one.

A weight may only be an even or only an odd integer, and which of the two is decided by
the state of a small machine that runs along with the weights; what is coded is the
index k of x = 2k + parity.  Its lowest bit drives the machine::

    parity = state & 1          x = 2 k + parity
    state' = state >> 1  ^  (k & 1) * (H1 >> 1)  ^  parity * (H0 >> 1)

H0 and H1 are the parity-check polynomials of Ungerboeck's codes for amplitude modulation
("Channel coding with multilevel/phase signals", 1982, table I); the four classes of x
modulo 4 are his four subsets.  Quantizing is a search for the path of least cost

    weight * (target - x)**2 + rate * bits[table][parity][k]

by the Viterbi algorithm, so the entropy coder's price is part of the search (Fischer and
Wang, "Entropy-constrained trellis-coded quantization", 1992).  Every column starts in
state 0, and a decoder needs nothing but the two lines above.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import ConfigError

CODES: dict[int, tuple[int, int]] = {
    1: (0, 0),  # no machine: all even, a plain scalar quantizer with the same interface
    4: (0o5, 0o2),
    8: (0o13, 0o4),
    16: (0o23, 0o4),
    32: (0o45, 0o10),
    64: (0o103, 0o24),
    128: (0o235, 0o126),
    256: (0o515, 0o362),
}
"""States -> (H0, H1)."""

SQUARED_ERROR = 0.265
"""Mean squared error of a search at about 3 bits, in steps squared: 8 states, measured."""

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


def machine(n_states: int) -> NDArray[np.int64]:
    """Next states (n_states, 2): by state and lowest bit of the index.

    Raises :class:`ConfigError` for a number of states that has no code.
    """
    if n_states not in CODES:
        raise ConfigError(f"trellis: {n_states} states; there are codes for {sorted(CODES)}")
    h0, h1 = (h >> 1 for h in CODES[n_states])
    states = np.arange(n_states)
    base = (states >> 1) ^ np.where(states & 1, h0, 0)
    return np.stack([base, base ^ h1], axis=1).astype(np.int64)


@_jit
def search(
    target: Any, weight: Any, table: Any, bits: Any, rate: float, follow: Any, limit: int
) -> Any:
    """The cheapest integers (n,) int16 for a column of float64 targets (n,), in steps.

    ``weight`` (n,) is that of a squared error; ``table`` (n,) chooses among ``bits``
    (tables, 2, levels) float64, prices by parity and index + levels // 2; ``rate`` is the
    cost of a bit.  ``follow`` is :func:`machine`'s; |x| stays within ``limit``.
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
