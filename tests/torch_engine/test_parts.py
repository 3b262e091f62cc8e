"""Every part of a model that the engine of numba runs: the same integers on torch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from environments import digest
from tiny_model import PARTS, hot_weights, prose_ids, tiny_config

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.conversion.fold import FOLDED
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.lm.model_config import ModelConfig
from pgolf_codec.lm.presets import load_preset, preset_names, reduced

CPU = torch.device("cpu")
SOME: dict[str, dict[str, Any]] = {
    "looped skips": PARTS["unet"] | PARTS["passes"],
    "odd skips": PARTS["unet"] | {"passes": (2, 0, 1, 1, 0, 2, 2)},
    "parallel, gates": PARTS["parallel"] | PARTS["gate"] | PARTS["relu2"],
    "values, xsa": PARTS["values"] | PARTS["xsa"] | {"n_kv_heads": 3},
    "all but pairs": PARTS["all"] | {"bigram_buckets": 0, "bigram_dim": 0},
}
"""Combinations, beside the one of all."""


def test_every_switch_is_here() -> None:
    """One that is new has no place on devices until it is among these."""
    names = [field.name for field in dataclasses.fields(ModelConfig)]
    switches = set(names[names.index("softcap") + 1 :])
    assert switches == PARTS["all tied"].keys() | FOLDED.keys()


def changed(changes: dict[str, Any], tokenizer: Tokenizer, seed: int) -> IntegerWeights:
    config = dataclasses.replace(tiny_config(tokenizer.n_symbols), **changes)
    return hot_weights(config, seed)


@pytest.mark.parametrize("name", [*PARTS, *SOME])
def test_a_part(name: str, tokenizer: Tokenizer) -> None:
    """Blocks of numba, whose windows wrap; steps of torch; a stream that begins anew."""
    weights = changed((PARTS | SOME)[name], tokenizer, 3)
    on_numba, on_torch = Engine(weights, bytes(32)), TorchEngine(weights, bytes(32), CPU)
    ids = prose_ids(tokenizer, 3, 49)
    lanes, restart = on_torch.lanes(3), np.zeros((49, 3), bool)
    restart[40, 1] = True
    cum, freq = (bounds.T for bounds in lanes.encode(ids.T.copy(), restart))
    expected = on_numba.session(3).intervals(ids)
    assert digest(cum[::2], freq[::2]) == digest(*(bounds[::2] for bounds in expected))
    assert digest(cum[1:2, :40], freq[1:2, :40]) == digest(*(b[1:2, :40] for b in expected))
    anew = on_numba.session(1).intervals(ids[1:2, 40:])
    assert digest(cum[1:2, 40:], freq[1:2, 40:]) == digest(*anew)


@pytest.mark.parametrize("name", PARTS)
def test_all_symbols_of_a_part(name: str, tokenizer: Tokenizer) -> None:
    """As a decoder sees them, behind a block of known ones."""
    weights = changed(PARTS[name], tokenizer, 4)
    engines = Engine(weights, bytes(32)), TorchEngine(weights, bytes(32), CPU)
    sessions = [engine.session(2) for engine in engines]
    ids = prose_ids(tokenizer, 2, 20)
    assert digest(*sessions[0].intervals(ids)) == digest(*sessions[1].intervals(ids))
    for previous in (ids[:, 0], ids[:, 5], ids[:, 9]):
        expected, found = (session.weights(previous.copy()) for session in sessions)
        assert digest(found) == digest(expected)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset(name: str, tokenizer: Tokenizer) -> None:
    """The graph of each, small, as it is behind an export; windows wrap."""
    config = dataclasses.replace(reduced(load_preset(name), tokenizer.n_symbols).model, **FOLDED)
    weights = hot_weights(config, 1)
    ids = prose_ids(tokenizer, 2, 18)
    expected = Engine(weights, bytes(32)).session(2).intervals(ids)
    found = TorchEngine(weights, bytes(32), CPU).session(2).intervals(ids)
    assert digest(*found) == digest(*expected)
