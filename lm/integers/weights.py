"""The integers that a model consists of, and their checks.

:class:`IntegerWeights` is what an artifact stores and what the engine runs:
matrices as int8 with one float16 scale a row, everything else as float16 bit
patterns or small integers.  ``docs/NUMERICS.md`` gives each tensor its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.integers.numerics import GAIN_BITS
from pgolf_codec.lm.model_config import ONLY_FOR_TRAINING

INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class TensorSpec:
    shape: tuple[int, ...]
    dtype: type[np.generic]


def _matrix(specs: dict[str, TensorSpec], name: str, rows: int, columns: int) -> None:
    specs[f"{name}.q"] = TensorSpec((rows, columns), np.int8)
    specs[f"{name}.s"] = TensorSpec((rows,), np.float16)


def tensor_specs(c: ModelConfig) -> dict[str, TensorSpec]:
    """Name, shape and type of every tensor of a model, in the artifact's order."""
    specs: dict[str, TensorSpec] = {}
    _matrix(specs, "embedding", c.vocab_size, c.d_model)
    if not c.tied:
        _matrix(specs, "head", c.vocab_size, c.d_model)
    if c.embedding_columns:
        specs["embedding_columns"] = TensorSpec((c.d_model,), np.float16)
    specs["smear"] = TensorSpec((c.d_model,), np.float16)
    if c.bigram_buckets:
        specs["bigram.q"] = TensorSpec((c.bigram_buckets, c.bigram_dim), np.int8)
        specs["bigram.s"] = TensorSpec((c.bigram_dim,), np.float16)
        _matrix(specs, "bigram_proj", c.d_model, c.bigram_dim)
    if c.value_layers:
        specs["value_table.q"] = TensorSpec((c.vocab_size, c.value_dim), np.int8)
        specs["value_table.s"] = TensorSpec((c.value_dim,), np.float16)
        specs["value_proj.q"] = TensorSpec((c.n_kv_heads * c.d_head, c.value_dim), np.int8)
    if c.n_skips:
        specs["skips"] = TensorSpec((c.n_skips, c.d_model), np.float16)
    for i in range(c.n_layers):
        block = f"blocks.{i}"
        specs[f"{block}.mix"] = TensorSpec((2, c.d_model), np.float16)
        _matrix(specs, f"{block}.qkv", (c.n_heads + 2 * c.n_kv_heads) * c.d_head, c.d_model)
        specs[f"{block}.gain"] = TensorSpec((c.n_heads,), np.int32)
        if i in c.value_layers:
            specs[f"{block}.value.s"] = TensorSpec((c.n_kv_heads * c.d_head,), np.float16)
        if c.attention_gate:
            _matrix(specs, f"{block}.gate", c.n_heads, c.d_model)
            specs[f"{block}.gate_bias"] = TensorSpec((c.n_heads,), np.int32)
        _matrix(specs, f"{block}.wo", c.d_model, c.n_heads * c.d_head)
        _matrix(specs, f"{block}.up", c.d_hidden, c.d_model)
        _matrix(specs, f"{block}.down", c.d_model, c.d_hidden)
    specs["rope_phases"] = TensorSpec((c.rope_dims // 2,), np.uint16)
    specs["residual_frac"] = TensorSpec((1,), np.int32)
    specs["value_frac"] = TensorSpec((c.n_layers,), np.int32)
    specs["up_frac"] = TensorSpec((c.n_layers,), np.int32)
    specs["square_shift"] = TensorSpec((c.n_layers,), np.int32)
    return specs


@dataclass(frozen=True, slots=True)
class IntegerWeights:
    """A model's configuration and tensors, checked against each other."""

    config: ModelConfig
    tensors: dict[str, NDArray[Any]]

    def __post_init__(self) -> None:
        for switch, there in ONLY_FOR_TRAINING.items():
            if (value := getattr(self.config, switch)) != there:
                raise CorruptError(f"model config: {switch} {value!r} is for training only")
        specs = tensor_specs(self.config)
        if set(specs) != set(self.tensors):
            odd = sorted(set(specs) ^ set(self.tensors))
            raise CorruptError(f"model tensors: {odd[0]!r} is missing or unknown")
        for name, spec in specs.items():
            tensor = self.tensors[name]
            if tensor.shape != spec.shape or tensor.dtype != spec.dtype:
                raise CorruptError(
                    f"model tensor {name}: {tensor.dtype}{tensor.shape} is not "
                    f"{np.dtype(spec.dtype)}{spec.shape}"
                )
            if spec.dtype is np.float16 and not np.isfinite(tensor).all():
                raise CorruptError(f"model tensor {name}: a scale is not finite")
            if spec.dtype is np.int8 and tensor.size and tensor.min() < -127:
                raise CorruptError(f"model tensor {name}: -128 is not a weight")
        for name, low, high in (
            ("residual_frac", 0, 16),
            ("value_frac", 0, 14),
            ("up_frac", 0, 14),
            ("square_shift", 0, 28),
        ):
            t = self.tensors[name]
            if t.min() < low or t.max() > high:
                raise CorruptError(f"model tensor {name}: {t.tolist()} is not in {low}..{high}")
        for i in range(self.config.n_layers):
            gain = self.tensors[f"blocks.{i}.gain"].astype(np.int64)
            if np.abs(gain).max() >= 1 << GAIN_BITS:
                raise CorruptError(f"model tensor blocks.{i}.gain: a gain is too large")
        if (2 * self.tensors["up_frac"] < self.tensors["square_shift"]).any():
            raise CorruptError("model tensor square_shift: larger than twice up_frac")

    @property
    def n_params(self) -> int:
        """Weights of all matrices."""
        return sum(t.size for name, t in self.tensors.items() if name.endswith(".q"))


def activation_limit(inner: int) -> int:
    """Largest |activation| whose products with int8 weights sum exactly in int32."""
    return min(32767, INT32_MAX // (128 * inner))


def multipliers(
    scales: NDArray[np.float16], frac_in: int, frac_out: int, limit_bits: int
) -> NDArray[np.int64]:
    """floor(s * 2**(32 + frac_out - frac_in)) of float16 scales, as int64.

    A float16 is m * 2**e with |m| < 2**11, so this is exact integer arithmetic.
    Raises :class:`CorruptError` if one is not below 2**limit_bits, the bound that
    keeps every later product inside int64.
    """
    mantissa, exponent = np.frexp(scales.astype(np.float64))
    m = (mantissa * 2048).astype(np.int64)
    shift = exponent.astype(np.int64) + (32 - 11 + frac_out - frac_in)
    out = (m << np.clip(shift, 0, 50)) >> np.clip(-shift, 0, 63)
    if out.size and (shift.max() > 50 or np.abs(out).max() >= 1 << limit_bits):
        raise CorruptError("a scale of the model is too large")
    return out
