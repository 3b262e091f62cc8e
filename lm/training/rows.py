"""Rows of tokens: what a step is trained on, and what a model is measured on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.data.dataset import open_dataset
from pgolf_codec.lm.data.shards import Ids, TokenStream
from pgolf_codec.lm.data.tokenizers import shard_bytes, tokenizer_from

DIGESTED = 1 << 16
"""Training tokens that tell one data set from another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Both splits of what a model is trained on."""

    train: Ids | TokenStream
    val: Ids
    """Whole rows; each starts from BOS."""
    val_bytes: int
    """Of text, that ``val`` stands for."""
    n_compared: int | None
    """Training documents that were found not to be in ``val``; None: nobody has looked."""
    n_symbols: int | None
    """Of the tokenizer; None: not stated."""
    name: str

    @property
    def digest(self) -> str:
        """Of the validation tokens, and of how many there are to train on and the first ones."""
        digest = hashlib.sha256(f"{len(self.train)} ".encode())
        for ids in (self.train[:DIGESTED], self.val):
            digest.update(np.ascontiguousarray(ids, "<u2").tobytes())
        return digest.hexdigest()


def open_tokens(folder: Path, seq_len: int) -> Tokens:
    """The files of :mod:`pgolf_codec.lm.build`, or a data set of shards.

    Raises :class:`ConfigError` if there are neither or less than a row,
    :class:`CorruptError` for a ``val.json`` that is none, and what :func:`open_dataset` raises.
    """
    if (folder / "val.json").is_file():
        facts = _facts(folder / "val.json")
        train: Ids | TokenStream = np.memmap(folder / "train.bin", dtype="<u2", mode="r")
        val: Ids = np.fromfile(folder / "val.bin", dtype="<u2")
        n_bytes, n_compared, n_symbols = facts["n_bytes"], facts.get("n_compared"), None
    else:
        dataset = open_dataset(folder)
        if dataset.tokenizer_file is None:
            raise ConfigError(f"{folder}: no manifest names the tokenizer, so bytes can't be told")
        train, n_compared = dataset.train, dataset.n_compared
        val = dataset.val[: len(dataset.val) // seq_len * seq_len]
        with_start = np.concatenate((np.array([BOS_ID], np.uint16), val))
        model_file, case = dataset.tokenizer_file.read_bytes(), bool(dataset.case_operators)
        n_symbols = tokenizer_from(model_file, case=case).n_symbols
        n_bytes = shard_bytes(model_file, with_start, case=case)
        if len(val) and not n_bytes:
            raise ConfigError(f"{folder}: the validation split has no bytes of text")
    if len(train) < seq_len or len(val) < seq_len:
        raise ConfigError(f"{folder}: less than a row of {seq_len} tokens")
    return Tokens(
        train=train,
        val=val[: len(val) // seq_len * seq_len],
        val_bytes=n_bytes,
        n_compared=n_compared,
        n_symbols=n_symbols,
        name=folder.resolve().name,
    )


def _facts(path: Path) -> dict[str, Any]:
    """What a build, or a submission's run, says of its validation text."""
    try:
        facts = json.loads(path.read_bytes())
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or type(facts.get("n_bytes")) is not int or facts["n_bytes"] < 1:
        raise CorruptError(f"{path}: does not say how many bytes the text has")
    return facts


class Rows:
    """Training rows of ``seq_len`` targets; each is taken once before any is again."""

    def __init__(self, tokens: Ids | TokenStream, seq_len: int, seed: int) -> None:
        self.tokens, self.seq_len = tokens, seq_len
        self.order = np.random.default_rng(seed).permutation(len(tokens) // seq_len)

    def batch(self, step: int, rows: int, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs and targets (rows, T) of a step, a function of the seed and the step.

        ``part`` of its rows are read.
        """
        picks = self.order[np.arange(step * rows, (step + 1) * rows) % len(self.order)][part]
        t = self.seq_len
        return with_inputs(np.stack([self.tokens[i * t : (i + 1) * t] for i in picks.tolist()]))


def with_inputs(targets: Ids) -> tuple[Tensor, Tensor]:
    """Inputs (rows, T), each BOS and then the targets but the last, and targets; int64."""
    y = targets.astype(np.int64)
    x = np.concatenate((np.full((len(y), 1), BOS_ID), y[:, :-1]), axis=1)
    return torch.from_numpy(x), torch.from_numpy(y)
