"""GPTQ: quantize a matrix column by column, each column's error repaired by those to come.

Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: accurate post-training quantization for
generative pre-trained transformers", 2023.  With U the upper Cholesky factor of the
inverse Hessian, an error e of column c (in what is left of it) costs (e / U[c, c])**2, and
the columns behind it move by -e / U[c, c] * U[c, c+1:] to make up for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.quant.moments import Moments

BLOCK = 64
"""Columns whose repairs of later columns are gathered into one product."""
DAMPING = 0.01

Floats = NDArray[np.float64]


class Rounder(Protocol):
    """Chooses the integers of one column."""

    def __call__(self, column: int, target: Floats, weight: Floats) -> NDArray[np.int8]:
        """Integers (rows,) near ``target`` (rows,), both in steps.

        ``weight`` (rows,) is what a squared error of one step costs, in nats a token.
        """
        ...


@dataclass(frozen=True, slots=True)
class Curvature:
    """What GPTQ needs of a matrix's moments; the same for all ways of rounding."""

    upper: Floats
    """U (columns, columns), rows and columns in the order of ``order``."""
    order: NDArray[np.int64]
    """(columns,): which column is quantized first, second ...: the largest inputs first."""
    moments: Moments

    @classmethod
    def of(cls, moments: Moments, damping: float = DAMPING) -> Curvature:
        """``damping`` adds to each diagonal entry a part of itself.

        So the result does not depend on the units of the columns.
        """
        diagonal = np.diag(moments.inputs)
        order = np.argsort(-diagonal, kind="stable")
        least = 1e-9 * float(diagonal.mean()) + 1e-30  # columns that were never used
        damped = moments.inputs + np.diag(damping * diagonal + least)
        size = np.sqrt(np.diag(damped))
        damped = (damped / np.outer(size, size))[np.ix_(order, order)]
        # inv(L).T of the reversed matrix, reversed back, is upper, and the factor sought.
        lower = np.linalg.cholesky(damped[::-1, ::-1])
        upper = np.linalg.inv(lower)[::-1, ::-1] / size[order]
        return cls(np.ascontiguousarray(upper), order, moments)

    @property
    def column_weights(self) -> Floats:
        """(columns,): the cost of a squared error in a column when later ones repair it."""
        out = np.empty(len(self.order))
        out[self.order] = np.diag(self.upper) ** -2.0
        return out

    @property
    def row_weights(self) -> Floats:
        """(rows,): by which the cost of all errors in a row is multiplied."""
        return self.moments.outputs


def gptq(
    weights: Floats, curvature: Curvature, steps: Floats, rounder: Rounder
) -> NDArray[np.int8]:
    """Integers (rows, columns) for weights (rows, columns): they stand for integers * steps.

    ``steps`` must broadcast to the weights' shape.
    """
    order, upper = curvature.order, curvature.upper
    left = weights[:, order]  # a copy
    scale = np.broadcast_to(steps, weights.shape)[:, order]
    out = np.empty(weights.shape, np.int8)
    n = len(order)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        errors = np.empty((len(weights), stop - start))
        for i in range(start, stop):
            step, diagonal = scale[:, i], upper[i, i]
            cost = 0.5 * curvature.row_weights * (step / diagonal) ** 2
            q = rounder(int(order[i]), left[:, i] / step, cost)
            out[:, order[i]] = q
            error = (left[:, i] - q * step) / diagonal
            left[:, i + 1 : stop] -= np.outer(error, upper[i, i + 1 : stop])
            errors[:, i - start] = error
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return out


def nearest(limit: int) -> Rounder:
    """Round to nearest within ±limit."""

    def rounder(column: int, target: Floats, weight: Floats) -> NDArray[np.int8]:
        return np.clip(np.rint(target), -limit, limit).astype(np.int8)

    return rounder
