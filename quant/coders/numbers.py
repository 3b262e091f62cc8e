"""Small numbers for the heads of streams: adaptive, by context, over the arithmetic coder.

A number is: is it zero; its sign; how many bits its magnitude has, in unary; the bit
behind the leading one; all with counters of the context, the other bits without.
A label below 2**k is k bits down a binary tree, each with its counter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError
from pgolf_codec.quant.coders.machine_code import MAX_BITS, OVERRUN, STATIC_SOURCES

FULL_RANGE = (1 << 32) - 1
"""With which an encoder's state begins, and a decoder's; all else is 0, or what was read."""
_CELLS = 2 + 2 * MAX_BITS
_HALF = 1 << 15
_BYTES_A_NUMBER = 256

_MODULE = "pgolf_codec.quant.coders.numbers_kernel"
_numbers = Kernel(_MODULE, "numbers", STATIC_SOURCES)
_labels = Kernel(_MODULE, "labels", STATIC_SOURCES)
_finish = Kernel(_MODULE, "finish", STATIC_SOURCES)


class NumberWriter:
    """Collects numbers; :meth:`finish` gives the bytes."""

    def __init__(self, n_contexts: int) -> None:
        self._state = np.array([0, FULL_RANGE, 0], np.uint64)
        self._counters = _fresh((n_contexts, _CELLS, 2))
        self._data = np.zeros(1 << 12, np.uint8)

    def numbers(self, values: NDArray[np.int64], contexts: NDArray[np.int64] | int) -> None:
        """Numbers below 2**39 in magnitude, each with its context."""
        self._room(len(values))
        _numbers(values, _full(contexts, len(values)), self._counters, self._state, self._data, 1)

    def number(self, value: int, context: int) -> None:
        self.numbers(np.array([value], np.int64), context)

    def labels(self, values: NDArray[np.int64], n_bits: int) -> None:
        self._room(len(values))
        _labels(values, n_bits, _fresh((1 << n_bits, 2)), self._state, self._data, 1)

    def finish(self) -> bytes:
        n_bytes = _finish(self._state, self._data)
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
        first = int.from_bytes(bytes(data[:4]).ljust(4, b"\0"), "big")
        self._state = np.array([first, FULL_RANGE, 4], np.uint64)
        self._counters = _fresh((n_contexts, _CELLS, 2))
        self._data = np.frombuffer(data, np.uint8).copy()

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
        cells = _fresh((1 << n_bits, 2))
        if not _labels(values, n_bits, cells, self._state, self._data, 0):
            raise CorruptError("coded integers: the head is damaged or cut short")
        return values

    def finish(self) -> None:
        n_read = int(self._state[2])
        if not self._data.size <= n_read <= self._data.size + OVERRUN:
            raise CorruptError("coded integers: the head does not end where it should")


def _fresh(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Cells (..., 2) that were never used: a probability in 2**-16 and a count."""
    cells = np.zeros(shape, np.int64)
    cells[..., 0] = _HALF
    return cells


def _full(contexts: NDArray[np.int64] | int, n_values: int) -> NDArray[np.int64]:
    return np.broadcast_to(np.asarray(contexts, np.int64), (n_values,)).copy()
