"""Many files at once: their frames in common groups, an archive each.

A device is busy with thousands of streams at a time, more than one document has; and
several processes share the frames, not the files, so that one large file is shared too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pgolf_codec.codec.frame_coder import CodedFrame, FrameCoder
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.source import Source
from pgolf_codec.codec.stream import (
    DEFAULT_FRAME_BYTES,
    ArchiveWriter,
    CompressionStats,
    FrameRead,
    ModelChoice,
    Progress,
    open_archive,
    read_frames,
)
from pgolf_codec.errors import FormatError
from pgolf_codec.files import naming

T = TypeVar("T")


class Job(NamedTuple):
    """A file to compress."""

    source: Path
    target: Path | None
    """The archive to write; None writes nothing."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """One file of a batch."""

    job: Job
    stats: CompressionStats
    frame_digests: list[str]
    """SHA-256 of each frame's raw bytes."""
    sha256: str
    """Of the whole file."""


def compress_files(
    jobs: Iterable[Job],
    *,
    model: Model,
    coder: FrameCoder,
    threads: int,
    streams: int | None = None,
    frame_bytes: int = DEFAULT_FRAME_BYTES,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Iterator[Compressed]:
    """Write an archive for each file: the bytes that it would have by itself.

    An archive takes its name when it is complete; an error leaves the rest unwritten.
    """
    n_done = 0
    writer: ArchiveWriter | None = None
    try:
        for group in _grouped(_raw_frames(jobs, frame_bytes), _raw_size, coder.group_bytes):
            raws = [raw for _, raw in group if raw is not None]
            encoded = iter(
                coder.encode(raws, model, streams=streams, threads=threads, progress=None)
            )
            for job, raw in group:
                if writer is None:
                    writer = _writer(job, model, frame_bytes, overwrite)
                    digests, whole = [], hashlib.sha256()
                with naming(job.target):
                    if raw is None:
                        writer.close()
                    else:
                        writer.put(raw, next(encoded))
                if raw is not None:
                    digests.append(digest(raw))
                    whole.update(raw)
                else:
                    n_done += writer.stats.raw_bytes
                    if progress is not None:
                        progress(n_done)
                    yield Compressed(job, writer.stats, digests, whole.hexdigest())
                    writer = None
    finally:
        if writer is not None:
            writer.abort()


def decode_share(
    archives: Sequence[Path],
    *,
    model: Model,
    coder: FrameCoder,
    threads: int,
    rank: int = 0,
    size: int = 1,
) -> Iterator[tuple[int, int, bytes]]:
    """Every ``size``-th frame of all archives, from frame ``rank`` on.

    Yields the number of the archive, that of the frame, and its bytes, whose checks hold.
    The index and the digest of an archive are not checked here.  Raises
    :class:`FormatError` and :class:`ModelError`.
    """
    models = ModelChoice(model)
    for group in _grouped(_share(archives, models, rank, size), _coded_size, coder.group_bytes):
        coded = [frame for _, frame in group]
        raws = coder.decode(coded, threads=threads, progress=None)
        for (archive, frame), raw in zip(group, raws, strict=True):
            if isinstance(raw, FormatError):
                raise type(raw)(f"{archives[archive]}: frame {frame.index}: {raw}")
            yield archive, frame.index, raw


def digest(raw: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def _raw_frames(jobs: Iterable[Job], frame_bytes: int) -> Iterator[tuple[Job, bytes | None]]:
    """The frames of each file, and None behind the last."""
    for job in jobs:
        with job.source.open("rb") as file:
            while raw := file.read(frame_bytes):
                yield job, raw
        yield job, None


def _share(
    archives: Sequence[Path], models: ModelChoice, rank: int, size: int
) -> Iterator[tuple[int, CodedFrame]]:
    n_frames = 0
    for i, path in enumerate(archives):
        with path.open("rb") as file:
            for item in read_frames(Source(file), models, None):
                if isinstance(item, FrameRead):
                    if n_frames % size == rank:
                        yield i, item.coded
                    n_frames += 1


def _raw_size(item: tuple[Job, bytes | None]) -> int:
    return len(item[1] or b"")


def _coded_size(item: tuple[int, CodedFrame]) -> int:
    return item[1].header.raw_bytes


def _grouped(items: Iterable[T], sizes: Callable[[T], int], n_bytes: int) -> Iterator[list[T]]:
    """Lists of items that hold at least ``n_bytes`` raw bytes, but for the last."""
    group: list[T] = []
    waiting = 0
    for item in items:
        group.append(item)
        waiting += sizes(item)
        if waiting >= n_bytes:
            yield group
            group, waiting = [], 0
    if group:
        yield group


def _writer(job: Job, model: Model, frame_bytes: int, overwrite: bool) -> ArchiveWriter:
    if job.target is None:
        return ArchiveWriter(_Nowhere(), model=model, frame_bytes=frame_bytes)
    mode: Literal["wb", "xb"] = "wb" if overwrite else "xb"
    writer = open_archive(job.target, mode, model=model, frame_bytes=frame_bytes)
    assert isinstance(writer, ArchiveWriter)
    return writer


class _Nowhere:
    def write(self, data: bytes, /) -> int:
        return len(data)
