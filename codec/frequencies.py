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

from pgolf_codec.codec.compiled import jit

PRECISION = 24
"""Intervals are in units of 2**-PRECISION."""
SHIFT = 38
TOTAL = 1 << PRECISION
_BLOCK = 64


@jit
def reciprocal(total: int, n_symbols: int) -> int:
    """R for weights that sum to ``total``."""
    return ((TOTAL - n_symbols) << SHIFT) // total


@jit
def interval(weights: NDArray[np.uint32], symbol: int) -> tuple[int, int]:
    """(cum, freq) of one symbol of one distribution (V,)."""
    before = np.int64(0)
    for i in range(symbol):
        before += np.int64(weights[i])
    total = before
    for i in range(symbol, weights.size):
        total += np.int64(weights[i])
    r = reciprocal(total, weights.size)
    cum = symbol + ((before * r) >> SHIFT)
    if symbol == weights.size - 1:
        return cum, TOTAL - cum
    after = before + np.int64(weights[symbol])
    return cum, symbol + 1 + ((after * r) >> SHIFT) - cum


@jit
def locate(weights: NDArray[np.uint32], point: int) -> tuple[int, int, int]:
    """(symbol, cum, freq) of the interval that holds ``point``, 0 <= point < 2**24.

    Looks for the block of symbols first: the bounds of a block need its sum only.
    """
    last = weights.size - 1
    n_blocks = last // _BLOCK + 1
    sums = np.empty(n_blocks, np.int64)
    total = np.int64(0)
    for b in range(n_blocks):
        block = np.uint32(0)  # 64 weights of 2**24 at most
        for i in range(b * _BLOCK, min((b + 1) * _BLOCK, weights.size)):
            block = np.uint32(block + weights[i])
        sums[b] = np.int64(block)
        total += np.int64(block)
    r = reciprocal(total, weights.size)
    before, b = np.int64(0), 0
    while b < n_blocks - 1:
        after = before + sums[b]
        if point < (b + 1) * _BLOCK + ((after * r) >> SHIFT):
            break
        before = after
        b += 1
    i = b * _BLOCK
    cum = i + ((before * r) >> SHIFT)
    while i < last:
        before += np.int64(weights[i])
        end = i + 1 + ((before * r) >> SHIFT)
        if point < end:
            return i, cum, end - cum
        cum = end
        i += 1
    return last, cum, TOTAL - cum
