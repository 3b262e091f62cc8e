"""The kernels of ``ans-*``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.machine_code import BUCKET_BITS, PRECISION

Floats = NDArray[np.float64]
_WORD, _LOW_BOUND = np.uint64(32), np.uint64(1 << 32)


@jit
def encode(
    symbols: NDArray[np.int32],
    tables: NDArray[np.int32],
    cumulative: NDArray[np.int64],
    words: NDArray[np.uint32],
    states: NDArray[np.uint64],
) -> int:
    """Number of words; in the order they are written, which is from the last item."""
    precision = np.uint64(PRECISION)
    n_words = 0
    for at in range(symbols.size - 1, -1, -1):
        table, symbol = tables[at], symbols[at]
        low = np.uint64(cumulative[table, symbol])
        count = np.uint64(cumulative[table, symbol + 1]) - low
        state = states[at & 1]
        if state >> np.uint64(64 - PRECISION) >= count:
            words[n_words] = np.uint32(state & np.uint64(0xFFFFFFFF))
            n_words += 1
            state >>= _WORD
        states[at & 1] = (state // count << precision) + state % count + low
    return n_words


@jit
def decode(
    flat: NDArray[np.int32],
    row_classes: NDArray[np.uint64],
    classes: NDArray[np.uint64],
    bounds: NDArray[np.uint32],
    stride: int,
    first: NDArray[np.uint16],
    words: NDArray[np.uint32],
    states: NDArray[np.uint64],
) -> int:
    """Whether all words were read and both states came back to where they began.

    ``bounds`` has ``stride`` items a table; ``classes`` are those of columns.
    """
    # Unsigned indices: numba then looks for no end to count from.
    width, one = np.uint64(stride), np.uint64(1)
    mask, precision = np.uint64((1 << PRECISION) - 1), np.uint64(PRECISION)
    bucket_bits, bucket_shift = np.uint64(BUCKET_BITS), np.uint64(PRECISION - BUCKET_BITS)
    a, b = states[0], states[1]
    n_words, read = np.uint64(words.size), np.uint64(0)
    at = np.uint64(0)
    for i in range(row_classes.size):
        row = row_classes[i]
        for j in range(classes.size):
            table = row + classes[j]
            point = a & mask
            start = table * width
            place = start + np.uint64(first[(table << bucket_bits) + (point >> bucket_shift)])
            while bounds[place + one] <= point:
                place += one
            low = np.uint64(bounds[place])
            a = (a >> precision) * (np.uint64(bounds[place + one]) - low) + point - low
            if a < _LOW_BOUND:
                if read == n_words:
                    return 0
                a = a << _WORD | np.uint64(words[read])
                read += one
            flat[at] = place - start
            at += one
            a, b = b, a
    if flat.size & 1:
        a, b = b, a
    return int(read == n_words and a == _LOW_BOUND and b == _LOW_BOUND)


@jit
def assign(
    lines: NDArray[np.int32], costs: Floats, price: Floats, counts: Floats, out: NDArray[np.int64]
) -> int:
    """The table in which each line costs the fewest bits; ``counts`` (symbols,) is scratch."""
    for i in range(lines.shape[0]):
        counts[:] = 0.0
        for j in range(lines.shape[1]):
            counts[lines[i, j]] += 1.0
        least = np.inf
        for table in range(costs.shape[0]):
            bits = price[table]
            for s in range(counts.size):
                bits += counts[s] * costs[table, s]
            if bits < least:
                least = bits
                out[i] = table
    return 0


@jit
def add(
    symbols: NDArray[np.int32],
    row_classes: NDArray[np.int64],
    column_classes: NDArray[np.int64],
    counts: Floats,
) -> int:
    """Count symbols by table."""
    for i in range(symbols.shape[0]):
        for j in range(symbols.shape[1]):
            counts[row_classes[i] + column_classes[j], symbols[i, j]] += 1.0
    return 0
