"""Steps by reverse waterfilling: every weight's rounding costs the same expected loss.

At high rate a weight's bits grow by one when its step halves, and its cost falls to a
quarter, so the loss at given bits is least where all costs are equal ("reverse
waterfilling", Cover and Thomas, "Elements of Information Theory", 10.3.3).  With
GPTQ's repairs the cost of step s at (r, c) is

    1/2 * row_weights[r] * column_weights[c] * squared_error * s**2

where ``squared_error`` is the quantizer's, in steps squared.  Where a row or a column must
share one step, the weights that it shares are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.quant.gptq import Curvature, Floats

Scales = Literal["rows", "columns", "both"]
"""What a format can hold: a scale a row, a scale a column, or one of each."""

MAX_WEIGHT = 127
ROOM = 0.9
"""Part of ±MAX_WEIGHT that weights may fill before the repairs of GPTQ."""
MANTISSA_BITS = 3
"""Of a scale: eight steps an octave are as good as a thousand, and take 5 bits in place of 12."""
NOISE = 0.25
"""Most squared error of a row's products, as a part of their own mean square."""
LEAST_ROW = 0.1
"""Least weight of a row, as a part of the mean."""
LEAST_ROW_OF_SYMBOLS = 1.0
"""The same, for the rows of a head.

These limits are where the second-order cost is no guide.  A hidden unit that is hardly
ever on has no gradient, but noise turns it on, and then its square has one.  A rare
symbol's row is met in few contexts, all of them much like itself, so that its errors
matter more than the mean over all contexts says.
"""


COLUMN_SCALES = 2.0**-8, 4.0
"""Least and largest of a column beside a row's, 1 in the mean: what the integers hold exactly."""
FITTING_ROWS = 0.75
"""Part of the rows whose weights fit int8 with the scale of a column; others get larger steps.

A few columns are both large and of much weight: with the scale that is theirs by weight,
hardly a row would keep its own.
"""
COLUMN_BITS = 16
"""What a scale takes in an artifact."""
MOST_STEP = 0.24
"""Largest scale of a row: the engine's multipliers hold less than 1/4 (docs/NUMERICS.md)."""


@dataclass(frozen=True, slots=True)
class Steps:
    """float16 scales, coarse ones; weight (r, c) has the step rows[r] * columns[c]."""

    rows: NDArray[np.float16] | None
    columns: NDArray[np.float16] | None

    @property
    def matrix(self) -> Floats:
        """Broadcastable to the weights: (rows, 1), (1, columns) or (rows, columns)."""
        out = np.ones((1, 1))
        if self.rows is not None:
            out = out * self.rows.astype(np.float64)[:, None]
        if self.columns is not None:
            out = out * self.columns.astype(np.float64)[None, :]
        return out


def waterfill(
    weights: Floats,
    curvature: Curvature,
    cost: float,
    squared_error: float,
    scales: Scales,
    least_row: float = LEAST_ROW,
    most: float = MOST_STEP,
) -> Steps:
    """Steps at which a weight costs about ``cost`` nats a token.

    ``squared_error`` is the mean squared error of the quantizer, in steps squared;
    ``most`` limits the scales of rows.
    """
    of_rows, of_columns = curvature.row_weights, curvature.column_weights
    square = 2 * cost / squared_error  # of a step, where both weights are 1
    if scales == "columns":
        steps = np.sqrt(square / (of_rows.mean() * of_columns))
        return Steps(None, _float16(_roomy(steps, weights.T)))
    products = np.sum((weights @ curvature.moments.inputs) * weights, axis=1)
    least = 2 * cost * weights.shape[1] / (NOISE * products + 1e-30)
    least = np.minimum(np.maximum(least, least_row * of_rows.mean()), of_rows.max())
    of_rows = np.maximum(of_rows, least)
    if scales == "rows":
        steps = np.sqrt(square / (of_rows * of_columns.mean()))
        return Steps(_float16(_roomy(steps, weights, most)), None)
    typical = np.exp(-np.log(of_columns).mean())
    steps = np.sqrt(square / of_rows * typical)
    sizes = np.quantile(np.abs(weights) / steps[:, None], FITTING_ROWS, axis=0)
    columns = np.maximum(np.sqrt(1 / (of_columns * typical)), sizes / (ROOM * MAX_WEIGHT))
    columns = _float16(np.clip(columns, *COLUMN_SCALES))
    return Steps(_float16(_roomy(steps, weights / columns.astype(np.float64), most)), columns)


def columns_pay(curvature: Curvature) -> bool:
    """Whether steps of columns, in a matrix that has those of rows, save more than they take.

    At the same cost they save log2(arithmetic / geometric mean of the weights) / 2 bits each.
    """
    of_columns = curvature.column_weights
    saved = (math.log2(of_columns.mean()) - float(np.log2(of_columns).mean())) / 2
    return saved * len(curvature.row_weights) > COLUMN_BITS


def _roomy(steps: Floats, rows: Floats, most: float = np.inf) -> Floats:
    """Steps (n,) at which no weight of rows (n, m) is beyond int8, nor all of them below one."""
    largest = np.abs(rows).max(axis=1)
    few = np.minimum(np.where(largest > 0, largest, np.inf), most)
    return np.asarray(np.maximum(np.minimum(steps, few), largest / (ROOM * MAX_WEIGHT)))


def _float16(steps: Floats) -> NDArray[np.float16]:
    """To the nearest float16 of few mantissa bits; ones at least 2**-24, at most 60000."""
    bits = np.clip(steps, 2.0**-24, 60000.0).astype(np.float16).view(np.uint16).astype(np.int64)
    shift = 10 - MANTISSA_BITS
    coarse = (bits + (1 << (shift - 1))) >> shift << shift
    return np.where(bits < 1 << 10, bits, coarse).astype(np.uint16).view(np.float16)  # subnormals
