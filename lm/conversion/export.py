"""From a training checkpoint to the integers of :mod:`pgolf_codec.lm.integers.weights`.

:func:`pgolf_codec.lm.artifact.pack` is the way from there to an artifact.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.lm.config import BOS_ID, ModelConfig
from pgolf_codec.lm.conversion.fold import fold
from pgolf_codec.lm.data.shards import first_ids
from pgolf_codec.lm.export_config import DEFAULT_COST, FEW_LEVELS
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.graph import rope_phases
from pgolf_codec.lm.integers.engine import make_params
from pgolf_codec.lm.integers.numerics import HEAD_FRAC, LOGIT_FRAC, NORM_FRAC, SCALE_BITS
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit
from pgolf_codec.lm.training.checkpoints import read_checkpoint
from pgolf_codec.quant.budget import Log, fit
from pgolf_codec.quant.gptq import Curvature
from pgolf_codec.quant.moments import Moments
from pgolf_codec.quant.quantizers import (
    ByName,
    FewLevels,
    Nearest,
    Quantizer,
    Waterfilled,
    curvatures,
)
from pgolf_codec.quant.rounding import Quantized
from pgolf_codec.quant.waterfilling import Scales

BALANCE_OCTAVES = 6
"""Most that a hidden unit's size is changed by: all share one fixed-point position."""
STEPS_PER_SIGMA = {"matrix": 18.0, "embedding": 36.0, "bigram": 6.0}

COLUMNS = ("bigram", "value_table")
"""Tables with a scale a column."""


def place_of_scales(name: str, config: ModelConfig) -> Scales:
    """Which scales of a matrix the artifact has a place for."""
    if name in COLUMNS:
        return "columns"
    return "both" if name == "embedding" and config.tied else "rows"


def exportable(model: Transformer) -> Transformer:
    """The model without what can be folded away."""
    again = model.config.smear == "gate" and model.config.order.count(0) > 1
    return fold(model, unroll=again)


def load_checkpoint(path: Path, max_len: int) -> Transformer:
    """The float model of a checkpoint written by ``lm.train``; see :func:`exportable`.

    Raises :class:`CorruptError` if it is damaged, or something else.
    """
    state = read_checkpoint(path)
    model = Transformer(ModelConfig.from_dict(state["model_config"]), max_len)
    model.load_state_dict(state["model"])
    return model.eval()


def peaks(model: Transformer, ids: Tensor) -> dict[str, list[float]]:
    """Largest |value| per layer of what the engine holds in fixed point."""
    n_layers = model.config.n_layers
    seen = {kind: [0.0] * n_layers for kind in ("residual", "value", "up")}

    def tell(kind: str, layer: int, largest: Tensor) -> None:
        seen[kind][layer] = max(seen[kind][layer], float(largest))

    def activation(name: str, x: Tensor) -> Tensor:
        if name.endswith("attention.value"):
            tell("value", int(name.split(".")[1]), x.abs().max())
        elif name.endswith("mlp.hidden"):  # the square of what is above zero, or half below
            tell("up", int(name.split(".")[1]), x.max().sqrt())
        return x

    def block(layer: int) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            tell("residual", layer, torch.maximum(inputs[0].abs().max(), output.abs().max()))

        return hook

    handles = [m.register_forward_hook(block(i)) for i, m in enumerate(model.blocks)]
    model.set_activation_map(activation)
    with torch.no_grad():
        model(ids)
    model.set_activation_map(None)
    for handle in handles:
        handle.remove()
    return seen


def merge_scales(model: Transformer) -> Transformer:
    """A copy whose scales of ``wo`` and ``down`` are 1, and part of these matrices."""
    model = copy.deepcopy(model)
    p = dict(model.named_parameters())
    with torch.no_grad():
        for i in range(model.config.n_layers):
            for matrix, scale in (("attention.wo", "attention.scale"), ("mlp.down", "mlp.scale")):
                p[f"blocks.{i}.{matrix}"].mul_(p[f"blocks.{i}.{scale}"][:, None])
                p[f"blocks.{i}.{scale}"].fill_(1.0)
    return model


def balance(
    model: Transformer, moments: Mapping[str, Moments]
) -> tuple[Transformer, dict[str, Moments]]:
    """The same function, with hidden units of such sizes that the columns of ``down`` weigh alike.

    Equal steps are then what waterfilling asks for.  A hidden unit is homogeneous of
    degree 2: t times its row of ``up`` is t**2 times the unit, and 1 / t**2 times its
    column of ``down`` undoes that.  Scales must be merged.  Returns the new moments too.
    """
    model, moments = copy.deepcopy(model), dict(moments)
    p = dict(model.named_parameters())
    with torch.no_grad():
        for i in range(model.config.n_layers):
            if of_few_levels(f"blocks.{i}.down", p[f"blocks.{i}.mlp.down"].double().numpy()):
                continue  # its columns have no steps
            up, down = moments[f"blocks.{i}.up"], moments[f"blocks.{i}.down"]
            weights = Curvature.of(down).column_weights
            size = np.sqrt(weights / np.exp(np.log(weights).mean()))
            size = np.clip(size, 2.0**-BALANCE_OCTAVES, 2.0**BALANCE_OCTAVES)
            p[f"blocks.{i}.mlp.down"].mul_(torch.from_numpy(size).float())
            p[f"blocks.{i}.mlp.up"].div_(torch.from_numpy(np.sqrt(size)).float()[:, None])
            moments[f"blocks.{i}.up"] = Moments(up.inputs, up.outputs * size)
            moments[f"blocks.{i}.down"] = Moments(down.inputs / np.outer(size, size), down.outputs)
    return model, moments


def _frac(peak: float, limit: int, most: int) -> int:
    """Most fraction bits at which ``peak``, with a third to spare, stays within ``limit``."""
    return max(0, min(most, math.floor(math.log2(limit / (1.33 * peak + 1e-9)))))


def _most_frac(scales: NDArray[np.float16]) -> int:
    """Most fraction bits of products of normalised vectors whose multipliers fit 31 bits."""
    largest = float(np.abs(scales).max())
    if not largest:
        return 14
    return max(0, math.ceil(NORM_FRAC - 1 - math.log2(largest)) - 1)


def _shrunk(scales: NDArray[np.float16], c: ModelConfig) -> NDArray[np.float16]:
    """Scales of ``qkv``, those of queries and keys halved until they fit multipliers of 31 bits.

    Queries and keys are normalised: their size is of no consequence.
    """
    n = (c.n_heads + c.n_kv_heads) * c.d_head
    _, exponent = math.frexp(float(np.abs(scales[:n]).max()))
    octaves = max(0, exponent + 32 + HEAD_FRAC - NORM_FRAC - SCALE_BITS)
    return np.concatenate((scales[:n] * np.float16(2.0**-octaves), scales[n:]))


def _of_values(c: ModelConfig, layer: int) -> list[str]:
    """Tensors whose products are a layer's values."""
    names = [f"blocks.{layer}.qkv.s"]
    return [*names, f"blocks.{layer}.value.s"] if layer in c.value_layers else names


def matrices(model: Transformer) -> dict[str, NDArray[np.float64]]:
    """What is quantized: the artifact's matrices (rows, columns), without ``.q``."""
    p = {name: t.detach().double().numpy() for name, t in model.named_parameters()}
    out = {"embedding": p["embedding"]}
    out |= {name: p[name] for name in ("head", "value_table", "value_proj") if name in p}
    if model.config.bigram_buckets:
        out |= {name: p[name] for name in ("bigram", "bigram_proj")}
    for i in range(model.config.n_layers):
        name, attention, mlp = f"blocks.{i}", f"blocks.{i}.attention", f"blocks.{i}.mlp"
        out[f"{name}.qkv"] = np.concatenate([p[f"{attention}.{w}"] for w in ("wq", "wk", "wv")])
        out[f"{name}.wo"] = p[f"{attention}.wo"] * p[f"{attention}.scale"][:, None]
        if model.config.attention_gate:
            out[f"{name}.gate"] = p[f"{attention}.gate"]
        out[f"{name}.up"] = p[f"{mlp}.up"]
        out[f"{name}.down"] = p[f"{mlp}.down"] * p[f"{mlp}.scale"][:, None]
    return out


def of_few_levels(name: str, matrix: NDArray[np.float64]) -> Quantized | None:
    """A layer's matrix whose rows have one magnitude, and 0, as it is; None if it has more."""
    sizes = np.abs(matrix)
    largest = sizes.max(axis=1, keepdims=True)
    few = ((sizes == 0) | (sizes == largest)).all()
    if not (name.startswith("blocks.") and few and sizes.any()):
        return None
    return Quantized(np.sign(matrix).astype(np.int32), largest[:, 0].astype(np.float16))


def quantize(
    model: Transformer, calibration: Tensor, quantizer: Quantizer | dict[str, float]
) -> IntegerWeights:
    """Quantize every matrix; fixed-point positions from ``calibration`` ids (B, T).

    ``quantizer`` may be the steps per sigma of :class:`Nearest`.
    """
    model = exportable(model)
    c = model.config
    if isinstance(quantizer, dict):
        quantizer = Nearest(quantizer)
    p = {name: t.detach().double().numpy() for name, t in model.named_parameters()}
    seen = peaks(model, calibration)
    out: dict[str, NDArray[Any]] = {"smear": p["smear"].astype(np.float16)}
    for name, matrix in matrices(model).items():
        found = of_few_levels(name, matrix)
        if found is None:
            found = quantizer(name, matrix, place_of_scales(name, c))
        scales = found.column_scales if name in COLUMNS else found.row_scales
        assert scales is not None
        out[f"{name}.q"], out[f"{name}.s"] = found.values.astype(np.int8), scales
        if name == "embedding" and found.column_scales is not None:
            out["embedding_columns"] = found.column_scales
    c = dataclasses.replace(c, embedding_columns="embedding_columns" in out)
    value_scales = out.pop("value_proj.s", np.zeros(0, np.float16))
    for i in range(c.n_layers):
        out[f"blocks.{i}.qkv.s"] = _shrunk(out[f"blocks.{i}.qkv.s"], c)
        out[f"blocks.{i}.mix"] = p[f"blocks.{i}.mix"].astype(np.float16)
        # scores are in 2**-18, exponents in base-2 units of 2**-10, the shift is 28
        unit = math.log2(math.e) / math.sqrt(c.d_head) * 2.0 ** (10 - 18 + 28)
        gain = p[f"blocks.{i}.attention.gain"]
        out[f"blocks.{i}.gain"] = np.rint(gain * unit).astype(np.int32)
        if i in c.value_layers:
            scale = p[f"blocks.{i}.attention.value_scale"] * value_scales.astype(np.float64)
            out[f"blocks.{i}.value.s"] = scale.astype(np.float16)
        if c.attention_gate:
            bias = p[f"blocks.{i}.attention.gate_bias"]
            out[f"blocks.{i}.gate_bias"] = np.rint(bias * 2.0**LOGIT_FRAC).astype(np.int32)
    if c.n_skips:
        out["skips"] = p["skips"].astype(np.float16)
    out["rope_phases"] = np.array(rope_phases(c), np.uint16)
    hidden_limit = activation_limit(c.d_hidden)
    up_frac = [
        min(_frac(x, 32767, 14), _most_frac(out[f"blocks.{i}.up.s"]))
        for i, x in enumerate(seen["up"])
    ]
    value_frac = [
        min(_frac(x, 127, 14), *(_most_frac(out[name]) for name in _of_values(c, i)))
        for i, x in enumerate(seen["value"])
    ]
    hidden_frac = [_frac(x * x, hidden_limit, 14) for x in seen["up"]]
    shifts = [max(0, 2 * u - h) for u, h in zip(up_frac, hidden_frac, strict=True)]
    out["value_frac"] = np.array(value_frac, np.int32)
    out["up_frac"] = np.array(up_frac, np.int32)
    out["square_shift"] = np.array(shifts, np.int32)
    most = _frac(2 * max(seen["residual"]), 1 << 21, 14)
    for residual_frac in range(most, -1, -1):
        out["residual_frac"] = np.array([residual_frac], np.int32)
        weights = IntegerWeights(c, out)
        with contextlib.suppress(CorruptError):  # a scale that is too large for this position
            make_params(weights)
            return weights
    raise ConfigError("no fixed-point position holds the residual and the scales of this model")


class Search:
    """Quantizations of one model by :class:`Waterfilled`, at any cost.

    ``merged`` is a model of :func:`merge_scales`, ``calibration`` has ids (B, T).
    ``n_states`` is that of a trellis, 1 for none: more than one is worth it only where
    the artifact's coder knows about the trellis.  ``rules`` are (pattern of names,
    ``ternary`` or ``binary``), for matrices that are to have few levels in any case.
    ``columns`` allows a tied embedding scales of its columns.
    """

    def __init__(
        self,
        merged: Transformer,
        calibration: Tensor,
        moments: Mapping[str, Moments],
        n_states: int,
        *,
        price_of_bits: float = 1.0,
        rules: Sequence[tuple[str, str]] = (),
        columns: bool = True,
    ) -> None:
        self._even, self._moments = balance(merged, moments)
        self._curvatures = curvatures(self._moments)
        self._calibration, self._n_states = calibration, n_states
        self._price_of_bits, self._columns = price_of_bits, columns
        few = {kind: FewLevels(kind == "ternary", self._curvatures) for kind in FEW_LEVELS}
        self._rules = [(pattern, few[kind]) for pattern, kind in rules]
        self._last: tuple[float, IntegerWeights] | None = None

    def at(self, cost: float) -> IntegerWeights:
        """``cost`` in nats a token that the rounding of one weight may cost."""
        if self._last is None or self._last[0] != cost:
            filled = Waterfilled(
                self._curvatures, cost, self._n_states, self._price_of_bits, self._columns
            )
            quantizer = ByName(self._rules, filled)
            self._last = (cost, quantize(self._even, self._calibration, quantizer))
        return self._last[1]

    def within(
        self,
        weigh: Callable[[IntegerWeights], int],
        cap_bytes: int,
        *,
        first_cost: float = DEFAULT_COST,
        keep: Path | None = None,
        key: str = "",
        log: Log = print,
    ) -> IntegerWeights:
        """Weights that ``weigh`` at most ``cap_bytes``, and at most 0.1% less.

        ``weigh`` gives the bytes of the artifact and of all else that counts.  ``keep`` is
        a file by which a search that was stopped goes on, if its ``key`` is the same: of
        all that ``weigh`` depends on beside the weights.  Raises :class:`BudgetError`.
        """
        floats = matrices(self._even)
        facts = (cap_bytes, self._n_states, self._price_of_bits, self._columns, first_cost, key)
        digest = hashlib.sha256(repr((*facts, [str(p) for p, _ in self._rules])).encode())
        for array in (*floats.values(), *(m.outputs for m in self._moments.values())):
            digest.update(np.ascontiguousarray(array).tobytes())
        found = fit(
            lambda octaves: weigh(self.at(first_cost * 4**octaves)),
            cap_bytes,
            bytes_per_octave=sum(w.size for w in floats.values()) / 8,
            keep=keep,
            key=digest.hexdigest(),
            log=log,
        )
        return self.at(first_cost * 4**found.octaves)


def calibration_rows(tokens: Path, rows: int, length: int) -> Tensor:
    """The first rows of a shard or file of training ids, each behind BOS; all if there are fewer.

    Raises :class:`ConfigError` if there is not one.
    """
    ids = first_ids(tokens, rows * length).astype(np.int64)
    rows = len(ids) // length
    if not rows:
        raise ConfigError(f"{tokens}: {len(ids)} tokens; a row of calibration text has {length}")
    y = torch.from_numpy(ids[: rows * length]).view(rows, length)
    return torch.cat((torch.full((rows, 1), BOS_ID), y[:, :-1]), dim=1)
