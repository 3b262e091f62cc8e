"""In place of :mod:`pgolf_codec.quant.histogram`, all by constriction, which may be a stand-in.

Bundled under that name (:mod:`pgolf_codec.eval.bundle`): the same payloads, decoded
without machine code of ours.

Payload: int8 lowest value, uint8 number of levels - 1, uint16 weight of each level
(0 counts as "less than any other"), then the words of the ANS stream, uint32.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError

_BLOCK = 1 << 18
"""Items decoded at one time: a file can claim many, and they cost a byte each."""


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
    import constriction

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
    coder, model = constriction.stream.stack.AnsCoder(words), _model(weights)
    values = np.empty(n_items, np.int8)
    for start in range(0, n_items, _BLOCK):
        part = values[start : start + _BLOCK]
        part[:] = coder.decode(model, part.size) + low
    if not coder.is_empty():
        raise CorruptError("ANS tensor: the stream does not end where it should")
    return values
