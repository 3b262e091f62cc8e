"""What an archive holds, and what can be saved of a damaged one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pgolf_codec.codec import frames
from pgolf_codec.codec.container import (
    FORMAT_VERSION,
    HEADER_BYTES,
    MIN_FOOTER_BYTES,
    TRAILER_BYTES,
    Footer,
    FrameHeader,
    Header,
    Method,
)
from pgolf_codec.codec.model import Model, ModelResolver
from pgolf_codec.codec.source import BufferFile, Source
from pgolf_codec.codec.stream import ModelChoice, as_bytes_view, located, read_header
from pgolf_codec.codec.workers import default_threads
from pgolf_codec.errors import CorruptError, FormatError


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """One frame as its header describes it; the payload has not been looked at."""

    index: int
    offset: int
    """Of the frame's first byte in the file."""
    n_bytes: int
    """In the file, header included."""
    method: Method
    raw_start: int
    """Of the frame's first byte in the archive's original."""
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One archive; a file holds one or more."""

    offset: int
    n_bytes: int
    numerics_version: int
    frame_bytes: int
    fingerprint: bytes
    """The first 8 bytes of the model's."""
    frames: tuple[FrameInfo, ...]
    raw_bytes: int
    digest: bytes
    """The first 16 bytes of the SHA-256 of the original."""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """All archives of one file."""

    members: tuple[MemberInfo, ...]

    @property
    def n_bytes(self) -> int:
        return sum(member.n_bytes for member in self.members)

    @property
    def raw_bytes(self) -> int:
        return sum(member.raw_bytes for member in self.members)


@dataclass(frozen=True, slots=True)
class SalvagedFrame:
    """One frame of a damaged archive: its bytes, or what is wrong with it."""

    index: int
    """Within its archive."""
    offset: int
    """In the file."""
    raw_start: int
    """Where the bytes belong in the whole output."""
    raw_bytes: int | None
    """None for all that follows, where not even the size is known."""
    data: bytes | None
    error: FormatError | None


def inspect(file: Any) -> ArchiveInfo:
    """Walk over a path, a buffer or a binary file (a pipe too) without decoding.

    Headers, index and sizes are checked, payloads and digest are not; no model is
    needed.  Raises a :class:`FormatError`.
    """
    with _opened(file) as opened:
        source = Source(opened)
        members = [_inspect_member(source, first=True)]
        while not source.at_end():
            members.append(_inspect_member(source, first=False))
    return ArchiveInfo(tuple(members))


def salvage(
    file: Any, *, model: Model | ModelResolver, threads: int | None = None
) -> Iterator[SalvagedFrame]:
    """Every frame of a damaged archive in order, decoded or with its error.

    ``file`` is a path, a buffer or a seekable binary file.  If the footer is whole,
    its index finds the frames behind a damaged frame header; if not, reading stops at
    the first place where no frame begins, and a last item without size says so.
    The digest of the whole is not checked.  Raises ``ModelError`` if a frame
    needs a model that is not there, and :class:`FormatError` if a header is damaged.
    """
    models = ModelChoice(model)
    threads = threads or default_threads()
    with _opened(file) as opened:
        raw_start = 0
        for start, end, footer in _find_members(opened):
            found = _walked(opened, end) if footer is None else _indexed(opened, start, footer)
            for header, index, offset, raw_bytes, frame, payload, error in found:
                data = None
                if frame is not None:
                    try:
                        data = frames.decode(
                            frame,
                            index,
                            payload,
                            lambda header=header: models.get(header),  # type: ignore[misc]
                            threads=threads,
                        )
                    except FormatError as problem:
                        error = problem
                if error is not None:
                    error = located(error, index, offset, header.frame_bytes)
                yield SalvagedFrame(index, offset, raw_start, raw_bytes, data, error)
                raw_start += raw_bytes or 0


def _inspect_member(source: Source, *, first: bool) -> MemberInfo:
    start = source.offset
    header = read_header(source, first)
    found: list[FrameInfo] = []
    raw_start = 0
    while True:
        offset, index = source.offset, len(found)
        try:
            frame = FrameHeader.read(source.read, header.frame_bytes)
            if frame is None:
                break
            source.skip(frame.payload_bytes)
        except FormatError as error:
            raise located(error, index, offset, header.frame_bytes) from error
        found.append(
            FrameInfo(
                index, offset, source.offset - offset, frame.method, raw_start, frame.raw_bytes
            )
        )
        raw_start += frame.raw_bytes
    footer = Footer.read(source.read, [frame.n_bytes for frame in found], header.frame_bytes)
    if footer.raw_bytes != raw_start:
        raise CorruptError(f"{raw_start} bytes instead of the {footer.raw_bytes} of the footer")
    return MemberInfo(
        start,
        source.offset - start,
        header.numerics_version,
        header.frame_bytes,
        header.fingerprint,
        tuple(found),
        footer.raw_bytes,
        footer.digest,
    )


_Found = tuple[Header, int, int, int | None, FrameHeader | None, bytes, FormatError | None]
"""Header of the archive; index, offset and raw size of a frame; its header and payload,
or what is wrong with them."""


def _find_members(file: BinaryIO) -> list[tuple[int, int, Footer | None]]:
    """(start, end, footer) of the archives of a file; found from its end.

    Where a footer is not whole, all before it is one piece without a footer.
    """
    members: list[tuple[int, int, Footer | None]] = []
    end = file.seek(0, os.SEEK_END)
    while True:
        footer = _read_footer_before(file, end)
        if footer is None:
            return [(0, end, None), *members] if end or not members else members
        start = end - len(footer.pack()) - sum(footer.frame_sizes) - HEADER_BYTES
        if start < 0:
            return [(0, end, None), *members]
        members.insert(0, (start, end, footer))
        end = start
        if end == 0:
            return members


def _read_footer_before(file: BinaryIO, end: int) -> Footer | None:
    if end < HEADER_BYTES + MIN_FOOTER_BYTES:
        return None
    file.seek(end - TRAILER_BYTES)
    size = int.from_bytes(file.read(4), "little")
    if not MIN_FOOTER_BYTES <= size <= end - HEADER_BYTES:
        return None
    file.seek(end - size)
    try:
        return Footer.unpack(file.read(size))
    except FormatError:
        return None


def _indexed(file: BinaryIO, start: int, footer: Footer) -> Iterator[_Found]:
    """The frames of one archive, each found by the index alone."""
    file.seek(start)
    header = read_header(Source(file, start), first=start == 0)
    if not footer.fits(header.frame_bytes):
        raise CorruptError("the footer does not agree with the header")
    offset, left = start + HEADER_BYTES, footer.raw_bytes
    for index, size in enumerate(footer.frame_sizes):
        file.seek(offset)
        source = Source(file, offset)
        raw_bytes = min(header.frame_bytes, left)
        try:
            frame = FrameHeader.read(source.read, header.frame_bytes)
            if (
                frame is None
                or frame.raw_bytes != raw_bytes
                or source.offset + frame.payload_bytes != offset + size
            ):
                raise CorruptError("the header is damaged")
            payload = source.read(frame.payload_bytes)
            yield header, index, offset, raw_bytes, frame, payload, None
        except FormatError as error:
            yield header, index, offset, raw_bytes, None, b"", error
        offset += size
        left -= raw_bytes


def _walked(file: BinaryIO, end: int) -> Iterator[_Found]:
    """The frames of the archives before ``end``, for as long as one follows the other."""
    file.seek(0)
    source = Source(file)
    while source.offset < end or not source.offset:
        header = read_header(source, first=not source.offset)
        sizes: list[int] = []
        while True:
            index, offset = len(sizes), source.offset
            try:
                frame = FrameHeader.read(source.read, header.frame_bytes)
                if frame is None:
                    Footer.read(source.read, sizes, header.frame_bytes)
                    break
                payload = source.read(frame.payload_bytes)
            except FormatError as error:
                yield header, index, offset, None, None, b"", error
                return
            yield header, index, offset, frame.raw_bytes, frame, payload, None
            sizes.append(source.offset - offset)


@contextlib.contextmanager
def _opened(file: Any) -> Iterator[BinaryIO]:
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened:
            yield opened
    elif hasattr(file, "read"):
        yield cast(BinaryIO, file)
    else:
        yield cast(BinaryIO, BufferFile(as_bytes_view(file)))
