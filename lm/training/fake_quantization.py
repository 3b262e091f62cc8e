"""Training through the rounding to come: what is rounded forwards is not backwards.

The straight-through estimator of Y. Bengio and others (2013).  The grids of activations
are those of docs/NUMERICS.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from pgolf_codec.lm.config import TrainConfig
from pgolf_codec.lm.floats.model import Transformer

CLIP_SIGMAS = 12.85
"""Half the range of a row's levels, in standard deviations of the row."""
LEVELS = 127
"""On either side of 0, of an activation of 8 bits."""
KEY_STEP = 2.0**-4
"""Of keys and queries, which are normalised."""
VALUE_HEADROOM = 1.33
"""An export leaves that much above the largest value that it has seen."""
MOST_VALUE_BITS = 14
"""Fraction bits of values."""


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """``rounded`` forwards, as if it were ``x`` backwards."""
    return x + (rounded - x).detach()


def round_weight(w: Tensor, bits: int) -> Tensor:
    """Rows of a matrix (rows, columns) on a uniform grid of their own."""
    limit = 2 ** (bits - 1) - 1
    step = (w.detach().std(-1, keepdim=True) * (CLIP_SIGMAS / limit)).clamp(min=1e-12)
    return straight_through(w, (w.detach() / step).round().clamp(-limit, limit) * step)


def round_by_position(x: Tensor) -> Tensor:
    """The factor of a product by bytes (..., K): each vector's largest entry is 127 steps."""
    exact = x.detach().float()
    step = (exact.abs().amax(-1, keepdim=True) / LEVELS).clamp(min=1e-12)
    return straight_through(x, ((exact / step).round() * step).to(x.dtype))


def round_key(x: Tensor) -> Tensor:
    """Keys and queries, on the one grid of all models."""
    levels = (x.detach().float() / KEY_STEP).round().clamp(-LEVELS, LEVELS)
    return straight_through(x, (levels * KEY_STEP).to(x.dtype))


def round_value(x: Tensor) -> Tensor:
    """Values, in steps of a power of two: that which an export would choose for these."""
    exact = x.detach().float()
    bits = (LEVELS / (VALUE_HEADROOM * exact.abs().amax() + 1e-9)).log2().floor()
    step = torch.exp2(-bits.clamp(0, MOST_VALUE_BITS))
    levels = (exact / step).round().clamp(-LEVELS, LEVELS)
    return straight_through(x, (levels * step).to(x.dtype))


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "norm": round_by_position,
    "query": round_key,
    "key": round_key,
    "value": round_value,
    "attended": round_by_position,
    "hidden": round_by_position,
}
"""Of activations in the layers.  The final states, for the logits, have 16 bits: left alone."""


@functools.cache
def weight_map(bits: int) -> Callable[[str, Tensor], Tensor]:
    """One function for each number: another one would have the model compiled again."""
    return lambda name, w: round_weight(w, bits)


def activation_map(name: str, x: Tensor) -> Tensor:
    """``name`` is, as ``blocks.3.attention.key``, of a layer, or ``norm`` for the final states."""
    _, in_layer, what = name.rpartition(".")
    return ROUNDINGS[what](x) if in_layer else x


def set_rounding(model: Transformer, config: TrainConfig, on: bool) -> None:
    """Let the model compute with rounded weights, and activations if the config says so, or not."""
    model.set_weight_map(weight_map(config.qat_bits) if on else None)
    model.set_activation_map(activation_map if on and config.qat_activations else None)


def is_late(factor: float, step: int, config: TrainConfig) -> bool:
    """Whether the model is to be rounded: in the warmdown, below ``qat_at``."""
    return factor < config.qat_at and step >= config.warmup_steps
