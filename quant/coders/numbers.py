"""Small numbers for the heads of streams: adaptive, by context, over the arithmetic coder.

A number is: is it zero; its sign; how many bits its magnitude has, in unary; the bit
behind the leading one; all with counters of the context, the other bits without.
A label below 2**k is k bits down a binary tree, each with its counter.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.quant.coders.arithmetic import (
    decode_bit,
    encode_bit,
    ends_well,
    finish_encoder,
    overrun,
    start_decoder,
    start_encoder,
)

MAX_BITS = 40
_CELLS = 2 + 2 * MAX_BITS
_HALF = 1 << 15
_BYTES_A_NUMBER = 256


class NumberWriter:
    """Collects numbers; :meth:`finish` gives the bytes."""

    def __init__(self, n_contexts: int) -> None:
        self._state = np.zeros(3, np.uint64)
        self._counters = np.zeros((n_contexts, _CELLS, 2), np.int64)
        self._data = np.zeros(1 << 12, np.uint8)
        self._counters[:, :, 0] = _HALF
        start_encoder(self._state)

    def numbers(self, values: NDArray[np.int64], contexts: NDArray[np.int64] | int) -> None:
        """Numbers below 2**39 in magnitude, each with its context."""
        self._room(len(values))
        _numbers(values, _full(contexts, len(values)), self._counters, self._state, self._data, 1)

    def number(self, value: int, context: int) -> None:
        self.numbers(np.array([value], np.int64), context)

    def labels(self, values: NDArray[np.int64], n_bits: int) -> None:
        self._room(len(values))
        _labels(values, n_bits, self._state, self._data, 1)

    def finish(self) -> bytes:
        n_bytes = finish_encoder(self._state, self._data)
        return self._data[:n_bytes].tobytes()

    def _room(self, n_values: int) -> None:
        needed = int(self._state[2]) + _BYTES_A_NUMBER * (n_values + 4)
        if needed > self._data.size:
            larger = np.zeros(needed, np.uint8)
            larger[: self._data.size] = self._data
            self._data = larger


class NumberReader:
    """The numbers again, asked for in the same order; raises :class:`CorruptError`."""

    def __init__(self, data: memoryview, n_contexts: int) -> None:
        self._state = np.zeros(3, np.uint64)
        self._counters = np.zeros((n_contexts, _CELLS, 2), np.int64)
        self._counters[:, :, 0] = _HALF
        self._data = np.frombuffer(data, np.uint8).copy()
        start_decoder(self._state, self._data)

    def numbers(self, n_values: int, contexts: NDArray[np.int64] | int) -> NDArray[np.int64]:
        values = np.zeros(n_values, np.int64)
        contexts = _full(contexts, n_values)
        if not _numbers(values, contexts, self._counters, self._state, self._data, 0):
            raise CorruptError("coded integers: the head is damaged or cut short")
        return values

    def number(self, context: int, low: int, high: int) -> int:
        """One number that must be from ``low`` to ``high``."""
        value = int(self.numbers(1, context)[0])
        if not low <= value <= high:
            raise CorruptError(f"coded integers: {value} is not from {low} to {high}")
        return value

    def labels(self, n_values: int, n_bits: int) -> NDArray[np.int64]:
        values = np.zeros(n_values, np.int64)
        if not _labels(values, n_bits, self._state, self._data, 0):
            raise CorruptError("coded integers: the head is damaged or cut short")
        return values

    def finish(self) -> None:
        if not ends_well(self._state, self._data):
            raise CorruptError("coded integers: the head does not end where it should")


def _full(contexts: NDArray[np.int64] | int, n_values: int) -> NDArray[np.int64]:
    return np.broadcast_to(np.asarray(contexts, np.int64), (n_values,)).copy()


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _numbers(
    values: NDArray[np.int64],
    contexts: NDArray[np.int64],
    counters: NDArray[np.int64],
    state: NDArray[np.uint64],
    data: NDArray[np.uint8],
    encoding: int,
) -> bool:
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
            return False
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _labels(
    values: NDArray[np.int64],
    n_bits: int,
    state: NDArray[np.uint64],
    data: NDArray[np.uint8],
    encoding: int,
) -> bool:
    cells = np.zeros((1 << n_bits, 2), np.int64)
    cells[:, 0] = 32768
    for i in range(values.size):
        node = 1
        for place in range(n_bits - 1, -1, -1):
            bit = (values[i] >> place) & 1
            node = node << 1 | _bit(cells, node, state, data, encoding, bit)
        values[i] = node - (1 << n_bits)
        if not encoding and overrun(state, data):
            return False
    return True
