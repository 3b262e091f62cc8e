"""Steps of plain integer ranges: where to cut a row off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 2.0**-24
"""The least float16 above zero."""
CLIPS = 24
"""Cuts that the search tries, evenly from the largest weight down to a third of it."""


def range_steps(weights: NDArray[np.float64], top: int) -> NDArray[np.float16]:
    """float16 (rows,): the largest weight of a row over the integer ``top``."""
    return _float16(np.abs(weights).max(axis=1) / top)


def clipped_steps(
    weights: NDArray[np.float64], top: int, clip_sigmas: float
) -> NDArray[np.float16]:
    """float16 (rows,): ``clip_sigmas`` standard deviations of a row over the integer ``top``."""
    return _float16(clip_sigmas * weights.std(axis=1) / top)


def searched_steps(weights: NDArray[np.float64], top: int) -> NDArray[np.float16]:
    """float16 (rows,): of :data:`CLIPS` cuts of each row, that of least squared error.

    The clip search that the challenge calls GPTQ-lite.
    """
    largest = np.abs(weights).max(axis=1)
    best = _float16(largest / top)
    least = np.full(len(weights), np.inf)
    for part in np.linspace(1, 1 / 3, CLIPS):
        steps = _float16(largest * part / top)
        s = steps.astype(np.float64)[:, None]
        error = np.sum((weights - np.clip(np.rint(weights / s), -top, top) * s) ** 2, axis=1)
        better = error < least
        best = np.where(better, steps, best)
        least = np.minimum(error, least)
    return best.astype(np.float16)


def magnitudes(weights: NDArray[np.float64], threshold: float) -> NDArray[np.float16]:
    """float16 (rows,): the mean size of those weights that are ``threshold`` of it at least.

    With 0 that is the mean of all; with a half the squared error of the row is the least.
    """
    sizes = -np.sort(-np.abs(weights), axis=1)
    means = np.cumsum(sizes, axis=1) / np.arange(1, sizes.shape[1] + 1)
    n_kept = (sizes >= threshold * means).sum(axis=1)  # the first ones: their mean falls slower
    return _float16(means[np.arange(len(sizes)), n_kept - 1])


def _float16(steps: NDArray[np.float64]) -> NDArray[np.float16]:
    """A row of zeros has the step 1."""
    return np.maximum(np.where(steps > 0, steps, 1.0), LEAST).astype(np.float16)
