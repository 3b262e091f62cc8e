"""Data sets of token shards, as training reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pgolf_codec.errors import OverlapError
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.data.manifest import HASH_BYTES, check_no_overlap, dataset_entry, find_manifest
from pgolf_codec.lm.data.shards import Ids, TokenStream, split_paths

_BLOCK_TOKENS = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Both splits of one data set; their ids are streams of documents that start with BOS."""

    train: TokenStream
    val: TokenStream
    tokenizer_file: Path | None
    """The SentencePiece model that the manifest names, None without a manifest."""
    case_operators: int
    """Version of :mod:`pgolf_codec.lm.data.case` that the text is written with; 0: none."""
    n_compared: int | None
    """Training documents that were checked not to be in the validation split; None
    if no manifest states hashes of documents."""


def open_dataset(folder: Path) -> Dataset:
    """The shards in ``folder``, ``ROOT/datasets/NAME``, for training; or a ROOT with only one.

    Raises :class:`OverlapError` if validation documents occur in the training text,
    :class:`ConfigError` if shards are missing, :class:`FormatError` for what are none.
    """
    manifest = find_manifest(folder)
    tokenizer_file, case_operators, n_compared = None, 0, None
    if manifest is not None:
        is_root = manifest.parent == folder and (folder / "datasets").is_dir()
        entry = dataset_entry(manifest, None if is_root else folder.resolve().name)
        folder = entry.folder if is_root else folder
        tokenizer_file, case_operators = entry.tokenizer_file, entry.case_operators
        n_compared = check_no_overlap(manifest, entry.name)
    return Dataset(
        train=TokenStream(split_paths(folder, "train")),
        val=TokenStream(split_paths(folder, "val")),
        tokenizer_file=tokenizer_file,
        case_operators=case_operators,
        n_compared=n_compared,
    )


def check_tokens(folder: Path) -> int:
    """The number of training documents, none of which has the tokens of a validation document.

    For shards whose manifest states no hashes; reads all of both splits.  Raises
    :class:`OverlapError`, and what :func:`split_paths` and :class:`TokenStream` raise.
    """
    val = {_digest(document) for document in documents(TokenStream(split_paths(folder, "val")))}
    n_documents, shared = 0, []
    for document in documents(TokenStream(split_paths(folder, "train"))):
        if _digest(document) in val:
            shared.append(n_documents)
        n_documents += 1
    if shared:
        raise OverlapError(
            f"{folder}: {len(shared)} of {n_documents} training documents have the tokens of "
            f"validation documents, the first is number {shared[0]}; a score on them says nothing"
        )
    return n_documents


def documents(stream: TokenStream) -> Iterator[Ids]:
    """The ids (n,) of each document, BOS included, in order."""
    rest = np.empty(0, np.uint16)
    for start in range(0, len(stream), _BLOCK_TOKENS):
        ids = np.concatenate((rest, stream[start : start + _BLOCK_TOKENS]))
        starts = np.flatnonzero(ids == BOS_ID)
        *whole, rest = np.split(ids, starts)
        yield from (document for document in whole if document.size)
    if rest.size:
        yield rest


def _digest(document: Ids) -> bytes:
    return hashlib.sha256(document.tobytes()).digest()[:HASH_BYTES]
