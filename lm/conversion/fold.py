"""A trained model as an equal one with fewer switches.

Some parts only help training, and some are products that can be multiplied out: low
ranks, ternary and binary weights, divided norms, the smear gate, factored embeddings,
document masks, heads of further tokens.  :func:`fold` gives a model of the same outputs
(up to rounding) without them; what is left is what ``lm/conversion/export.py`` makes integers of.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from pgolf_codec.errors import ExportError
from pgolf_codec.lm.floats.blocks import Block
from pgolf_codec.lm.floats.model import MATRICES, Transformer
from pgolf_codec.lm.floats.part import Part
from pgolf_codec.lm.model_config import ONLY_FOR_TRAINING, ModelConfig

FOLDED = {**ONLY_FOR_TRAINING, "embedding_columns": False}
"""What these switches are behind :func:`fold`."""


def fold(model: Transformer, *, unroll: bool = False) -> Transformer:
    """A model of the same outputs whose config has the values of :data:`FOLDED`.

    With ``unroll`` each pass gets a layer of its own.  Raises :class:`ExportError` for what has
    no integers, and for a smear gate where the first layer runs again, which would need its
    weights twice.
    """
    c = model.config
    if not c.qk_norm:
        raise ExportError("qk_norm is off: the integers of queries and keys are normalised ones")
    if c.weight_group:
        raise ExportError(f"weight_group {c.weight_group}: integers have one scale a row")
    order = c.order if unroll else tuple(range(c.n_layers))
    changes: dict[str, Any] = dict(FOLDED) | (_unrolled(c) if unroll else {})
    config = dataclasses.replace(c, **changes)
    out = Transformer(config, model.cos.size(0))
    with torch.no_grad():
        state = _plain_tables(model)
        for new, old in enumerate(order):
            block = model.blocks[old]
            assert isinstance(block, Block)
            state |= {f"blocks.{new}.{name}": t for name, t in _plain_block(block).items()}
        if c.smear == "gate":
            if config.order.count(0) > 1:
                raise ExportError("smear gate: the first layer runs again; unroll the passes")
            _fold_gate(state, config)
        elif c.smear == "none":
            state["smear"] = torch.zeros(c.d_model)
        out.load_state_dict({name: t.contiguous() for name, t in state.items()})
    return out.train(model.training)


def _unrolled(c: ModelConfig) -> dict[str, Any]:
    """The fields of layers for one layer a pass."""
    places = dict(enumerate(c.order))
    return {
        "n_layers": len(c.order),
        "passes": (),
        "windows": tuple(c.windows[old] for old in c.order),
        **{
            name: tuple(new for new, old in places.items() if old in getattr(c, name))
            for name in ("parallel_layers", "value_layers", "xsa_layers")
        },
    }


def _matrix(part: Part, name: str) -> Tensor:
    """The full matrix, without the maps of quantization-aware training."""
    w: Tensor = getattr(part, name).detach()
    if part.rounding is not None:
        return part.rounding(w)
    inner = getattr(part, f"{name}_in", None)
    return w.clone() if inner is None else w @ inner.detach()


def _plain_tables(model: Transformer) -> dict[str, Tensor]:
    """All parameters outside of the blocks."""
    c = model.config
    left_out = ("blocks.", "mtp", "embedding_proj", "head_proj")
    out = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if not name.startswith(left_out)
    }
    if c.embedding_rank:
        table = out["embedding"]
        out["embedding"] = table @ _matrix(model, "embedding_proj").T
        if not c.tied:
            out["head"] = table @ _matrix(model, "head_proj").T
    return out


def _plain_block(block: Block) -> dict[str, Tensor]:
    """Parameters of a block by their names in it."""
    out: dict[str, Tensor] = {"mix": block.mix.detach().clone()}
    parts: dict[str, Part] = {"attention": block.attention, "mlp": block.mlp}
    for where, part in parts.items():
        for name, p in part.named_parameters():
            if name.removesuffix("_in") not in MATRICES:
                out[f"{where}.{name}"] = p.detach().clone()
            elif not name.endswith("_in"):
                out[f"{where}.{name}"] = _matrix(part, name)
    for name in ("attention.wv", "attention.gate", "mlp.up"):  # others are normalised again
        if name in out:
            out[name] = out[name] * block.norm_scale
    return out


def _fold_gate(state: dict[str, Tensor], config: ModelConfig) -> None:
    """(1 - g)·x + g·before is (1 - g)·(x + g/(1 - g)·before): the first factor goes into
    the layers' mixes, and out of what is added behind the gate."""
    gate = torch.sigmoid(state["smear"])
    state["smear"] = gate / (1 - gate)
    if config.bigram_buckets:
        state["bigram_proj"] = state["bigram_proj"] / (1 - gate)[:, None]
    for i in range(config.n_layers):
        mix = state[f"blocks.{i}.mix"]
        mix[1] *= 1 - gate
        if i == config.order[0]:
            mix[0] *= 1 - gate
