"""Round to nearest: float matrices to int8 with float16 scales.

The step is a fraction of a row's (or column's) standard deviation, as trained rows
look Gaussian and an entropy coder follows: bits a weight are about
log2(steps_per_sigma) + 2.05 whatever the range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_WEIGHT = 127


def _steps(w: NDArray[np.float64], axis: int, steps_per_sigma: float) -> NDArray[np.float16]:
    sigma, top = w.std(axis=axis), np.abs(w).max(axis=axis)
    step = np.maximum(sigma / steps_per_sigma, top / MAX_WEIGHT)
    step = np.where(step > 0, step, 1.0)
    return np.maximum(step, 2.0**-24).astype(np.float16)


def round_rows(
    weights: NDArray[np.floating], steps_per_sigma: float
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """(rows, columns) to int8 of the same shape and float16 scales (rows,)."""
    w = weights.astype(np.float64)
    s = _steps(w, 1, steps_per_sigma)
    q = np.rint(w / s.astype(np.float64)[:, None])
    return np.clip(q, -MAX_WEIGHT, MAX_WEIGHT).astype(np.int8), s


def round_columns(
    weights: NDArray[np.floating], steps_per_sigma: float
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """As :func:`round_rows` with one scale a column; for tables whose rows are entries."""
    q, s = round_rows(weights.T, steps_per_sigma)
    return np.ascontiguousarray(q.T), s
