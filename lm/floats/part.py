"""A module with matrices: of full or of low rank, of real, ternary or binary weights.

One place reads every matrix, so that quantization-aware training has one place to change
what is read (:attr:`Part.weight_map`), and one for the activations that the integer
engine rounds (:attr:`Part.activation_map`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Map = Callable[[str, Tensor], Tensor]
"""Of a name and what it names, to what is used in its place."""

TERNARY_FLOOR = 1e-8
"""Least divisor of a row, which may be of zeros."""


def ternary(w: Tensor) -> Tensor:
    """-1, 0 or 1 times the mean magnitude of the row.

    The b1.58 of S. Ma and others, "The Era of 1-bit LLMs" (2024), with a scale a row.
    """
    scale = w.abs().mean(-1, keepdim=True)
    return (w / scale.clamp(min=TERNARY_FLOOR)).round().clamp(-1, 1) * scale


def binary(w: Tensor) -> Tensor:
    """-1 or 1 times the mean magnitude of the row (BitNet)."""
    scale = w.abs().mean(-1, keepdim=True)
    return torch.where(w < 0, -scale, scale)


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {"ternary": ternary, "binary": binary}


def rounding_of(weights: str, group: int) -> Callable[[Tensor], Tensor] | None:
    """One of :data:`ROUNDINGS`, by groups of so many weights of a row instead of whole rows."""
    rounding = ROUNDINGS.get(weights)
    if rounding is None or not group:
        return rounding
    return lambda w: rounding(w.reshape(*w.shape[:-1], -1, group)).flatten(-2)


def straight_through(w: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    """``rounding(w)``, through which gradients pass as if nothing were rounded."""
    exact = w.detach()
    return w + (rounding(exact) - exact)


class Part(nn.Module):
    """Matrices are parameters by their names; the second factor of one of low rank, which is
    applied first, has ``_in`` behind its name."""

    name = ""
    """What stands before its parameters' names in those of the whole model."""
    weight_map: Map | None = None
    activation_map: Map | None = None

    def __init__(self, weights: str = "float", group: int = 0) -> None:
        super().__init__()
        self.rounding = rounding_of(weights, group)

    def declare(self, name: str, rows: int, columns: int, rank: int = 0) -> None:
        """A matrix (rows, columns), zero until it is initialised."""
        self.register_parameter(name, nn.Parameter(torch.zeros(rows, rank or columns)))
        if rank:
            self.register_parameter(f"{name}_in", nn.Parameter(torch.zeros(rank, columns)))

    def weight(self, name: str) -> Tensor:
        """The matrix as it is used."""
        w: Tensor = getattr(self, name)
        if self.rounding is not None:
            w = straight_through(w, self.rounding)
        return w if self.weight_map is None else self.weight_map(self.name + name, w)

    def project(self, x: Tensor, name: str) -> Tensor:
        """(..., columns) to (..., rows)."""
        if hasattr(self, f"{name}_in"):
            x = F.linear(x, self.weight(f"{name}_in"))
        return F.linear(x, self.weight(name))

    def rounded(self, x: Tensor, what: str) -> Tensor:
        """Activations where the engine has integers of few bits."""
        return x if self.activation_map is None else self.activation_map(self.name + what, x)
