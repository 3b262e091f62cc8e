"""A matrix with moments: correlated inputs, rows and columns that matter unequally."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pgolf_codec.quant.moments import Moments

Problem = tuple[NDArray[np.float64], Moments]


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Weights (96, 64) and their moments."""
    rng = np.random.default_rng(5)
    sizes = np.exp2(rng.uniform(-2, 2, 64))
    inputs = rng.standard_normal((4096, 8)) @ rng.standard_normal((8, 64))
    inputs = (inputs + rng.standard_normal((4096, 64))) * sizes
    outputs = np.exp2(rng.uniform(-3, 3, 96)) * 1e-4
    return 0.1 * rng.standard_normal((96, 64)), Moments(inputs.T @ inputs / 4096, outputs)
