"""Quantizers with a free step and no range: what an entropy coder makes the most of.

The step of a row is a part of its standard deviation, so that every row loses the same
part of itself; bits a weight are about log2(1 / part) + 2.05.  Without moments nothing is
known of which weights matter more; calibrated models have better (docs/QUANTIZERS.md).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.quant import trellis
from pgolf_codec.quant.coders import trellis as coder

MAX_INDEX = 127
ROOM = 0.95
"""Part of ±MAX_INDEX that the largest weight of a row may take."""
_LEAST_SCALE = 2.0**-24


def nearest(
    rows: NDArray[np.float64], step_sigmas: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Integers (rows, columns) and steps (rows,): rounded to nearest."""
    steps = _steps(rows, step_sigmas)
    return np.rint(rows / steps[:, None]).astype(np.int32), steps


def priced(
    rows: NDArray[np.float64], step_sigmas: float, n_states: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The same, of a trellis, with the coder's price of each integer in the choice.

    ``step_sigmas`` is the step that a weight of one state sees: a trellis has its two
    interleaved grids of twice the spacing it needs, and integers count halves of it.  The
    price of a bit is the slope of the rate-distortion curve, 2 ln 2 times the squared error.
    """
    from pgolf_codec.quant.trellis_search import search

    steps = _steps(rows, step_sigmas / 2)
    scaled = rows / steps[:, None]
    error = trellis.SQUARED_ERROR if n_states > 1 else 1 / 3
    size = np.abs(scaled).mean(axis=1) + 0.01
    columns = np.abs(scaled).mean(axis=0) + 0.01
    table = coder.classes(size[:, None] * columns / columns.mean())
    follow, prices, ones = trellis.machine(n_states), coder.prices(), np.ones(len(rows))
    x = np.empty(rows.shape, np.int32)
    for c in range(rows.shape[1]):
        x[:, c] = search(
            np.ascontiguousarray(scaled[:, c]), ones, np.ascontiguousarray(table[:, c]),
            prices, 2 * math.log(2) * error, follow, MAX_INDEX,
        )  # fmt: skip
    return (x, steps) if n_states > 1 else (x // 2, 2 * steps)  # one state: all are even


def _steps(rows: NDArray[np.float64], step_sigmas: float) -> NDArray[np.float64]:
    """A float16's values (rows,); no weight is beyond the range of the index."""
    least = np.abs(rows).max(axis=1, initial=0.0) / (ROOM * MAX_INDEX)
    steps = np.maximum(step_sigmas * rows.std(axis=1), least)
    steps = np.where(steps > 0, np.maximum(steps, _LEAST_SCALE), 1.0)
    return np.asarray(steps.astype(np.float16).astype(np.float64))
