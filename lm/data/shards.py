"""Token shards, the challenge's files: a header of 256 int32, then uint16 ids.

All is little-endian; the header is ``[20240520, 1, n_tokens, 0 ...]``.  The shards of
a split, ``STEM_train_000000.bin`` and so on, are one stream of ids that is cut
anywhere, in which each document is its first id, BOS, and then its tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import (
    ConfigError,
    CorruptError,
    FormatError,
    TruncatedError,
    UnsupportedVersionError,
)
from pgolf_codec.files import replacing

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 256 * 4
MAX_SHARD_TOKENS = (1 << 31) - 1
SHARD_TOKENS = 100_000_000
"""Tokens of a full shard in the challenge's exports."""

Ids = NDArray[np.uint16]


def shard_name(stem: str, split: str, index: int) -> str:
    return f"{stem}_{split}_{index:06d}.bin"


def shard_header(n_tokens: int) -> bytes:
    header = np.zeros(HEADER_BYTES // 4, "<i4")
    header[:3] = MAGIC, VERSION, n_tokens
    return header.tobytes()


def open_shard(path: Path) -> Ids:
    """The ids of a shard, mapped and not read, (n_tokens,) uint16.

    Raises :class:`FormatError`, :class:`UnsupportedVersionError`,
    :class:`TruncatedError` or :class:`CorruptError`, with the path.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    start = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
    if not start.size or start[0] != MAGIC:
        raise FormatError(f"{path}: not a token shard: the magic number is missing")
    if len(head) < HEADER_BYTES:
        raise TruncatedError(f"{path}: ends within its header")
    if start[1] != VERSION:
        raise UnsupportedVersionError(f"{path}: version {start[1]} of token shards is unknown")
    n_tokens = int(start[2])
    expected = HEADER_BYTES + 2 * n_tokens
    if n_tokens < 0 or n_bytes > expected:
        raise CorruptError(f"{path}: {n_bytes} bytes are not those of {n_tokens} tokens")
    if n_bytes < expected:
        raise TruncatedError(f"{path}: {n_bytes} bytes of {expected}")
    if not n_tokens:
        return np.empty(0, np.uint16)
    return np.memmap(path, "<u2", "r", HEADER_BYTES, (n_tokens,))


def first_ids(path: Path, n_ids: int) -> Ids:
    """The first ids of a shard, or of a file that is nothing but uint16 ids; ``n_ids`` at most.

    Raises what :func:`open_shard` raises for a file that begins as a shard does.
    """
    with path.open("rb") as file:
        is_shard = file.read(4) == shard_header(0)[:4]
    if is_shard:
        return np.array(open_shard(path)[:n_ids])
    return np.fromfile(path, "<u2", n_ids)


def split_paths(folder: Path, split: str) -> list[Path]:
    """The shards of ``split`` ("train" or "val") in a folder, in their order.

    Raises :class:`ConfigError` if there is none, or if one between others is missing.
    """
    paths = sorted(folder.glob(f"*_{split}_[0-9][0-9][0-9][0-9][0-9][0-9].bin"))
    if not paths:
        raise ConfigError(f"{folder}: there are no shards *_{split}_000000.bin")
    stem = paths[0].name.rsplit(f"_{split}_", 1)[0]
    for index, path in enumerate(paths):
        if path.name != shard_name(stem, split, index):
            raise ConfigError(f"{folder}: {shard_name(stem, split, index)} is missing")
    return paths


class TokenStream:
    """The ids of several shards as one sequence; slices are copies, (n,) uint16.

    Stands in for the array of a single token file: it has a length and slices.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises what :func:`open_shard` raises."""
        self._shards = [open_shard(path) for path in paths]
        self._ends = np.cumsum([shard.size for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends.size else 0

    def __getitem__(self, part: slice) -> Ids:
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError("a stream of tokens has no steps but 1")
        out = np.empty(max(0, stop - start), np.uint16)
        at = start
        index = int(np.searchsorted(self._ends, start, "right"))
        while at < stop:
            shard, end = self._shards[index], int(self._ends[index])
            low = at - (end - shard.size)
            block = shard[low : low + stop - at]
            out[at - start : at - start + block.size] = block
            at, index = at + block.size, index + 1
        return out


class ShardWriter:
    """Writes one split, a full shard after the other; a context manager.

    ``paths`` and ``n_tokens`` are those of the shards that are complete.
    """

    def __init__(
        self, folder: Path, stem: str, split: str, shard_tokens: int = SHARD_TOKENS
    ) -> None:
        if not 1 <= shard_tokens <= MAX_SHARD_TOKENS:
            raise ConfigError(f"{shard_tokens} tokens a shard are not 1..{MAX_SHARD_TOKENS}")
        self.paths: list[Path] = []
        self.n_tokens: list[int] = []
        self._folder, self._stem, self._split = folder, stem, split
        self._shard_tokens = shard_tokens
        self._open = contextlib.ExitStack()
        self._file: BinaryIO | None = None
        self._fill = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish()
        else:  # what is half written is removed by ``replacing``
            self._open.__exit__(kind, error, trace)

    def append(self, ids: Ids) -> None:
        """Take the next ids (n,) of the stream, n of any size."""
        at = 0
        while at < ids.size:
            if self._file is None:
                name = shard_name(self._stem, self._split, len(self.paths))
                self._file = self._open.enter_context(replacing(self._folder / name))
                self._file.write(bytes(HEADER_BYTES))
                self._fill = 0
            block = ids[at : at + self._shard_tokens - self._fill]
            self._file.write(block.astype("<u2").tobytes())
            at, self._fill = at + block.size, self._fill + block.size
            if self._fill == self._shard_tokens:
                self._finish()

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.seek(0)
        self._file.write(shard_header(self._fill))
        self._file = None
        self._open.close()
        self.paths.append(self._folder / shard_name(self._stem, self._split, len(self.paths)))
        self.n_tokens.append(self._fill)
