"""Recipes by name: the files of ``lm/configs``."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import ModelConfig, TrainConfig, load_recipe
from pgolf_codec.lm.export_config import ExportConfig, load_export_config

SMALL = {"d_model": 32, "d_head": 8, "rank": 12, "table": 8, "buckets": 64, "window": 16}
"""Sizes of :func:`reduced`."""


class Preset(NamedTuple):
    """A recipe as it is read; its data, if it has any, apart."""

    model: ModelConfig
    train: TrainConfig
    export: ExportConfig


def preset_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = resources.files("pgolf_codec.lm") / "configs"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def preset_path(name: str) -> Path:
    """A recipe by its name or its path; raises :class:`ConfigError` with the names there are."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in (names := preset_names()):
        raise ConfigError(f"no preset {name!r}; there are {', '.join(names)}, or a .toml file")
    with resources.as_file(resources.files("pgolf_codec.lm") / "configs" / f"{name}.toml") as path:
        return path


def load_preset(name: str) -> Preset:
    """A recipe by its name or its path.  Raises :class:`ConfigError`."""
    path = preset_path(name)
    model, train = load_recipe(path)
    return Preset(model, train, load_export_config(path))


def reduced(preset: Preset, vocab_size: int) -> Preset:
    """The same switches, layers and shares of heads in a model of some thousand parameters."""
    m, t = preset.model, preset.train
    n_heads = min(m.n_heads, 4)
    d_model, d_head = SMALL["d_model"], SMALL["d_head"]

    def small(n: int, size: str) -> int:
        return SMALL[size] if n else 0

    model = dataclasses.replace(
        m,
        vocab_size=vocab_size,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=max(1, m.n_kv_heads * n_heads // m.n_heads),
        d_head=d_head,
        d_hidden=m.d_hidden * d_model // m.d_model // 2 * 2,
        windows=tuple(min(window, SMALL["window"]) for window in m.windows),
        rope_dims=m.rope_dims * d_head // m.d_head // 2 * 2,
        bigram_buckets=small(m.bigram_buckets, "buckets"),
        bigram_dim=small(m.bigram_dim, "table"),
        value_dim=small(m.value_dim, "table"),
        embedding_rank=small(m.embedding_rank, "rank"),
        attention_rank=small(m.attention_rank, "rank"),
        mlp_rank=small(m.mlp_rank, "rank"),
    )
    train = dataclasses.replace(
        t, seq_len=2 * SMALL["window"], batch_rows=2, micro_rows=0, iterations=2, minutes=1.0
    )
    export = dataclasses.replace(
        preset.export, max_bytes=0, states=min(preset.export.states, 4), calibration_rows=4
    )
    return Preset(model, train, export)
