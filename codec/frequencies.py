"""From integer weights to coding intervals.

Given weights w_0 … w_{V-1}, 0 <= w_i <= 2**24, at least one of them positive, let
C_i be the sum of the weights before i, S the sum of all, and

    R   = floor((2**24 - V) * 2**38 / S)
    c_i = i + floor(C_i * R / 2**38)         for i < V,      c_V = 2**24.

Symbol i owns [c_i, c_{i+1}): every symbol has at least one unit of 2**-24, and
the whole is exactly one.  All intermediate values stay below 2**63 for V <= 65536.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel

PRECISION = 24
"""Intervals are in units of 2**-PRECISION."""
SHIFT = 38
TOTAL = 1 << PRECISION

_put_interval = Kernel("pgolf_codec.codec.coding_kernels", "put_interval")
_put_location = Kernel("pgolf_codec.codec.coding_kernels", "put_location")


def interval(weights: NDArray[np.uint32], symbol: int) -> tuple[int, int]:
    """(cum, freq) of one symbol of one distribution (V,)."""
    found = np.empty(2, np.int64)
    _put_interval(np.ascontiguousarray(weights), int(symbol), found)
    return int(found[0]), int(found[1])


def locate(weights: NDArray[np.uint32], point: int) -> tuple[int, int, int]:
    """(symbol, cum, freq) of the interval that holds ``point``, 0 <= point < 2**24."""
    found = np.empty(3, np.int64)
    _put_location(np.ascontiguousarray(weights), int(point), found)
    return int(found[0]), int(found[1]), int(found[2])
