"""Rows of tokens: what a step is trained on, and what a model is measured on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.data.dataset import open_dataset
from pgolf_codec.lm.data.shards import Ids, TokenStream
from pgolf_codec.lm.data.tokenizers import shard_bytes


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
    name: str


def open_tokens(folder: Path, seq_len: int) -> Tokens:
    """The files of :mod:`pgolf_codec.lm.build`, or a data set of shards.

    Raises :class:`ConfigError` if there are neither or less than a row, and what
    :func:`open_dataset` raises.
    """
    if (folder / "val.json").is_file():
        facts = json.loads((folder / "val.json").read_text())
        train: Ids | TokenStream = np.memmap(folder / "train.bin", dtype="<u2", mode="r")
        val: Ids = np.fromfile(folder / "val.bin", dtype="<u2")
        n_bytes, n_compared = facts["n_bytes"], facts.get("n_compared")
    else:
        dataset = open_dataset(folder)
        if dataset.tokenizer_file is None:
            raise ConfigError(f"{folder}: no manifest names the tokenizer, so bytes can't be told")
        train, n_compared = dataset.train, dataset.n_compared
        val = dataset.val[: len(dataset.val) // seq_len * seq_len]
        with_start = np.concatenate((np.array([BOS_ID], np.uint16), val))
        n_bytes = shard_bytes(dataset.tokenizer_file.read_bytes(), with_start)
    if len(train) < seq_len or len(val) < seq_len:
        raise ConfigError(f"{folder}: less than a row of {seq_len} tokens")
    return Tokens(
        train=train,
        val=val[: len(val) // seq_len * seq_len],
        val_bytes=n_bytes,
        n_compared=n_compared,
        name=folder.resolve().name,
    )


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
