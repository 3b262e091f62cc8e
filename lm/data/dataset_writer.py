"""From documents to a data set of token shards: ``pgolf-codec data build``.

Workers hash and tokenize batches of documents; one process reads the inputs and writes
the shards in the order of the documents, so that the result does not depend on how
many workers there are.  The data set appears as a whole: it is written into a folder
beside its own, which takes its name at the end.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import ConfigError, RefusedError
from pgolf_codec.files import replacing
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.data.case import VERSION as CASE_VERSION
from pgolf_codec.lm.data.case import fold_case
from pgolf_codec.lm.data.corpora import SUFFIXES, Log, read_documents, utf8
from pgolf_codec.lm.data.manifest import HASH_BYTES, NAME, SPLITS, Split, document_hash, file_sha256
from pgolf_codec.lm.data.shards import SHARD_TOKENS, ShardWriter
from pgolf_codec.lm.data.tokenizers import (
    LosslessTokenizer,
    TextTokenizer,
    tokenizer_from,
    train_lossless,
)

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetOptions:
    """How documents become a data set."""

    name: str = "text"
    stem: str = "fineweb"
    """Of the shards' names; the challenge's scripts look for ``fineweb_train_*.bin``."""
    shard_tokens: int = SHARD_TOKENS
    val_share: float = 0.01
    """Of the documents, chosen by their hash: equal documents are on one side."""
    val_documents: int | None = None
    """Instead of a share, the first so many documents, as the challenge has it."""
    val_files: tuple[Path, ...] = ()
    """Instead of a share, the documents of these files."""
    keep_overlap: bool = False
    """Leave training documents that are validation documents where they are.  Training
    refuses such a data set; it is for repeating an export byte for byte."""
    case: bool = False
    """A tokenizer that is trained cuts the text behind the case operators."""
    sample_chars: int = 32_000_000
    """Characters that a new tokenizer is trained on."""
    workers: int = 1

    @property
    def wants_val(self) -> bool:
        """Whether there is to be a validation split."""
        if self.val_documents is not None:
            return self.val_documents > 0
        return bool(self.val_files) or self.val_share > 0

    def __post_init__(self) -> None:
        def need(ok: bool, why: str) -> None:
            if not ok:
                raise ConfigError(f"data build: {why}")

        need(0 <= self.val_share < 1, f"a validation share of {self.val_share} is not in 0..1")
        need(self.val_documents is None or self.val_documents >= 0, "val_documents is negative")
        need(not (self.val_files and self.val_documents is not None), "two validation splits")
        need(self.workers >= 1, "there must be a worker at least")
        need(self.sample_chars >= 1, "the sample must have a character at least")
        for what, text in (("name", self.name), ("stem", self.stem)):
            good = text.replace("-", "").replace("_", "").replace(".", "").isalnum()
            need(good and not text.startswith("."), f"the {what} {text!r} is not one for files")


class Blob(NamedTuple):
    """A tokenizer, as it is sent to workers."""

    model_file: bytes
    lossless: bool
    case: bool


class Batch(NamedTuple):
    """Documents of one input file and one of its sources, as bytes."""

    file: int
    documents: list[bytes]
    sources: list[str]


class Encoded(NamedTuple):
    """The tokens of a batch; arrays have an item a document."""

    ids: NDArray[np.uint16]
    n_ids: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    hashes: list[bytes]


@dataclass(slots=True)
class Tally:
    """What has been written of one split."""

    n_documents: int = 0
    n_tokens: int = 0
    n_bytes: int = 0


@dataclass(slots=True)
class _Sink:
    """Shards and hashes of one split, as they are written."""

    shards: ShardWriter
    hashes: BinaryIO
    digest: Any = field(default_factory=hashlib.sha256)
    tally: Tally = field(default_factory=Tally)

    def write(self, ids: NDArray[np.uint16], n_bytes: int, document: bytes) -> None:
        self.shards.append(ids)
        self.hashes.write(document)
        self.digest.update(document)
        self.tally.n_documents += 1
        self.tally.n_tokens += ids.size
        self.tally.n_bytes += n_bytes


def build_dataset(
    inputs: Sequence[Path],
    output: Path,
    tokenizer: TextTokenizer | int,
    options: DatasetOptions,
    *,
    log: Log,
    progress: Callable[[int], None] = lambda n_bytes: None,
) -> Path:
    """Write the data set of all documents of ``inputs``; returns its folder.

    ``tokenizer`` may be the size of a vocabulary that is then trained; ``progress`` is
    told the bytes of text that are done.  Raises
    :class:`ConfigError`, :class:`FormatError`, :class:`MissingPackageError`, and
    :class:`RefusedError` if ``output`` exists.
    """
    for path in (*inputs, *options.val_files):
        if not path.name.endswith(SUFFIXES):
            raise ConfigError(f"{path} is none of {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise ConfigError(f"{path} is not a file")
    if output.exists():
        raise RefusedError(output, "already exists; not overwritten")
    if isinstance(tokenizer, int):
        tokenizer = train_on_sample(inputs, tokenizer, options, log)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".pgolf-codec-{secrets.token_hex(8)}.tmp")
    try:
        _write(inputs, partial, tokenizer, options, log, progress)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output / "datasets" / options.name


def train_on_sample(
    inputs: Sequence[Path], vocab_size: int, options: DatasetOptions, log: Log
) -> LosslessTokenizer:
    """A lossless tokenizer from the first training documents of every input alike."""
    texts: list[str] = []
    held_out = _named_for_validation(inputs, options)
    share = -(-options.sample_chars // len(inputs))
    for path in inputs:
        missing = share
        for document in read_documents(path):
            if missing <= 0:
                break
            data = utf8(document.text)
            known = document_hash(data)
            if known in held_out or _is_val(known, options):
                continue
            missing -= len(document.text)
            data = fold_case(data) if options.case else data
            texts.append(data.decode("utf-8", "surrogateescape"))
    if not any(texts):
        raise ConfigError("data build: there is no text to train a tokenizer on")
    tokenizer = train_lossless(texts, vocab_size)
    log(f"tokenizer: {tokenizer.n_symbols:,} symbols from {sum(map(len, texts)):,} characters")
    return LosslessTokenizer(tokenizer, options.case)


def _named_for_validation(inputs: Sequence[Path], options: DatasetOptions) -> set[bytes]:
    """Hashes of the documents that the options name for validation; none of a share."""
    paths = options.val_files or (inputs if options.val_documents else ())
    most = None if options.val_files else options.val_documents
    documents = (document for path in paths for document in read_documents(path))
    return {document_hash(utf8(document.text)) for document in islice(documents, most)}


def _write(
    inputs: Sequence[Path],
    root: Path,
    tokenizer: TextTokenizer,
    options: DatasetOptions,
    log: Log,
    progress: Callable[[int], None],
) -> None:
    folder = root / "datasets" / options.name
    folder.mkdir(parents=True)
    model_file = tokenizer.model_file()
    model_path = root / "tokenizers" / f"{options.name}.model"
    model_path.parent.mkdir()
    model_path.write_bytes(model_file)
    files = [*options.val_files, *inputs]
    by_source: list[dict[str, Tally]] = [{} for _ in files]
    n_dropped, n_done = 0, 0
    with ExitStack() as stack:
        sinks: dict[Split, _Sink] = {}
        for split in SPLITS:
            writer = ShardWriter(folder, options.stem, split, options.shard_tokens)
            hashes = stack.enter_context(replacing(folder / f"documents_{split}.bin"))
            sinks[split] = _Sink(stack.enter_context(writer), hashes)
        val_hashes: set[bytes] = set()
        blob = _blob(tokenizer)
        for batch, encoded in _encode_all(_batches(files), blob, options.workers):
            n_done += int(encoded.n_bytes.sum())
            progress(n_done)
            ends = np.cumsum(encoded.n_ids).tolist()
            for i, end in enumerate(ends):
                document = encoded.hashes[i]
                split = _split(batch.file, document, sinks["val"].tally, options)
                if split == "val":
                    val_hashes.add(document)
                elif document in val_hashes and not options.keep_overlap:
                    n_dropped += 1
                    continue
                ids = encoded.ids[end - int(encoded.n_ids[i]) : end]
                n_bytes = int(encoded.n_bytes[i])
                sinks[split].write(ids, n_bytes, document)
                tally = by_source[batch.file].setdefault(batch.sources[i], Tally())
                tally.n_documents += 1
                tally.n_tokens += ids.size
                tally.n_bytes += n_bytes
    for split in SPLITS:
        tally = sinks[split].tally
        if not tally.n_documents and (split == "train" or options.wants_val):
            raise ConfigError(
                f"data build: no document is left for the split {split!r}: "
                f"{sinks['val'].tally.n_documents} for validation, {n_dropped} the same as these, "
                f"{sinks['train'].tally.n_documents} to train on"
            )
        log(
            f"{split}: {tally.n_documents:,} documents, {tally.n_bytes:,} bytes, "
            f"{tally.n_tokens:,} tokens in {len(sinks[split].shards.paths)} shards"
        )
    if n_dropped:
        log(f"left out: {n_dropped:,} training documents that are validation documents")
    manifest = _manifest(options, tokenizer, sinks, n_dropped)
    manifest["tokenizers"][0]["sha256"] = hashlib.sha256(model_file).hexdigest()
    manifest["sources"] = [
        {
            "file": path.name,
            "file_bytes": path.stat().st_size,
            "sha256": file_sha256(path),
            "by_source": {
                source: {"documents": t.n_documents, "bytes": t.n_bytes, "tokens": t.n_tokens}
                for source, t in sorted(tallies.items())
            },
        }
        for path, tallies in zip(files, by_source, strict=True)
    ]
    with replacing(root / NAME) as file:
        file.write(json.dumps(manifest, indent=1).encode() + b"\n")


def _manifest(
    options: DatasetOptions, tokenizer: TextTokenizer, sinks: dict[Split, _Sink], n_dropped: int
) -> dict[str, Any]:
    """The challenge's keys, then ours."""
    stats: dict[str, int] = {}
    for key, count in (
        ("docs", lambda sink: sink.tally.n_documents),
        ("files", lambda sink: len(sink.shards.paths)),
        ("tokens", lambda sink: sink.tally.n_tokens),
        ("bytes", lambda sink: sink.tally.n_bytes),
    ):
        counts = {split: count(sinks[split]) for split in SPLITS}
        stats |= {f"{key}_total": sum(counts.values())}
        stats |= {f"{key}_{split}": n for split, n in counts.items()}
    name = options.name
    return {
        "version": "pgolf-codec 1",
        "num_docs": stats["docs_total"],
        "num_val_docs": stats["docs_val"],
        "shard_size": options.shard_tokens,
        "append_eos": False,
        "tokenizers": [
            {
                "name": name,
                "kind": "sentencepiece_bpe",
                "lossless": tokenizer.lossless,
                "case_operators": CASE_VERSION if tokenizer.case else 0,
                "vocab_size": tokenizer.n_symbols,
                "bos_id": BOS_ID,
                "model_path": f"tokenizers/{name}.model",
            }
        ],
        "datasets": [
            {
                "name": name,
                "tokenizer_name": name,
                "path": f"datasets/{name}",
                "train_glob": f"datasets/{name}/{options.stem}_train_*.bin",
                "val_glob": f"datasets/{name}/{options.stem}_val_*.bin",
                "vocab_size": tokenizer.n_symbols,
                "bos_id": BOS_ID,
                "stats": stats,
                "shards": {split: _shard_entries(sinks[split].shards) for split in SPLITS},
                "documents": {
                    split: {
                        "name": f"documents_{split}.bin",
                        "bytes_a_hash": HASH_BYTES,
                        "sha256": sinks[split].digest.hexdigest(),
                    }
                    for split in SPLITS
                },
            }
        ],
        "split": {
            "by": "files"
            if options.val_files
            else "hash"
            if options.val_documents is None
            else "order",
            "val_share": options.val_share,
            "dropped": n_dropped,
        },
    }


def _shard_entries(writer: ShardWriter) -> list[dict[str, Any]]:
    return [
        {"name": path.name, "n_tokens": n_tokens, "sha256": file_sha256(path)}
        for path, n_tokens in zip(writer.paths, writer.n_tokens, strict=True)
    ]


def _split(file: int, document: bytes, val: Tally, options: DatasetOptions) -> Split:
    """Where the next document belongs; ``file`` counts the validation files first."""
    if options.val_files:
        return "val" if file < len(options.val_files) else "train"
    if options.val_documents is not None:
        return "val" if val.n_documents < options.val_documents else "train"
    return "val" if _is_val(document, options) else "train"


def _is_val(document: bytes, options: DatasetOptions) -> bool:
    """Whether a split by share takes the document for validation."""
    if options.val_files or options.val_documents is not None:
        return False
    return int.from_bytes(document[:8], "big") < options.val_share * 2.0**64


def _batches(files: Sequence[Path]) -> Iterator[Batch]:
    for index, path in enumerate(files):
        batch, n_bytes = Batch(index, [], []), 0
        for document in read_documents(path):
            data = utf8(document.text)
            batch.documents.append(data)
            batch.sources.append(document.source)
            n_bytes += len(data)
            if n_bytes >= _BATCH_BYTES:
                yield batch
                batch, n_bytes = Batch(index, [], []), 0
        if batch.documents:
            yield batch


def _encode_all(
    batches: Iterable[Batch], how: Blob, workers: int
) -> Iterator[tuple[Batch, Encoded]]:
    """Every batch with its tokens, in order; a few batches a worker are under way."""
    if workers == 1:
        tokenizer = _tokenizer(how)
        for batch in batches:
            yield batch, encode_documents(batch.documents, tokenizer)
        return
    # Fresh processes: a fork would copy whatever threads this one has.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (how,)) as pool:
        waiting: deque[tuple[Batch, Future[Encoded]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(_encode_in_worker, batch.documents)))
                if len(waiting) > 2 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def encode_documents(documents: Sequence[bytes], tokenizer: TextTokenizer) -> Encoded:
    """BOS and the tokens of each document."""
    bos = np.array([BOS_ID], np.uint16)
    runs = [np.concatenate((bos, tokenizer.encode(document))) for document in documents]
    return Encoded(
        ids=np.concatenate(runs),
        n_ids=np.array([run.size for run in runs], np.int64),
        n_bytes=np.array([len(document) for document in documents], np.int64),
        hashes=[document_hash(document) for document in documents],
    )


def _blob(tokenizer: TextTokenizer) -> Blob:
    return Blob(tokenizer.model_file(), tokenizer.lossless, tokenizer.case)


def _tokenizer(how: Blob) -> TextTokenizer:
    return tokenizer_from(how.model_file, lossless=how.lossless, case=how.case)


_worker: TextTokenizer | None = None


def _start_worker(how: Blob) -> None:
    global _worker  # noqa: PLW0603 - one tokenizer a process
    _worker = _tokenizer(how)


def _encode_in_worker(documents: list[bytes]) -> Encoded:
    assert _worker is not None
    return encode_documents(documents, _worker)
