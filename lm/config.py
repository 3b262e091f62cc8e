"""Configuration of a training run and of its data; recipes, which have all three.

A :class:`TrainConfig` and a :class:`DataConfig` say how a model was made; they are
stored as TOML in ``lm/configs`` and never reach a decoder.  The graph itself is a
:class:`~pgolf_codec.lm.model_config.ModelConfig`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.fields import from_table
from pgolf_codec.lm.model_config import BOS_ID, ModelConfig

__all__ = [
    "BOS_ID",
    "DataConfig",
    "ModelConfig",
    "TextClass",
    "TrainConfig",
    "load_data_config",
    "load_recipe",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How one model is trained; the wall-clock budget drives every schedule."""

    seed: int = 1
    seq_len: int = 1024
    """T: positions of a training row; the first input of a row is BOS."""
    batch_rows: int = 16
    minutes: float = 10.0
    """Training seconds x 60 that the schedules run over (evaluation not counted)."""
    warmdown: float = 0.6
    """The last fraction of the budget, over which learning rates fall linearly to 0."""
    warmup_steps: int = 20
    matrix_lr: float = 0.03
    """Muon's, for the matrices of the blocks."""
    embed_lr: float = 0.01
    """Adam's, for the embedding and the bigram table."""
    scalar_lr: float = 0.01
    """Adam's, for gains and mixing vectors."""
    weight_decay: float = 0.03
    momentum: float = 0.95
    checkpoint_seconds: float = 240.0
    eval_seconds: float = 600.0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raise :class:`ConfigError` on unknown, missing or ill-typed keys."""
        return from_table(cls, values, "train config")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextClass:
    """One ingredient of the training text."""

    files: str
    """Pattern of its files, relative to the folder of the corpora."""
    sources: tuple[str, ...] = ()
    """Patterns of its documents' ``source``; none takes what no class before it took."""
    share: float
    """Of the training text's bytes; documents are repeated (epochs) to reach it."""
    sample_chars: int = 0
    """Characters of it that the tokenizer is trained on."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"data config: share {self.share} is not in 0..1")
        if self.sample_chars < 0:
            raise ConfigError(f"data config: sample_chars {self.sample_chars} is negative")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raise :class:`ConfigError` on unknown, missing or ill-typed keys."""
        return from_table(cls, values, "data config")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What text a model and its tokenizer are trained and measured on."""

    classes: dict[str, TextClass]
    """By name; the order is that in which a document is offered to them."""
    total_bytes: int
    """UTF-8 bytes of the training text, repetitions included."""
    seed: int = 1
    """Of the choice and the order of documents."""
    held_out: str
    """A text file, relative to the folder of the corpora; no class may contain it."""
    tokenizer: str = "bpe"
    """Or "unigram"; the vocabulary's size is the model's."""
    sample_seed: int = 1
    sample_keep: float = 1.0
    """Probability of a document to enter the tokenizer's sample while its class needs more."""

    def __post_init__(self) -> None:
        def need(ok: bool, why: str) -> None:
            if not ok:
                raise ConfigError(f"data config: {why}")

        total = sum(c.share for c in self.classes.values())
        need(abs(total - 1) < 1e-6, f"the classes' shares sum to {total:g}, not to 1")
        need(self.total_bytes > 0, f"total_bytes {self.total_bytes} is not positive")
        need(self.tokenizer in ("bpe", "unigram"), f"tokenizer {self.tokenizer!r} is unknown")
        need(0 < self.sample_keep <= 1, f"sample_keep {self.sample_keep} is not in 0..1")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raise :class:`ConfigError` on unknown, missing or ill-typed keys."""
        tables = values.get("classes")
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            raise ConfigError("data config: classes is not a table of tables")
        classes = {name: TextClass.from_dict(table) for name, table in tables.items()}
        return from_table(cls, {**values, "classes": classes}, "data config")


def load_recipe(path: Path) -> tuple[ModelConfig, TrainConfig]:
    """Read the ``[model]`` and ``[train]`` tables of a TOML recipe."""
    return (
        ModelConfig.from_dict(_table(path, "model")),
        TrainConfig.from_dict(_table(path, "train")),
    )


def load_data_config(path: Path) -> DataConfig:
    """Read the ``[data]`` table of a TOML recipe."""
    return DataConfig.from_dict(_table(path, "data"))


def _table(path: Path, name: str) -> dict[str, Any]:
    """One table of a TOML file; raises :class:`ConfigError` if it is not there."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(name)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: there is no table [{name}]")
    return table
