"""Training through the rounding to come: what is rounded forwards is not backwards.

The straight-through estimator of Y. Bengio and others (2013).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor

from pgolf_codec.lm.config import TrainConfig
from pgolf_codec.lm.floats.model import Transformer

CLIP_SIGMAS = 12.85
"""Half the range of a row's levels, in standard deviations of the row."""
ACTIVATION_LEVELS = 127
"""On either side of 0."""
ROUNDED = ("key", "value")
"""Activations that the engine holds in 8 bits; its others have 16, which cost nothing."""


def round_weight(w: Tensor, bits: int) -> Tensor:
    """Rows of a matrix (rows, columns) on a uniform grid of their own."""
    limit = 2 ** (bits - 1) - 1
    step = (w.detach().std(-1, keepdim=True) * (CLIP_SIGMAS / limit)).clamp(min=1e-12)
    rounded: Tensor = (w.detach() / step).round().clamp(-limit, limit) * step
    return w + (rounded - w).detach()


def round_activation(x: Tensor) -> Tensor:
    """On one grid for the whole tensor, that reaches to its largest entry."""
    step = (x.detach().abs().amax() / ACTIVATION_LEVELS).clamp(min=1e-12)
    rounded: Tensor = (x.detach() / step).round() * step
    return x + (rounded - x).detach()


@functools.cache
def weight_map(bits: int) -> Callable[[str, Tensor], Tensor]:
    """One function for each number: another one would have the model compiled again."""
    return lambda name, w: round_weight(w, bits)


def activation_map(name: str, x: Tensor) -> Tensor:
    return round_activation(x) if name.rsplit(".", 1)[-1] in ROUNDED else x


def set_rounding(model: Transformer, config: TrainConfig, on: bool) -> None:
    """Let the model compute with rounded weights, and activations if the config says so, or not."""
    model.set_weight_map(weight_map(config.qat_bits) if on else None)
    model.set_activation_map(activation_map if on and config.qat_activations else None)


def is_late(factor: float, step: int, config: TrainConfig) -> bool:
    """Whether the model is to be rounded: in the warmdown, below ``qat_at``."""
    return factor < config.qat_at and step >= config.warmup_steps
