"""Losses by weights and tokens: the curve through measured runs, and how far it can be trusted.

loss = E + A / N**alpha + B / D**beta - P for runs with a pair table (J. Hoffmann and others
2022, equation 10; P is ours).  Exponents are tried on a grid; the coefficients, none below
zero, follow by least squares, where a residual beyond :data:`HUBER` nats counts by its length
and not by its square.  Trust comes from runs that were left out, which :func:`without` predicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HUBER = 0.02
"""Nats: about what another seed changes."""
ALPHAS = np.round(np.arange(0.05, 1.201, 0.05), 2)
BETAS = np.round(np.arange(0.05, 1.001, 0.025), 3)
_ROUNDS = 6
"""Of weighing residuals anew."""


@dataclass(frozen=True, slots=True)
class Point:
    """A run: weights that a token is multiplied with, tokens, nats a token."""

    n: float
    d: float
    loss: float
    pairs: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """The curve; ``rms`` is that of its residuals in nats."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float
    P: float
    rms: float

    def loss(self, n: float, d: float, pairs: bool = False) -> float:
        """Nats a token."""
        return float(self.E + self.A * n**-self.alpha + self.B * d**-self.beta - self.P * pairs)

    @property
    def at_an_end(self) -> bool:
        """Whether an exponent is the first or the last one tried: then the runs don't tell it."""
        ends = ALPHAS[[0, -1]], BETAS[[0, -1]]
        return bool(self.alpha in ends[0] or self.beta in ends[1])

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at_an_end": self.at_an_end}


def fit(points: Sequence[Point]) -> Fit:
    """The best curve through ``points``, at least six of them; raises :class:`ValueError`."""
    if len(points) < 6:
        raise ValueError(f"{len(points)} runs are too few for six unknowns")
    n, d, loss, pairs = np.array([(p.n, p.d, p.loss, p.pairs) for p in points]).T
    alpha, beta = (grid.reshape(-1, 1) for grid in np.meshgrid(ALPHAS, BETAS))
    whole = np.ones_like(alpha * n)
    columns = np.stack((whole, n**-alpha, d**-beta, -pairs * whole), axis=2)
    scales = np.maximum(np.abs(columns).max(axis=1), 1e-300)
    found = robust(columns / scales[:, None], loss)
    rests = _values(columns / scales[:, None], found) - loss
    best = int(np.argmin(huber(rests)))
    e, a, b, p = (found[best] / scales[best]).tolist()
    rms = float(np.sqrt(np.mean(rests[best] ** 2)))
    return Fit(e, a, float(alpha[best, 0]), b, float(beta[best, 0]), p, rms)


def huber(rests: Floats) -> Floats:
    """Sums over the last axis: half squares up to :data:`HUBER`, lengths beyond."""
    size = np.abs(rests)
    costs: Floats = np.where(size < HUBER, size**2 / 2, HUBER * (size - HUBER / 2)).sum(axis=-1)
    return costs


def robust(columns: Floats, values: Floats) -> Floats:
    """Coefficients (G, k) of at least 0 with the least :func:`huber`, by squares weighed again.

    Of G problems with the same ``values`` (n,); ``columns`` are (G, n, k).
    """
    weights = np.ones(columns.shape[:2])
    for _ in range(_ROUNDS):
        found = nonnegative(columns, values, weights)
        size = np.abs(_values(columns, found) - values)
        weights = HUBER / np.maximum(size, HUBER)
    return found


def nonnegative(columns: Floats, values: Floats, weights: Floats) -> Floats:
    """Weighted least squares with coefficients of at least 0: the best of all sets of columns."""
    k = columns.shape[2]
    weighted = columns * weights[:, :, None]
    squares = np.einsum("gni,gnj->gij", weighted, columns)
    targets = np.einsum("gni,n->gi", weighted, values)
    best: Floats = np.zeros_like(targets)
    best_error = np.full(len(columns), np.inf)
    for used in itertools.product((True, False), repeat=k):
        both = np.outer(used, used)
        system = np.where(both, squares, 0) + np.diag(np.where(used, 1e-13, 1))
        found = np.linalg.solve(system, np.where(used, targets, 0)[:, :, None])[:, :, 0]
        error = (weights * (_values(columns, found) - values) ** 2).sum(axis=1)
        better = (found >= 0).all(axis=1) & (error < best_error)
        best[better], best_error[better] = found[better], error[better]
    return best


def _values(columns: Floats, coefficients: Floats) -> Floats:
    values: Floats = np.einsum("gnk,gk->gn", columns, coefficients)
    return values


def without(points: Sequence[Point], out: Sequence[Point]) -> tuple[Fit, list[float]]:
    """The curve through all others, and the nats that it says for ``out`` beyond the measured."""
    curve = fit([point for point in points if point not in out])
    return curve, [curve.loss(p.n, p.d, p.pairs) - p.loss for p in out]
