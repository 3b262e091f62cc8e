"""The words of an ANS stream as values, by machine code of ours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel

PRECISION = 24
_STARTS = 1 << 14
START_SHIFT = PRECISION - 14

_decode = Kernel("pgolf_codec.quant.ans_kernel", "decode")


def decode(
    words: NDArray[np.uint32], weights: NDArray[np.uint16], low: int, n_items: int
) -> NDArray[np.int8] | None:
    """The ``n_items`` values, ``low`` and more; None if the stream does not end with them."""
    bounds = _bounds(weights)
    # The level at the start of each 2**10 points: decoding searches on from there.
    starts = np.searchsorted(
        bounds, np.arange(_STARTS, dtype=np.uint64) << np.uint64(START_SHIFT), "right"
    )
    values = np.empty(n_items, np.int8)
    ends = _decode(words, bounds, (starts - 1).astype(np.uint8), low, values)
    return values if ends else None


def _bounds(weights: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """(levels + 1,) c_i of docs/NUMERICS.md: level i owns [c_i, c_{i+1}) of 2**24."""
    before = np.concatenate(([0.0], np.cumsum(weights.astype(np.float64) + 1 / 64)))  # exact
    n = weights.size
    free = (1 << PRECISION) - n
    inner = np.arange(n) + np.floor(before[:-1] * (free / before[-1])).astype(np.int64)
    return np.append(inner, 1 << PRECISION).astype(np.uint64)
