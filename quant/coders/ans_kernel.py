"""The kernels of ``ans-*``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.machine_code import BUCKET_BITS, PRECISION

Floats = NDArray[np.float64]
_WORD, LOW_BOUND = np.uint64(32), np.uint64(1 << 32)


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
def step(
    state: np.uint64,
    table: np.uint64,
    stride: np.uint64,
    bounds: NDArray[np.uint32],
    first: NDArray[np.uint16],
    words: NDArray[np.uint32],
    read: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The symbol of one item, the state behind it, and how many words are read then.

    That is more than there are if a word is missing.  ``bounds`` has ``stride`` items a table.
    Unsigned indices: numba then looks for no end to count from.
    """
    one, precision = np.uint64(1), np.uint64(PRECISION)
    bucket_bits, bucket_shift = np.uint64(BUCKET_BITS), np.uint64(PRECISION - BUCKET_BITS)
    point = state & np.uint64((1 << PRECISION) - 1)
    start = table * stride
    place = start + np.uint64(first[(table << bucket_bits) + (point >> bucket_shift)])
    while bounds[place + one] <= point:
        place += one
    bound = np.uint64(bounds[place])
    state = (state >> precision) * (np.uint64(bounds[place + one]) - bound) + point - bound
    if state < LOW_BOUND:
        if read < np.uint64(words.size):
            state = state << _WORD | np.uint64(words[read])
        read += one
    return state, place - start, read


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
    width, n_words = np.uint64(stride), np.uint64(words.size)
    a, b, read, at = states[0], states[1], np.uint64(0), np.uint64(0)
    for i in range(row_classes.size):
        row = row_classes[i]
        for j in range(classes.size):
            a, symbol, read = step(a, row + classes[j], width, bounds, first, words, read)
            if read > n_words:
                return 0
            flat[at] = symbol
            at += np.uint64(1)
            a, b = b, a
    return int(read == n_words and a == LOW_BOUND and b == LOW_BOUND)


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
