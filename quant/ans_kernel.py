"""Machine code of :mod:`ans_words`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.ans_words import PRECISION, START_SHIFT


@jit
def decode(
    words: NDArray[np.uint32],
    bounds: NDArray[np.uint64],
    starts: NDArray[np.uint8],
    low: int,
    values: NDArray[np.int8],
) -> int:
    """Whether the stream ends with its last value."""
    at, mask, word = words.size - 1, np.uint64((1 << PRECISION) - 1), np.uint64(32)
    state = np.uint64(words[at])
    if at > 0:
        at -= 1
        state = state << word | np.uint64(words[at])
    for i in range(values.size):
        u = state & mask
        level = np.int64(starts[u >> np.uint64(START_SHIFT)])
        while bounds[level + 1] <= u:
            level += 1
        values[i] = level + low
        start = bounds[level]
        state = (state >> np.uint64(PRECISION)) * (bounds[level + 1] - start) + u - start
        if state < np.uint64(1 << 32) and at > 0:
            at -= 1
            state = state << word | np.uint64(words[at])
    return int(at == 0 and state == np.uint64(0))
