"""``raw``: every item in as many bits as the range of the values needs.

Payload: int32 lowest value, uint8 bits an item (0 to 32), then the items less the
lowest, bit after bit, the least first, zeros at the end of the last byte.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError
from pgolf_codec.quant.coders.machine_code import STATIC_SOURCES

_HEAD = struct.Struct("<iB")
_pack = Kernel("pgolf_codec.quant.coders.bits_kernel", "pack", STATIC_SOURCES)
_unpack = Kernel("pgolf_codec.quant.coders.bits_kernel", "unpack", STATIC_SOURCES)


class Raw:
    """No model at all: the yardstick, and what holds noise in the fewest bytes."""

    summary = "bit-packed, no model"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        low = int(values.min())
        width = (int(values.max()) - low).bit_length()
        packed = np.zeros((values.size * width + 7) // 8, np.uint8)
        _pack(values.reshape(-1), low, width, packed)
        return _HEAD.pack(low, width) + packed.tobytes()

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        n_items = shape[0] * shape[1]
        if len(payload) < _HEAD.size:
            raise CorruptError("raw: ends within its head")
        low, width = _HEAD.unpack_from(payload)
        if width > 32 or len(payload) != _HEAD.size + (n_items * width + 7) // 8:
            raise CorruptError(f"raw: {n_items} items of {width} bits in {len(payload)} bytes")
        data = np.frombuffer(payload[_HEAD.size :], np.uint8).copy()
        values = np.empty(n_items, np.int32)
        if _unpack(data, low, width, values) >= 2**31:
            raise CorruptError("raw: a value beyond 32 bits")
        return values.reshape(shape)


RAW = Raw()
