"""int8 values through ANS with one learned histogram, in constriction's format.

Payload: int8 lowest value, uint8 number of levels - 1, uint16 weight of each level
(0 counts as "less than any other"), then the words of the ANS stream, uint32.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError

PRECISION = 24
_STARTS = 1 << 14
START_SHIFT = PRECISION - 14

_decode = Kernel("pgolf_codec.quant.ans_kernel", "decode")


def _model(weights: NDArray[np.uint16]) -> Any:
    import constriction

    # Integers as float64: constriction's cumulative sums are then exact.
    return constriction.stream.model.Categorical(weights.astype(np.float64) + 1 / 64, perfect=False)


def encode(values: NDArray[np.int8]) -> bytes:
    """Payload of a non-empty array (n,)."""
    import constriction

    low = int(values.min())
    symbols = values.astype(np.int32) - low
    counts = np.bincount(symbols)
    weights = (-(-counts * 65535 // counts.max())).astype("<u2")  # 1 at least, 65535 at most
    head: bytes = struct.pack("<bB", low, len(weights) - 1) + weights.tobytes()
    if len(weights) == 1:
        return head
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols, _model(weights))
    return head + np.asarray(coder.get_compressed()).astype("<u4").tobytes()


def decode(payload: memoryview, n_items: int) -> NDArray[np.int8]:
    """The ``n_items`` values, or :class:`CorruptError`."""
    if len(payload) < 2:
        raise CorruptError("ANS tensor: ends within its histogram")
    low, levels = struct.unpack_from("<bB", payload)
    start = 2 + 2 * (levels + 1)
    if len(payload) < start or (len(payload) - start) % 4 or low + levels > 127:
        raise CorruptError("ANS tensor: ends within its histogram")
    if levels == 0:
        return np.full(n_items, low, np.int8)
    weights = np.frombuffer(payload[2:start], "<u2")
    if not weights.any():
        raise CorruptError("ANS tensor: the histogram is empty")
    words = np.frombuffer(payload[start:], "<u4").astype(np.uint32)
    if not words.size or words[-1] == 0:
        raise CorruptError("ANS tensor: the stream's last word is zero")
    bounds = _bounds(weights)
    # The level at the start of each 2**10 points: decoding searches on from there.
    starts = np.searchsorted(
        bounds, np.arange(_STARTS, dtype=np.uint64) << np.uint64(START_SHIFT), "right"
    )
    values = np.empty(n_items, np.int8)
    if not _decode(words, bounds, (starts - 1).astype(np.uint8), low, values):
        raise CorruptError("ANS tensor: the stream does not end where it should")
    return values


def _bounds(weights: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """(levels + 1,) c_i of docs/NUMERICS.md: level i owns [c_i, c_{i+1}) of 2**24."""
    before = np.concatenate(([0.0], np.cumsum(weights.astype(np.float64) + 1 / 64)))  # exact
    n = weights.size
    free = (1 << PRECISION) - n
    inner = np.arange(n) + np.floor(before[:-1] * (free / before[-1])).astype(np.int64)
    return np.append(inner, 1 << PRECISION).astype(np.uint64)
