"""int8 values through ANS with one learned histogram, in constriction's format.

Payload: int8 lowest value, uint8 number of levels - 1, uint16 weight of each level
(0 counts as "less than any other"), then the words of the ANS stream, uint32.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.quant import ans_words


def model(weights: NDArray[np.uint16]) -> Any:
    """constriction's distribution over the levels."""
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
    coder.encode_reverse(symbols, model(weights))
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
    values = ans_words.decode(words, weights, low, n_items)
    if values is None:
        raise CorruptError("ANS tensor: the stream does not end where it should")
    return values
