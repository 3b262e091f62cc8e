"""From the integers of an artifact back to the float graph.

The inverse of :func:`pgolf_codec.lm.conversion.export.quantize`, up to the rounding that an
artifact keeps: what a score in floating point must be computed with, if it is to be that of
the artifact.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.lm.integers.numerics import LOGIT_FRAC
from pgolf_codec.lm.integers.weights import IntegerWeights

if TYPE_CHECKING:
    from pgolf_codec.lm.floats.model import Transformer

GAIN_FRAC = 20
"""Fraction bits of ``gain`` (docs/NUMERICS.md)."""


def float_model(weights: IntegerWeights, max_len: int) -> Transformer:
    """The float graph with the artifact's weights, float32, on the CPU."""
    import torch

    from pgolf_codec.lm.floats.model import Transformer

    config = dataclasses.replace(weights.config, embedding_columns=False)
    model = Transformer(config, max_len)
    state = {name: torch.from_numpy(t) for name, t in float_tensors(weights).items()}
    model.load_state_dict(state)
    return model.eval()


def float_tensors(weights: IntegerWeights) -> dict[str, NDArray[np.float32]]:
    """The parameters of :class:`Transformer` by their names; scales of outputs are 1."""
    c, t = weights.config, weights.tensors
    out: dict[str, NDArray[Any]] = {}

    def matrix(name: str) -> NDArray[np.float32]:
        return t[f"{name}.q"].astype(np.float32) * t[f"{name}.s"].astype(np.float32)[:, None]

    out["embedding"] = matrix("embedding")
    if c.embedding_columns:
        out["embedding"] *= t["embedding_columns"].astype(np.float32)
    out["smear"] = t["smear"].astype(np.float32)
    if c.bigram_buckets:
        out["bigram"] = t["bigram.q"].astype(np.float32) * t["bigram.s"].astype(np.float32)
        out["bigram_proj"] = matrix("bigram_proj")
    if not c.tied:
        out["head"] = matrix("head")
    if c.value_layers:
        table = t["value_table.q"].astype(np.float32)
        out["value_table"] = table * t["value_table.s"].astype(np.float32)
        # A layer's scales are the matrix's times its own: the first layer's go to the matrix.
        first = t[f"blocks.{c.value_layers[0]}.value.s"].astype(np.float32)
        out["value_proj"] = t["value_proj.q"].astype(np.float32) * first[:, None]
    if c.n_skips:
        out["skips"] = t["skips"].astype(np.float32)
    ones = np.ones(c.d_model, np.float32)
    unit = math.log2(math.e) / math.sqrt(c.d_head) * 2.0**GAIN_FRAC
    n_queries, n_keys = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    for i in range(c.n_layers):
        block = f"blocks.{i}"
        out[f"{block}.mix"] = t[f"{block}.mix"].astype(np.float32)
        qkv = np.split(matrix(f"{block}.qkv"), (n_queries, n_queries + n_keys))
        for name, part in zip(("wq", "wk", "wv"), qkv, strict=True):
            out[f"{block}.attention.{name}"] = part
        out[f"{block}.attention.gain"] = (t[f"{block}.gain"] / unit).astype(np.float32)
        if i in c.value_layers:
            own = t[f"{block}.value.s"].astype(np.float64)
            square = float(np.sum(np.square(first, dtype=np.float64))) or 1.0
            factor = float(np.sum(own * first)) / square
            out[f"{block}.attention.value_scale"] = np.array([factor], np.float32)
        if c.attention_gate:
            out[f"{block}.attention.gate"] = matrix(f"{block}.gate")
            bias = t[f"{block}.gate_bias"] / 2.0**LOGIT_FRAC
            out[f"{block}.attention.gate_bias"] = bias.astype(np.float32)
        out[f"{block}.attention.wo"] = matrix(f"{block}.wo")
        out[f"{block}.attention.scale"] = ones.copy()
        out[f"{block}.mlp.up"] = matrix(f"{block}.up")
        out[f"{block}.mlp.down"] = matrix(f"{block}.down")
        out[f"{block}.mlp.scale"] = ones.copy()
    return out
