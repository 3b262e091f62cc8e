"""What an item of a row leads one to expect of the next: linear, with weights in the stream.

For ``ans-scale``: a guess P, in units of 2**-unit, comes from the earlier columns of the
same row.  Its whole part is added to what is coded, and its highest fractional bits, the
*shade*, choose a table.  Items are coded column by column, in blocks of rows, so that the
guesses of a column are sums of columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError
from pgolf_codec.quant.coders.machine_code import MOST_SEEN, STATIC_SOURCES, TOGETHER
from pgolf_codec.quant.coders.numbers import NumberReader, NumberWriter

MAX_COLUMNS = 2048
MAX_UNIT, MAX_SHADE_BITS = 12, 4
MAX_CENTRE, MAX_FROM_CENTRE = 1 << 30, 1 << 20
ROWS_A_BLOCK = 512
N_CONTEXTS = 4
_MAX_NUMBER = (1 << 15) - 1 - (1 << (MAX_UNIT - 1))
"""Of weights, and of offsets less a half."""
_FEW_ROWS = 32
_PRICES = 16
_ROUNDS = 3

_descend = Kernel("pgolf_codec.quant.coders.prediction_kernel", "descend", STATIC_SOURCES)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Weights of the earlier columns."""

    centre: int
    """Taken from all items first."""
    unit: int
    """A guess is in steps of 2**-unit, 1 to 12."""
    shade_bits: int
    """Bits behind the point that choose a table, at most ``unit``."""
    offsets: NDArray[np.int16]
    """(columns,)"""
    weights: NDArray[np.int16]
    """(columns * (columns - 1) / 2,): of each column in its turn, those of all before it."""

    def guesses(self, centred: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of all items (rows, columns), less the centre."""
        # Products of doubles are exact, whatever the order of the sums.  A guess has 16 bits,
        # and the others are lost.
        seen = _seen(centred)
        table = np.zeros((self.offsets.size, self.offsets.size))
        table[np.tril_indices(self.offsets.size, -1)] = self.weights
        sums = seen @ table.T + self.offsets
        return np.asarray(sums.astype(np.int64).astype(np.int16).astype(np.int64))

    def write(self, out: NumberWriter, context: int) -> None:
        """Numbers, with contexts from ``context`` on."""
        for number in (self.centre, self.unit, self.shade_bits):
            out.number(number, context)
        half = 1 << (self.unit - 1)
        out.numbers(self.offsets.astype(np.int64) - half, context + 1)
        out.numbers(self.weights.astype(np.int64), context + 2)

    @classmethod
    def read(cls, source: NumberReader, context: int, n_columns: int) -> Prediction:
        if n_columns > MAX_COLUMNS:
            raise CorruptError(f"coded integers: prediction of {n_columns} columns")
        centre = source.number(context, -MAX_CENTRE, MAX_CENTRE)
        unit = source.number(context, 1, MAX_UNIT)
        shade_bits = source.number(context, 0, min(unit, MAX_SHADE_BITS))
        offsets = source.numbers(n_columns, context + 1)
        weights = source.numbers(n_columns * (n_columns - 1) // 2, context + 2)
        if max(abs(offsets).max(), abs(weights).max(initial=0)) > _MAX_NUMBER:
            raise CorruptError("coded integers: a prediction that is not possible")
        offsets += 1 << (unit - 1)
        return cls(centre, unit, shade_bits, offsets.astype(np.int16), weights.astype(np.int16))

    def sparse(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]:
        """Those that are not 0: where each column's begin (columns + 1,), sources, weights.

        Each column has a multiple of TOGETHER of them, zeros at the end.
        """
        there = np.flatnonzero(self.weights)
        columns = np.arange(self.offsets.size + 1)
        firsts = columns * (columns - 1) // 2
        own = np.searchsorted(there, firsts)
        counts = np.diff(own)
        starts = np.append(0, np.cumsum(-(-counts // TOGETHER) * TOGETHER))
        at = np.arange(there.size) + np.repeat(starts[:-1] - own[:-1], counts)
        sources, weights = np.zeros(starts[-1], np.int64), np.zeros(starts[-1], np.int16)
        sources[at] = there - np.repeat(firsts[:-1], counts)
        weights[at] = self.weights[there]
        return starts.astype(np.int64), sources, weights

    @classmethod
    def fit(cls, values: NDArray[np.int32], shade_bits: int) -> Prediction | None:
        """What saves bits, if anything may; the same on every machine."""
        n_rows, n_columns = values.shape
        middle = int(np.median(values))
        wide = max(int(values.max()) - middle, middle - int(values.min())) > MAX_FROM_CENTRE
        if wide or n_rows < max(n_columns, _FEW_ROWS) or not 2 <= n_columns <= MAX_COLUMNS:
            return None
        centred = values.astype(np.int64) - middle
        seen = _seen(centred)
        sums = seen.sum(axis=0)  # integers, like their products: exact
        products = (seen.T @ seen) / n_rows - np.outer(sums / n_rows, sums / n_rows)
        unit = min(max(round(math.log2(math.sqrt(n_rows / 12))), shade_bits, 2), MAX_UNIT)
        table = np.zeros((n_columns, n_columns), np.int32)
        places = np.tril_indices(n_columns, -1)
        price = 2.0 + 2.0 * np.log2(np.arange(1, _PRICES + 1))
        price[0] = 0.0
        for _ in range(_ROUNDS):
            _descend(products, n_rows, unit, price, table, np.zeros(n_columns))
            counts = np.bincount(abs(table[places]), minlength=_PRICES) + 0.5
            price = -np.log2(counts / counts.sum())
            price[1:] += 1  # the sign
        means = sums / n_rows
        offsets = (
            np.rint(means * (1 << unit) - table @ means)
            .clip(-_MAX_NUMBER, _MAX_NUMBER)
            .astype(np.int16)
        )
        offsets += np.int16(1 << (unit - 1))
        return cls(middle, unit, shade_bits, offsets, table[places].astype(np.int16))


def shade_bits_of(prediction: Prediction | None) -> int:
    """0 without a prediction."""
    return prediction.shade_bits if prediction else 0


def _seen(centred: NDArray[np.int64]) -> NDArray[np.float64]:
    """As others are predicted from it: an outlier says nothing, nor does an escape."""
    return np.where(abs(centred) <= MOST_SEEN, centred, 0).astype(np.float64)
