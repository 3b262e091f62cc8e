"""``raw``: every item in as many bits as the range of the values needs.

Payload: int32 lowest value, uint8 bits an item (0 to 32), then the items less the
lowest, bit after bit, the least first, zeros at the end of the last byte.
"""

from __future__ import annotations

import struct

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError

_HEAD = struct.Struct("<iB")


class Raw:
    """No model at all: the yardstick, and what holds noise in the fewest bytes."""

    summary = "bit-packed, no model"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        low = int(values.min())
        width = (int(values.max()) - low).bit_length()
        packed: NDArray[np.uint8] = _pack(values.reshape(-1), low, width)
        return _HEAD.pack(low, width) + packed.tobytes()

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        n_items = shape[0] * shape[1]
        if len(payload) < _HEAD.size:
            raise CorruptError("raw: ends within its head")
        low, width = _HEAD.unpack_from(payload)
        if width > 32 or len(payload) != _HEAD.size + (n_items * width + 7) // 8:
            raise CorruptError(f"raw: {n_items} items of {width} bits in {len(payload)} bytes")
        data = np.frombuffer(payload[_HEAD.size :], np.uint8)
        values, top = _unpack(data, n_items, low, width)
        if top >= 2**31:
            raise CorruptError("raw: a value beyond 32 bits")
        table: NDArray[np.int32] = values.reshape(shape)
        return table


RAW = Raw()


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pack(values: NDArray[np.int32], low: int, width: int) -> NDArray[np.uint8]:
    out = np.zeros((values.size * width + 7) // 8, np.uint8)
    held, n_held, at = np.uint64(0), 0, 0
    for i in range(values.size):
        held |= np.uint64(np.int64(values[i]) - low) << np.uint64(n_held)
        n_held += width
        while n_held >= 8:
            out[at] = held & np.uint64(255)
            held >>= np.uint64(8)
            n_held -= 8
            at += 1
    if n_held:
        out[at] = held & np.uint64(255)
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _unpack(
    data: NDArray[np.uint8], n_items: int, low: int, width: int
) -> tuple[NDArray[np.int32], int]:
    """The values, and the highest before it is cut to 32 bits."""
    values = np.empty(n_items, np.int32)
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    held, n_held, at, top = np.uint64(0), 0, 0, low
    for i in range(n_items):
        while n_held < width:
            held |= np.uint64(data[at]) << np.uint64(n_held)
            n_held += 8
            at += 1
        value = np.int64(held & mask) + low
        if value > top:
            top = int(value)
        values[i] = value
        held >>= np.uint64(width)
        n_held -= width
    return values, top
