"""Vocabularies: tokens a byte, and what a model that counts makes of them.

    python benchmarks/tokenizers.py TRAIN TEXT [MODEL ...]    writes results/tokenizers.json

TRAIN and TEXT are files of documents; vocabularies are trained on the beginning of TRAIN,
without and with case operators.  MODELs are SentencePiece files, taken as they are and,
where they have all bytes, without their normalisation.  The model is an interpolated
trigram (Witten and Bell) over tokens, counted on TRAIN, entropy over TEXT's raw bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.data.case import fold_case
from pgolf_codec.lm.data.corpora import read_documents, utf8
from pgolf_codec.lm.data.tokenizers import (
    LosslessTokenizer,
    TextTokenizer,
    load_tokenizer,
    train_lossless,
)

RESULT = Path(__file__).resolve().parent / "results" / "tokenizers.json"
TRAIN_BYTES = 24_000_000
SAMPLE_BYTES = 8_000_000
SIZES = (256, 1024, 4096, 8192)

Ids = NDArray[np.int64]


def main(arguments: list[str]) -> None:
    train_path, text_path, *models = map(Path, arguments)
    train = documents(train_path, TRAIN_BYTES)
    sample = take(train, SAMPLE_BYTES)
    text = documents(text_path, None)
    n_bytes = sum(map(len, text))
    rows = []
    for name, make in candidates(sample, models):
        try:
            tokenizer = make()
        except CorruptError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        ids = stream(tokenizer, text)
        bits = Trigram(stream(tokenizer, train), tokenizer.n_symbols).bits(ids)
        n_tokens = int((ids != BOS_ID).sum())
        rows.append(
            {
                "name": name,
                "symbols": tokenizer.n_symbols,
                "lossless": tokenizer.lossless,
                "case": tokenizer.case,
                "tokens": n_tokens,
                "bytes_per_token": n_bytes / n_tokens,
                "trigram_bpb": bits / n_bytes,
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    results = {
        "train": train_path.name,
        "train_bytes": sum(map(len, train)),
        "sample_bytes": sum(map(len, sample)),
        "text": text_path.name,
        "text_bytes": n_bytes,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def candidates(
    sample: list[bytes], models: list[Path]
) -> list[tuple[str, Callable[[], TextTokenizer]]]:
    """Names, and how the tokenizers are made."""
    found: list[tuple[str, Callable[[], TextTokenizer]]] = []
    for size in SIZES:
        for case in (False, True) if size > 256 else (False,):
            name = f"ours {size}" + (" with case operators" if case else "")
            found.append((name, partial(trained, sample, size, case)))
    for path in models:
        found.append((path.stem, partial(load_tokenizer, path)))
        found.append((f"{path.stem}, lossless", partial(load_tokenizer, path, lossless=True)))
    return found


def trained(sample: list[bytes], size: int, case: bool) -> LosslessTokenizer:
    texts = [fold_case(data) if case else data for data in sample]
    return LosslessTokenizer(train_lossless([data.decode() for data in texts], size), case)


def documents(path: Path, n_bytes: int | None) -> list[bytes]:
    """The first documents of a file, until there are ``n_bytes``."""
    found, missing = [], n_bytes
    for document in read_documents(path):
        if missing is not None and missing <= 0:
            break
        found.append(utf8(document.text))
        missing = None if missing is None else missing - len(found[-1])
    return found


def take(data: list[bytes], n_bytes: int) -> list[bytes]:
    """The first of them that have ``n_bytes`` together."""
    return data[: int(np.searchsorted(np.cumsum([len(d) for d in data]), n_bytes)) + 1]


def stream(tokenizer: TextTokenizer, data: list[bytes]) -> Ids:
    """BOS, a document, BOS, a document ..."""
    bos = np.array([BOS_ID], np.uint16)
    runs = [run for document in data for run in (bos, tokenizer.encode(document))]
    return np.concatenate(runs).astype(np.int64)


class Counts:
    """How often each continuation followed each context, in a sorted table."""

    def __init__(self, contexts: Ids, ids: Ids, n_symbols: int) -> None:
        self._v = n_symbols
        self._keys, self._counts = np.unique(contexts * n_symbols + ids, return_counts=True)
        owners = self._keys // n_symbols
        self._contexts, first = np.unique(owners, return_index=True)
        self._totals = np.add.reduceat(self._counts, first)
        self._kinds = np.diff(np.append(first, len(owners)))

    def mix(self, contexts: Ids, ids: Ids, lower: NDArray[np.float64]) -> NDArray[np.float64]:
        """(count + kinds * lower) / (total + kinds): Witten and Bell."""
        count = find(self._keys, self._counts, contexts * self._v + ids)
        total = find(self._contexts, self._totals, contexts)
        kinds = find(self._contexts, self._kinds, contexts)
        known = total > 0
        return np.where(known, (count + kinds * lower) / np.maximum(total + kinds, 1), lower)


def find(keys: Ids, values: Ids, wanted: Ids) -> Ids:
    """The values of keys, 0 where a key is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


class Trigram:
    """Unigrams over a uniform distribution, bigrams over these, trigrams over those."""

    def __init__(self, ids: Ids, n_symbols: int) -> None:
        self._v = n_symbols
        zero = np.zeros(len(ids), np.int64)
        self._orders = [
            Counts(zero, ids, n_symbols),
            Counts(ids[:-1], ids[1:], n_symbols),
            Counts(ids[:-2] * n_symbols + ids[1:-1], ids[2:], n_symbols),
        ]

    def bits(self, ids: Ids) -> float:
        """Entropy of a stream, starts of documents not counted."""
        padded = np.concatenate((np.full(2, BOS_ID), ids))
        p = np.full(len(ids), 1 / self._v)
        contexts = (np.zeros(len(ids), np.int64), padded[1:-1])
        for order, context in zip(
            self._orders, (*contexts, padded[:-2] * self._v + padded[1:-1]), strict=True
        ):
            p = order.mix(context, ids, p)
        return float(-np.log2(p[ids != BOS_ID]).sum())


if __name__ == "__main__":
    main(sys.argv[1:])
