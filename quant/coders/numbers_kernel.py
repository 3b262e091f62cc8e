"""The kernels of :mod:`~pgolf_codec.quant.coders.numbers`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.arithmetic import (
    decode_bit,
    encode_bit,
    finish_encoder,
    overrun,
)
from pgolf_codec.quant.coders.machine_code import MAX_BITS


@jit
def finish(state: NDArray[np.uint64], out: NDArray[np.uint8]) -> int:
    """Number of bytes in all; ``out`` has room for four more."""
    return int(finish_encoder(state, out))


@jit
def _bit(
    cells: NDArray[np.int64],
    at: int,
    state: NDArray[np.uint64],
    data: NDArray[np.uint8],
    encoding: int,
    bit: int,
) -> int:
    """A cell is a probability in 2**-16 and how often it was used, at most 60."""
    p = min(max(cells[at, 0], 256), 65280)
    if encoding:
        encode_bit(state, data, p, bit)
    else:
        bit = decode_bit(state, data, p)
    n = cells[at, 1]
    cells[at, 0] += ((65535 if bit else 0) - cells[at, 0]) * 2 // (2 * n + 3)
    cells[at, 1] = min(n + 1, 60)
    return bit


@jit
def numbers(
    values: NDArray[np.int64],
    contexts: NDArray[np.int64],
    counters: NDArray[np.int64],
    state: NDArray[np.uint64],
    data: NDArray[np.uint8],
    encoding: int,
) -> int:
    """Both directions; 0 if the data are cut short."""
    for i in range(values.size):
        cells = counters[contexts[i]]
        magnitude, negative = abs(values[i]), 1 if values[i] < 0 else 0
        if not _bit(cells, 0, state, data, encoding, 1 if magnitude else 0):
            values[i] = 0
        else:
            negative = _bit(cells, 1, state, data, encoding, negative)
            n_bits = 1
            while n_bits < MAX_BITS:
                more = 1 if magnitude >> n_bits else 0
                if not _bit(cells, 1 + n_bits, state, data, encoding, more):
                    break
                n_bits += 1
            found = 1
            for place in range(n_bits - 2, -1, -1):
                bit = (magnitude >> place) & 1
                if place == n_bits - 2:
                    bit = _bit(cells, MAX_BITS + 1 + n_bits, state, data, encoding, bit)
                elif encoding:
                    encode_bit(state, data, 32768, bit)
                else:
                    bit = decode_bit(state, data, 32768)
                found = found << 1 | bit
            values[i] = -found if negative else found
        if not encoding and overrun(state, data):
            return 0
    return 1


@jit
def labels(
    values: NDArray[np.int64],
    n_bits: int,
    cells: NDArray[np.int64],
    state: NDArray[np.uint64],
    data: NDArray[np.uint8],
    encoding: int,
) -> int:
    """The same; cells (2**n_bits, 2)."""
    for i in range(values.size):
        node = 1
        for place in range(n_bits - 1, -1, -1):
            bit = (values[i] >> place) & 1
            node = node << 1 | _bit(cells, node, state, data, encoding, bit)
        values[i] = node - (1 << n_bits)
        if not encoding and overrun(state, data):
            return 0
    return 1
