"""What the float graph and the integer graph must agree on to the last bit."""

from __future__ import annotations

from typing import Any

from pgolf_codec.lm.config import ModelConfig

NUMERICS_VERSION = 2
"""Changes whenever any probability of any model may change (docs/NUMERICS.md)."""

PHASES = 1 << 16
"""Rotary angles are multiples of a full turn / PHASES, so positions may be
counted modulo PHASES and a stream of any length needs one table."""


def rope_phases(config: ModelConfig) -> list[int]:
    """Phase steps per position of each rotated pair, rope_dims / 2 integers."""
    half = config.rope_dims // 2
    one_radian = PHASES / 6.283185307179586
    return [max(1, round(one_radian * config.rope_base ** (-i / half))) for i in range(half)]


def bigram_bucket(before: Any, current: Any, buckets: int) -> Any:
    """Row of the bigram table for a pair of ids (ints or integer arrays < 2**16)."""
    return ((before * 40503 + current * 30011) & 0x7FFFFFFF) % buckets
