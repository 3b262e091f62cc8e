"""Configuration of a training run and of its data; recipes, which have all three.

A :class:`TrainConfig` and a :class:`DataConfig` say how a model was made; they are
stored as TOML in ``lm/configs`` and never reach a decoder.  The graph itself is a
:class:`~pgolf_codec.lm.model_config.ModelConfig`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.fields import from_table, to_plain
from pgolf_codec.lm.model_config import BOS_ID, ModelConfig

NEWTON_SCHULZ = ("quintic", "polar")
"""Iterations of :mod:`pgolf_codec.lm.training.optim`."""

INITS = ("normal", "orthogonal")
"""Of matrices, by :meth:`~pgolf_codec.lm.floats.model.Transformer.init_weights`."""

MAX_SEED = 1 << 64
"""What torch's generators take."""

TABLES = ("model", "train", "export", "data")
"""Of a recipe."""

CADENCE = (
    *("minutes", "iterations", "micro_rows"),
    *("checkpoint_seconds", "eval_seconds", "log_steps"),
)
"""Keys of ``[train]`` that may change between a checkpoint and its continuation."""

__all__ = [
    "BOS_ID",
    "CADENCE",
    "DataConfig",
    "ModelConfig",
    "TextClass",
    "TrainConfig",
    "load_data_config",
    "load_recipe",
    "with_settings",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How one model is trained; the wall-clock budget drives every schedule.

    The *factor* below is that of all learning rates: it rises over ``warmup_steps``, and
    falls linearly to 0 over the warmdown.
    """

    seed: int = 1
    """Of the weights at first and of the order of the rows."""
    seq_len: int = 1024
    """T: positions of a training row; the first input of a row is BOS."""
    batch_rows: int = 16
    """Rows a step, over all ranks."""
    micro_rows: int = 0
    """Rows of one forward pass of a rank, whose gradients are added up; 0: its whole share."""
    minutes: float = 10.0
    """Training seconds / 60 that the schedules run over (compiling, validating not counted)."""
    iterations: int = 0
    """Steps that end the run before its time, and drive the schedules; 0: time alone does."""
    warmdown: float = 0.6
    """The last fraction of the budget, over which learning rates fall linearly to 0."""
    warmup_steps: int = 20

    init: str = "normal"
    """Of matrices: "normal" or "orthogonal"."""
    embedding_std: float = 0.02
    qk_gain: float = 1.5

    matrix_lr: float = 0.03
    """Muon's, for the matrices of the blocks."""
    embed_lr: float = 0.01
    """Adam's, for the embedding and other tables."""
    head_lr: float = 0.01
    """Adam's, for heads that are not tied to the embedding."""
    scalar_lr: float = 0.01
    """Adam's, for gains and mixing vectors."""

    momentum: float = 0.95
    """Muon's."""
    momentum_start: float = 0.0
    """Muon's at first; it rises linearly over ``momentum_warmup_steps``; 0: none of this."""
    momentum_warmup_steps: int = 0
    newton_schulz: str = "quintic"
    """Coefficients of Muon's iteration, of :data:`NEWTON_SCHULZ`."""
    newton_schulz_steps: int = 5
    row_beta: float = 0.0
    """Memory of the mean square of each row of Muon's updates, which they are divided by
    (NorMuon); 0: they are not."""
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: float = 1e-10
    grad_clip: float = 0.0
    """Largest norm of all gradients together; 0: any."""

    weight_decay: float = 0.03
    """Of what Muon trains, a unit of learning rate."""
    adam_weight_decay: float = 0.0
    """Of what Adam trains, scalars not."""
    weight_decay_taper: float = 0.0
    """Weight decay is multiplied by factor ** taper, so that it ends before the run does."""

    ema: float = 0.0
    """Memory a step of the running mean of the weights, which is what is kept; 0: no mean."""
    swa_every: int = 0
    """Steps between the weights whose plain mean is kept; 0: no mean."""
    swa_at: float = 0.2
    """Factor below which they are collected."""

    qat_at: float = 0.0
    """Factor below which the model is trained as it will be rounded; 0: never."""
    qat_bits: int = 6
    """Of weights: 2**bits - 1 levels over 2 * 12.85 standard deviations of a row."""
    qat_activations: bool = False
    """Whether activations are rounded too, to 8 bits."""

    checkpoint_seconds: float = 240.0
    eval_seconds: float = 600.0
    log_steps: int = 20

    def __post_init__(self) -> None:
        def need(ok: bool, why: str) -> None:
            if not ok:
                raise ConfigError(f"train config: {why}")

        for name in ("seq_len", "batch_rows", "warmup_steps", "newton_schulz_steps", "log_steps"):
            need(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is not positive")
        for name in ("minutes", "warmdown"):
            need(getattr(self, name) > 0, f"{name} {getattr(self, name)} is not positive")
        for name in (
            *("seed", "micro_rows", "iterations", "momentum_warmup_steps", "swa_every"),
            *("matrix_lr", "embed_lr", "head_lr", "scalar_lr", "grad_clip", "adam_eps"),
            *("weight_decay", "adam_weight_decay", "weight_decay_taper"),
            *("checkpoint_seconds", "eval_seconds", "swa_at", "qat_at", "embedding_std"),
        ):
            need(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")
        for name in ("momentum", "momentum_start", "row_beta", "adam_beta1", "adam_beta2", "ema"):
            need(0 <= getattr(self, name) < 1, f"{name} {getattr(self, name)} is not in 0..1")
        need(self.seed < MAX_SEED, f"seed {self.seed} is not below {MAX_SEED}")
        need(
            self.newton_schulz in NEWTON_SCHULZ,
            f"newton_schulz {self.newton_schulz!r} is not one of {', '.join(NEWTON_SCHULZ)}",
        )
        need(self.init in INITS, f"init {self.init!r} is not one of {', '.join(INITS)}")
        need(not (self.ema and self.swa_every), "ema and swa_every exclude each other")
        need(2 <= self.qat_bits <= 8, f"qat_bits {self.qat_bits} is not in 2..8")

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


def with_settings(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """``config`` with ``key=value`` for some keys, the values as in TOML.

    Raises :class:`ConfigError` for what is not of that form or not possible.
    """
    values = {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    for setting in settings:
        try:
            values.update(tomllib.loads(setting))
        except ValueError:
            raise ConfigError(f"{setting!r} is not KEY=VALUE with a value of TOML") from None
    return TrainConfig.from_dict(values)


def load_data_config(path: Path) -> DataConfig:
    """Read the ``[data]`` table of a TOML recipe."""
    return DataConfig.from_dict(_table(path, "data"))


def _table(path: Path, name: str) -> dict[str, Any]:
    """One table of a recipe; raises :class:`ConfigError` if it is not there, or another is."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if unknown := sorted(set(recipe) - set(TABLES)):
        raise ConfigError(f"{path}: unknown table or key {unknown[0]!r}")
    table = recipe.get(name)
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: there is no table [{name}]")
    return table
