"""A classical control: n-grams of bytes that learn as they go, every order in one mixture.

Witten and Bell's interpolation, the blending that PPM approximates by escapes: with n the
times a context came and u the number of different bytes that followed it,

    p_k = (count + u · p_{k−1}) / (n + u),     p_{−1} = 1/256.

It sums to one for any counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class NGrams:
    """Contexts of 0 .. ``order`` bytes.  ``primer`` is text that it has read beforehand."""

    n_symbols = 256

    def __init__(self, order: int = 5, primer: bytes = b"") -> None:
        self._order = order
        self._primer = primer

    def start(self) -> None:
        self._counts: dict[bytes, dict[int, int]] = {}
        self._past = b""
        for byte in self._primer:
            self.observe(byte)

    def next_distribution(self) -> NDArray[np.float64]:
        p = np.full(256, 1 / 256)
        for length in range(len(self._past) + 1):
            followers = self._counts.get(self._past[len(self._past) - length :])
            if followers is None:
                break  # a longer context has not come either
            n, u = sum(followers.values()), len(followers)
            p *= u / (n + u)
            p[list(followers)] += np.array(list(followers.values())) / (n + u)
        return p

    def observe(self, symbol: int) -> None:
        for length in range(len(self._past) + 1):
            followers = self._counts.setdefault(self._past[len(self._past) - length :], {})
            followers[symbol] = followers.get(symbol, 0) + 1
        self._past = (self._past + bytes([symbol]))[-self._order :] if self._order else b""
