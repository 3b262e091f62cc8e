"""Configurations and tensors that are not possible are refused by name."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_config

from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.lm.config import ModelConfig, load_recipe
from pgolf_codec.lm.integers.weights import IntegerWeights, tensor_specs

RECIPES = sorted((Path(__file__).parents[2] / "lm" / "configs").glob("*.toml"))

IMPOSSIBLE: dict[str, Any] = {
    "vocab_size": 65537,
    "n_layers": 65,
    "d_model": 4098,
    "n_heads": 0,
    "n_kv_heads": 2,
    "d_head": 9,
    "d_hidden": 8194,
    "windows": [45, 32, 0],
    "rope_dims": 12,
    "rope_base": 1.0,
    "bigram_buckets": 0,
    "bigram_dim": -2,
    "softcap": float("nan"),
}


@pytest.mark.parametrize("key", IMPOSSIBLE)
def test_impossible_values(key: str) -> None:
    values = tiny_config(300).to_dict()
    assert ModelConfig.from_dict(json.loads(json.dumps(values))) == tiny_config(300)
    with pytest.raises(ConfigError, match=key.split("_")[0]):
        ModelConfig.from_dict(values | {key: IMPOSSIBLE[key]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 4}, "windows"),
        ({"d_hidden": 43}, "not even"),
        ({"windows": [45, 32, 7.0]}, "windows is not of type"),
        ({"windows": 45}, "windows is not of type"),
        ({"d_model": True}, "d_model is not of type"),
        ({"d_model": "24"}, "d_model is not of type"),
        ({"softcap": "20"}, "softcap is not of type"),
        ({"depth": 3}, "unknown key 'depth'"),
    ],
)
def test_impossible_types(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(tiny_config(300).to_dict() | changes)


def test_missing_keys() -> None:
    values = tiny_config(300).to_dict()
    del values["d_model"]
    with pytest.raises(ConfigError, match="model config: d_model is missing"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_possible(path: Path) -> None:
    model, train = load_recipe(path)
    assert all(train.seq_len % min(window, train.seq_len) == 0 for window in model.windows)


TENSORS: list[tuple[str, Any, str]] = [
    ("embedding.q", lambda t: t.astype(np.int16), "int16"),
    ("embedding.q", lambda t: t[:-1], "embedding.q"),
    ("embedding.q", lambda t: np.where(t == t[0, 0], -128, t).astype(np.int8), "-128"),
    ("blocks.1.wo.s", lambda t: t * np.float16("nan"), "not finite"),
    ("blocks.1.mix", lambda t: t + np.float16("inf"), "not finite"),
    ("residual_frac", lambda t: t + 3, "residual_frac"),
    ("value_frac", lambda t: t - 15, "value_frac"),
    ("up_frac", lambda t: t + 15, "up_frac"),
    ("square_shift", lambda t: t + 29, "square_shift"),
    ("square_shift", lambda t: t * 0 + 25, "twice up_frac"),
]


@pytest.mark.parametrize(("name", "change", "message"), TENSORS)
def test_impossible_tensors(weights: IntegerWeights, name: str, change: Any, message: str) -> None:
    tensors = copy.copy(weights.tensors)
    tensors[name] = change(tensors[name])
    with pytest.raises(CorruptError, match=message):
        IntegerWeights(weights.config, tensors)


def test_missing_and_unknown_tensors(weights: IntegerWeights) -> None:
    without = {name: t for name, t in weights.tensors.items() if name != "smear"}
    for tensors in (without, weights.tensors | {"bias": np.zeros(3)}):
        with pytest.raises(CorruptError, match="missing or unknown"):
            IntegerWeights(weights.config, tensors)


@pytest.mark.parametrize(("switch", "value"), [("smear", "gate"), ("qk_norm", False)])
def test_switches_of_training(weights: IntegerWeights, switch: str, value: object) -> None:
    """An engine that does not know them must not code as if they were off."""
    config = dataclasses.replace(weights.config, **{switch: value})
    with pytest.raises(CorruptError, match=f"{switch} .* for training only"):
        IntegerWeights(config, weights.tensors)


def test_n_params(weights: IntegerWeights) -> None:
    specs = tensor_specs(weights.config)
    assert weights.n_params == sum(
        int(np.prod(spec.shape)) for spec in specs.values() if spec.dtype is np.int8
    )
