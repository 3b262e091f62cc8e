"""Symbols for coders that have tables: a window of levels, and an escape for what is outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.quant.coders.numbers import NumberReader, NumberWriter

MAX_LEVELS = 4096
_LOW, _LEVELS, _N_ESCAPES, _ESCAPE = 0, 1, 2, 3
N_CONTEXTS = 4
"""Contexts of numbers that an alphabet takes: 0 to 3."""


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Symbol s is the value low + s; symbol n_levels, if there is such, is an escape."""

    low: int
    n_levels: int
    escapes: NDArray[np.int64]
    """Values outside, in the order of the items."""

    @property
    def n_symbols(self) -> int:
        return self.n_levels + (self.escapes.size > 0)

    @classmethod
    def of(cls, values: NDArray[np.int32]) -> tuple[Alphabet, NDArray[np.int32]]:
        """The alphabet of values of any shape, and their symbols."""
        low, high = int(values.min()), int(values.max())
        if high - low >= MAX_LEVELS:
            middle = int(np.median(values))
            low = max(low, middle - MAX_LEVELS // 2)
            high = min(high, low + MAX_LEVELS - 1)
        n_levels = high - low + 1
        symbols = values.astype(np.int64) - low
        outside = (symbols < 0) | (symbols >= n_levels)
        alphabet = cls(low, n_levels, values[outside].astype(np.int64))
        symbols[outside] = n_levels
        return alphabet, symbols.astype(np.int32)

    def write(self, out: NumberWriter) -> None:
        out.number(self.low, _LOW)
        out.number(self.n_levels - 1, _LEVELS)
        out.number(self.escapes.size, _N_ESCAPES)
        out.numbers(self.escapes - self.low, _ESCAPE)

    @classmethod
    def read(cls, source: NumberReader, n_items: int) -> Alphabet:
        first = source.numbers(3, np.array([_LOW, _LEVELS, _N_ESCAPES]))
        low, n_levels, n_escapes = int(first[0]), int(first[1]) + 1, int(first[2])
        possible = -(2**31) <= low < 2**31 and 1 <= n_levels <= MAX_LEVELS
        if not (possible and 0 <= n_escapes <= n_items):
            raise CorruptError("coded integers: an alphabet that is not possible")
        escapes = source.numbers(n_escapes, _ESCAPE) + low
        if n_escapes and not -(2**31) <= int(escapes.min()) <= int(escapes.max()) < 2**31:
            raise CorruptError("coded integers: an escape beyond 32 bits")
        return cls(low, n_levels, escapes)

    def values(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        """The values again; changes ``symbols``."""
        outside = symbols == self.n_levels if self.escapes.size else np.zeros(0, bool)
        if int(outside.sum()) != self.escapes.size:
            raise CorruptError("coded integers: the number of escapes does not hold")
        if self.low + self.n_levels > 2**31:
            raise CorruptError("coded integers: levels beyond 32 bits")
        symbols += np.int32(self.low)
        if self.escapes.size:
            symbols[outside] = self.escapes
        return symbols
