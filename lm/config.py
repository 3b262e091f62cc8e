"""Configuration of the model and of a training run.

A :class:`ModelConfig` is part of the artifact: it is all that the integer
inference needs, beside the integers themselves, to know the graph.  A
:class:`TrainConfig` and a :class:`DataConfig` say how a model was made; they are
stored as TOML in ``lm/configs`` and never reach a decoder.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pgolf_codec.errors import ConfigError

C = TypeVar("C")

BOS_ID = 1
"""Start of a stream: "nothing is known of what came before"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The graph of a decoder-only transformer.

    Legend used in shape comments: B streams, T positions, V vocabulary,
    D width, H query heads, G key/value heads, K head dimension, F hidden width.
    """

    vocab_size: int
    """V: rows of the tied embedding, control ids included."""
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    """K: must be even; each head's keys and queries are RMS-normalised."""
    d_hidden: int
    """F: hidden width of the MLP, whose activation is LeakyReLU(1/2) squared."""
    windows: tuple[int, ...]
    """Positions that a layer's attention sees, itself included; one a layer."""
    rope_dims: int
    """The first ``rope_dims`` of each head's K dimensions are rotated."""
    rope_base: float = 1000.0
    bigram_buckets: int = 0
    """Rows of the hashed table of (previous, current) token pairs; 0 is none."""
    bigram_dim: int = 0
    softcap: float = 30.0
    """Logits are ``softcap * tanh(logit / softcap)``."""

    def __post_init__(self) -> None:
        def need(ok: bool, why: str) -> None:
            if not ok:
                raise ConfigError(f"model config: {why}")

        need(4 <= self.vocab_size <= 65536, f"vocab_size {self.vocab_size} is not in 4..65536")
        need(1 <= self.n_layers <= 64, f"n_layers {self.n_layers} is not in 1..64")
        need(8 <= self.d_model <= 4096, f"d_model {self.d_model} is not in 8..4096")
        need(1 <= self.n_heads <= 64, f"n_heads {self.n_heads} is not in 1..64")
        need(
            1 <= self.n_kv_heads <= self.n_heads and self.n_heads % self.n_kv_heads == 0,
            f"n_kv_heads {self.n_kv_heads} does not divide n_heads {self.n_heads}",
        )
        need(self.d_head in range(2, 257, 2), f"d_head {self.d_head} is not even, in 2..256")
        need(8 <= self.d_hidden <= 8192, f"d_hidden {self.d_hidden} is not in 8..8192")
        need(
            len(self.windows) == self.n_layers and all(1 <= w <= 8192 for w in self.windows),
            f"windows {self.windows} are not n_layers lengths in 1..8192",
        )
        need(
            self.rope_dims in range(0, self.d_head + 1, 2),
            f"rope_dims {self.rope_dims} is not even, in 0..d_head",
        )
        need(1.0 < self.rope_base <= 1e6, f"rope_base {self.rope_base} is not in 1..1e6")
        need(
            (self.bigram_buckets == 0) == (self.bigram_dim == 0)
            and 0 <= self.bigram_buckets <= 1 << 20
            and 0 <= self.bigram_dim <= 4096,
            f"bigram table {self.bigram_buckets} x {self.bigram_dim} is not possible",
        )
        evens = (self.d_model, self.d_hidden, self.bigram_dim)
        need(not any(n % 2 for n in evens), f"widths {evens} are not even")
        need(1.0 <= self.softcap <= 100.0, f"softcap {self.softcap} is not in 1..100")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of :meth:`from_dict`."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raise :class:`ConfigError` on unknown, missing or ill-typed keys."""
        return _from_dict(cls, values, "model config")


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
        return _from_dict(cls, values, "train config")


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
        return _from_dict(cls, values, "data config")


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
        return _from_dict(cls, {**values, "classes": classes}, "data config")


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


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_dict(cls: type[C], values: dict[str, Any], what: str) -> C:
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(f"{what}: unknown key {unknown[0]!r}")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        kind = str(fields[name].type)
        if kind == "tuple[int, ...]":
            ok = isinstance(value, list) and all(type(v) is int for v in value)
            value = tuple(value) if ok else value
        elif kind == "float":
            ok = type(value) in (int, float)
            value = float(value) if ok else value
        elif kind == "str":
            ok = isinstance(value, str)
        elif kind == "tuple[str, ...]":
            ok = isinstance(value, list) and all(isinstance(v, str) for v in value)
            value = tuple(value) if ok else value
        elif kind == "dict[str, TextClass]":
            ok = isinstance(value, dict)
        else:
            ok = type(value) is int
        if not ok:
            raise ConfigError(f"{what}: {name} is not of type {kind}")
        arguments[name] = value
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ConfigError(f"{what}: {error}") from None
