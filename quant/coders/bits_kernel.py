"""The kernels of ``raw`` and ``huffman``: items of some bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.machine_code import MAX_LENGTH


@jit
def pack(values: NDArray[np.int32], low: int, width: int, out: NDArray[np.uint8]) -> int:
    """``raw``: all of ``out``."""
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
    return 0


@jit
def unpack(data: NDArray[np.uint8], low: int, width: int, values: NDArray[np.int32]) -> int:
    """The highest value before it is cut to 32 bits."""
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    held, n_held, at, top = np.uint64(0), 0, 0, np.int64(low)
    for i in range(values.size):
        while n_held < width:
            held |= np.uint64(data[at]) << np.uint64(n_held)
            n_held += 8
            at += 1
        value = np.int64(held & mask) + low
        if value > top:
            top = value
        values[i] = value
        held >>= np.uint64(width)
        n_held -= width
    return int(top)


@jit
def encode_huffman(
    symbols: NDArray[np.int32],
    lengths: NDArray[np.int64],
    codes: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    held, n_held, at = np.int64(0), 0, 0
    for symbol in symbols:
        held = held << lengths[symbol] | codes[symbol]
        n_held += lengths[symbol]
        while n_held >= 8:
            n_held -= 8
            out[at] = held >> n_held & 255
            at += 1
        held &= 255
    if n_held:
        out[at] = held << (8 - n_held) & 255
    return 0


@jit
def decode_huffman(
    symbols: NDArray[np.int32],
    symbol_of: NDArray[np.int32],
    length_of: NDArray[np.int32],
    data: NDArray[np.uint8],
) -> int:
    """Whether all data were needed, and enough."""
    held, n_held, at, n_read = np.int64(0), 0, 0, 0
    for i in range(symbols.size):
        while n_held < MAX_LENGTH:
            held = (held << 8 | (data[at] if at < data.size else 0)) & 0xFFFFFFFF
            n_held += 8
            at += 1
        point = held >> (n_held - MAX_LENGTH) & ((1 << MAX_LENGTH) - 1)
        symbols[i] = symbol_of[point]
        n_held -= length_of[point]
        n_read += length_of[point]
        if n_read > 8 * data.size:
            return 0
    return int((n_read + 7) // 8 == data.size)
