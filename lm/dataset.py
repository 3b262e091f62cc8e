"""Data sets of token shards, as training reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pgolf_codec.lm.manifest import check_no_overlap, dataset_entry, find_manifest
from pgolf_codec.lm.shards import TokenStream, split_paths


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Both splits of one data set; their ids are streams of documents that start with BOS."""

    train: TokenStream
    val: TokenStream
    tokenizer_file: Path | None
    """The SentencePiece model that the manifest names, None without a manifest."""
    n_compared: int | None
    """Training documents that were checked not to be in the validation split; None
    if no manifest states hashes of documents."""


def open_dataset(folder: Path) -> Dataset:
    """The shards in ``folder``, ``ROOT/datasets/NAME``, for training.

    Raises :class:`OverlapError` if validation documents occur in the training text,
    :class:`ConfigError` if shards are missing, :class:`FormatError` for what are none.
    """
    manifest = find_manifest(folder)
    tokenizer_file, n_compared = None, None
    if manifest is not None:
        tokenizer_file = dataset_entry(manifest, folder.resolve().name).tokenizer_file
        n_compared = check_no_overlap(manifest, folder.resolve().name)
    return Dataset(
        train=TokenStream(split_paths(folder, "train")),
        val=TokenStream(split_paths(folder, "val")),
        tokenizer_file=tokenizer_file,
        n_compared=n_compared,
    )
