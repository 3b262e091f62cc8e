"""Text to train on: reading corpora, mixing them, and writing their tokens.

A corpus is a folder of ``.jsonl`` or ``.jsonl.zst`` files (a document a line, an object
with "text" and perhaps "source"), ``.parquet`` files with such columns, and ``.txt``
files (one document each).  What is taken of it, and how often, is a function of the
files and a :class:`DataConfig`.
"""

from __future__ import annotations

import codecs
import json
import multiprocessing
import random
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import (
    ConfigError,
    FormatError,
    MissingPackageError,
    OverlapError,
    TruncatedError,
)
from pgolf_codec.files import replacing
from pgolf_codec.lm.config import DataConfig
from pgolf_codec.lm.data.manifest import fold

SEPARATOR = "\n\n"
"""Stands behind every document of the training text, as text."""

MAX_WINDOW_BYTES = 1 << 27
"""Of zstd frames: 128 MiB, the limit of ``zstd -d``."""

MIN_OVERLAP_BYTES = 64
"""Shorter documents may be in a held-out text by chance."""

SUFFIXES = (".jsonl", ".jsonl.zst", ".parquet", ".txt")

_PARQUET_ROWS = 1024
_BLOCK_BYTES = 1 << 16

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Document:
    text: str
    source: str
    """Where it came from, as its corpus calls it; the stem of a ``.txt`` file."""


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file of a corpus, and the classes whose pattern it matches."""

    path: Path
    candidates: tuple[tuple[int, tuple[str, ...]], ...]
    """(index of the class, its patterns of sources), in the order of the recipe."""

    def classify(self, source: str) -> int | None:
        """The first class that takes documents of ``source``; None if there is none."""
        for index, patterns in self.candidates:
            if not patterns or any(fnmatchcase(source, pattern) for pattern in patterns):
                return index
        return None


def corpus_files(corpora: Path, config: DataConfig) -> list[CorpusFile]:
    """The files that the classes name, sorted by their path.

    Raises :class:`ConfigError` if a class has none, or one of an unknown kind.
    """
    candidates: dict[Path, list[tuple[int, tuple[str, ...]]]] = {}
    for index, (name, text_class) in enumerate(config.classes.items()):
        paths = [path for path in corpora.glob(text_class.files) if path.is_file()]
        if not paths:
            raise ConfigError(f"data class {name}: {corpora} has no files {text_class.files}")
        for path in paths:
            if not path.name.endswith(SUFFIXES):
                raise ConfigError(f"data class {name}: {path} is none of {', '.join(SUFFIXES)}")
            candidates.setdefault(path, []).append((index, text_class.sources))
    return [CorpusFile(path, tuple(candidates[path])) for path in sorted(candidates)]


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of one file, in its order.

    Raises :class:`FormatError`, with the line or row, for what is not a document,
    :class:`TruncatedError` for zstd frames that are cut off, and
    :class:`MissingPackageError` for parquet without pyarrow.
    """
    if path.suffix == ".parquet":
        yield from _parquet_documents(path)
        return
    if path.suffix == ".txt":
        yield Document(path.read_bytes().decode("utf-8", "surrogateescape"), path.stem)
        return
    for number, line in enumerate(_lines(path), 1):
        # Some programs put a mark of the byte order in front of UTF-8.
        line = line if number > 1 else line.removeprefix(codecs.BOM_UTF8)
        yield _document(line, f"{path}:{number}")


def _document(line: bytes, where: str) -> Document:
    try:
        values = json.loads(line.decode("utf-8"))
        text, source = values["text"], values.get("source", "")
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: not UTF-8: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError(f"{where}: not an object with a text") from None
    if not isinstance(text, str) or not isinstance(source, str):
        raise FormatError(f"{where}: text or source is not a string")
    return Document(text, source)


def _parquet_documents(path: Path) -> Iterator[Document]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingPackageError(
            f"{path}: parquet needs pyarrow: pip install 'pgolf-codec[data]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            if "text" not in there:
                raise FormatError(f"{path}: there is no column text")
            columns = ["text"] + ["source"] * ("source" in there)
            row = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                texts = batch.column("text").to_pylist()
                sources = batch.column(len(columns) - 1).to_pylist()
                for text, source in zip(texts, sources, strict=True):
                    row += 1
                    source = source if len(columns) == 2 else ""
                    if not isinstance(text, str) or not isinstance(source, str):
                        raise FormatError(f"{path}, row {row}: text or source is not a string")
                    yield Document(text, source)
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(f"{path}: {error}") from None


def tokenizer_sample(corpora: Path, config: DataConfig) -> Iterator[str]:
    """Documents for the tokenizer, until every class has its ``sample_chars``."""
    rng = random.Random(config.sample_seed)
    missing = [text_class.sample_chars for text_class in config.classes.values()]
    for file in corpus_files(corpora, config):
        for document in read_documents(file.path):
            keep = rng.random() <= config.sample_keep
            index = file.classify(document.source)
            if not keep or index is None or missing[index] <= 0:
                continue
            missing[index] -= len(document.text)
            # A surrogate that JSON let through is spelled as bytes, as in the tokens.
            yield utf8(document.text + SEPARATOR).decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Shard:
    """The tokens of one corpus file, written to ``path``; arrays have an item a document."""

    path: Path
    classes: NDArray[np.int16]
    n_ids: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    """UTF-8 bytes of text, the separator included."""
    n_held_out: int
    """Documents that are in the held-out text."""


def write_training_tokens(
    corpora: Path,
    config: DataConfig,
    tokenizer: Tokenizer,
    output: Path,
    *,
    held_out: bytes = b"",
    workers: int = 1,
    log: Log,
) -> None:
    """Write the training text as uint16 little-endian ids, by ``workers`` processes.

    Raises :class:`ConfigError` or :class:`FormatError` for impossible corpora, and
    :class:`OverlapError` if documents of theirs are in the ``held_out`` text.
    """
    files = corpus_files(corpora, config)
    folded = fold(held_out)
    with tempfile.TemporaryDirectory(prefix="shards-", dir=output.parent) as folder:
        shards = []
        jobs = [(file, Path(folder) / f"{i}.bin") for i, file in enumerate(files)]
        # Fresh processes: a fork would copy whatever threads this one has.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn) as pool:
            blob = tokenizer.to_bytes()
            for shard, (file, _) in zip(
                pool.map(
                    tokenize_file,
                    [blob] * len(jobs),
                    [folded] * len(jobs),
                    *zip(*jobs, strict=True),
                ),
                jobs,
                strict=True,
            ):
                log(f"{file.path.name}: {shard.n_bytes.sum():,} bytes, {shard.n_ids.sum():,} ids")
                shards.append(shard)
        if n_held_out := sum(shard.n_held_out for shard in shards):
            raise OverlapError(
                f"{corpora}: {n_held_out} training documents are in the held-out text "
                f"{config.held_out}; a score on it says nothing"
            )
        _write_mixture(shards, config, output, log)


def tokenize_file(blob: bytes, held_out: bytes, file: CorpusFile, output: Path) -> Shard:
    """Write the ids of a corpus file's documents one after the other.

    Documents that occur in ``held_out``, a folded text, are counted.
    """
    tokenizer = Tokenizer.from_bytes(blob)
    classes, n_ids, n_bytes, n_held_out = [], [], [], 0
    with output.open("wb") as sink:
        for document in read_documents(file.path):
            index = file.classify(document.source)
            if index is None:
                continue
            data = utf8(document.text + SEPARATOR)
            n_held_out += occurs(data, held_out)
            ids = tokenizer.encode(data)
            sink.write(ids.astype("<u2").tobytes())
            classes.append(index)
            n_ids.append(len(ids))
            n_bytes.append(len(data))
    return Shard(
        output,
        np.array(classes, np.int16),
        np.array(n_ids, np.int64),
        np.array(n_bytes, np.int64),
        n_held_out,
    )


def occurs(document: bytes, folded_text: bytes) -> bool:
    """Whether a document of ``MIN_OVERLAP_BYTES`` or more is a part of a folded text."""
    # A part of its beginning tells nearly always, and need not be folded with the rest.
    start = fold(document[: 2 * MIN_OVERLAP_BYTES])[:MIN_OVERLAP_BYTES]
    if len(start) < MIN_OVERLAP_BYTES or start not in folded_text:
        return False
    return fold(document) in folded_text


def mixture(
    classes: NDArray[np.int16], n_bytes: NDArray[np.int64], config: DataConfig
) -> list[int]:
    """Indexes of documents, in the order of training; one that is repeated stands several times.

    Each class gives its documents in random order, again and again, until it has its
    share of ``total_bytes``.  Raises :class:`ConfigError` for a class without documents.
    """
    rng = random.Random(config.seed)
    sizes = n_bytes.tolist()
    picked: list[int] = []
    for index, (name, text_class) in enumerate(config.classes.items()):
        members = np.flatnonzero(classes == index).tolist()
        if not members:
            raise ConfigError(f"data class {name}: no document of its files is its own")
        wanted, got = config.total_bytes * text_class.share, 0
        while got < wanted:
            epoch = members.copy()
            rng.shuffle(epoch)
            for document in epoch:
                if got >= wanted:
                    break
                picked.append(document)
                got += sizes[document]
    rng.shuffle(picked)
    return picked


def write_held_out_tokens(text: Path, tokenizer: Tokenizer, seq_len: int, folder: Path) -> None:
    """Write ``val.bin``, whole rows of the text's ids, and ``val.json``, the bytes they stand for.

    Raises :class:`ConfigError` if the text does not fill a row.
    """
    ids = tokenizer.encode(text.read_bytes())
    ids = ids[: len(ids) // seq_len * seq_len]
    if not ids.size:
        raise ConfigError(f"{text}: less than {seq_len} tokens")
    with replacing(folder / "val.bin", overwrite=True) as file:
        file.write(ids.astype("<u2").tobytes())
    with replacing(folder / "val.json", overwrite=True) as file:
        file.write(json.dumps({"n_bytes": tokenizer.n_bytes(ids)}).encode())


def _write_mixture(shards: list[Shard], config: DataConfig, output: Path, log: Log) -> None:
    classes = np.concatenate([shard.classes for shard in shards])
    n_bytes = np.concatenate([shard.n_bytes for shard in shards])
    order = mixture(classes, n_bytes, config)
    taken = n_bytes * np.bincount(order, minlength=len(n_bytes))
    for index, name in enumerate(config.classes):
        there, got = n_bytes[classes == index].sum(), taken[classes == index].sum()
        log(f"{name}: {got:,} bytes, {got / there:.2f} epochs")
    documents = [ids for shard in shards for ids in _documents(shard)]
    n_ids = 0
    with replacing(output, overwrite=True) as file:
        for document in order:
            file.write(documents[document].tobytes())
            n_ids += len(documents[document])
    log(f"{output.name}: {n_ids:,} ids")


def _documents(shard: Shard) -> list[NDArray[np.uint16]]:
    """Views of a shard's file, an array of ids a document."""
    if not shard.n_ids.size:
        return []
    ids: NDArray[np.uint16] = np.asarray(np.memmap(shard.path, "<u2", "r"))
    return np.split(ids, np.cumsum(shard.n_ids)[:-1])


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a text file, unpacked if it is zstd's, without their ends."""
    with path.open("rb") as file:
        parts: list[bytes] = []
        for block in _unpacked(file, path) if path.suffix == ".zst" else _blocks(file):
            first, *others = block.split(b"\n")
            parts.append(first)
            for other in others:
                yield b"".join(parts)
                parts = [other]
        if last := b"".join(parts):
            yield last


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK_BYTES):
        yield block


def _unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """What the zstd frames of a file hold; the library's own reader ends where one is cut off.

    Raises :class:`FormatError` and :class:`TruncatedError`.
    """
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame = None
    try:
        for block in _blocks(file):
            rest = block
            while rest:
                frame = frame or unpacker.decompressobj()
                yield frame.decompress(rest)
                rest = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise FormatError(f"{path}: {error}") from None
    if frame is not None:
        raise TruncatedError(f"{path}: ends within a zstd frame")


def utf8(text: str) -> bytes:
    """UTF-8 of any string: bytes that were escaped come back, other surrogates are WTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
