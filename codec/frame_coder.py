"""Who codes frames: here this processor, one after another.

Frames are independent, so that a group of them may be coded in any order, side by side
(:mod:`pgolf_codec.codec.lane_coder`) or by several processes
(:mod:`pgolf_codec.codec.sharding`); the bytes of each are the same whoever does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from pgolf_codec.codec import frames
from pgolf_codec.codec.container import FrameHeader
from pgolf_codec.codec.frames import EncodedFrame
from pgolf_codec.codec.model import Model
from pgolf_codec.errors import FormatError

P = ParamSpec("P")
R = TypeVar("R")

Progress = Callable[[int], None]
"""Gets the raw bytes of a group that are done, about."""


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """A frame as it lies in an archive, and where its model is to be had."""

    header: FrameHeader
    index: int
    payload: bytes
    get_model: Callable[[], Model]
    """Called only if one is needed; raises a ``ModelError``."""


class FrameCoder(Protocol):
    """Codes groups of frames."""

    @property
    def group_bytes(self) -> int:
        """Frames are collected until they hold this many raw bytes; at least one."""
        ...

    def encode(
        self,
        raws: Sequence[bytes],
        model: Model,
        *,
        streams: int | None,
        threads: int,
        progress: Progress | None,
    ) -> list[EncodedFrame]:
        """``raws`` as frames; ``streams`` is a fixed number of streams a model frame."""
        ...

    def decode(
        self, coded: Sequence[CodedFrame], *, threads: int, progress: Progress | None
    ) -> list[bytes | FormatError]:
        """The raw bytes of each frame, or what is wrong with it."""
        ...


class OneByOne:
    """Each frame by itself, on this processor."""

    group_bytes = 1

    def encode(
        self,
        raws: Sequence[bytes],
        model: Model,
        *,
        streams: int | None,
        threads: int,
        progress: Progress | None,
    ) -> list[EncodedFrame]:
        parts = _parts(progress, map(len, raws))
        return [
            frames.encode(raw, model, streams=streams, threads=threads, progress=part)
            for raw, part in zip(raws, parts, strict=True)
        ]

    def decode(
        self, coded: Sequence[CodedFrame], *, threads: int, progress: Progress | None
    ) -> list[bytes | FormatError]:
        def decode(frame: CodedFrame, part: Progress | None) -> bytes:
            header, index = frame.header, frame.index
            return frames.decode(
                header, index, frame.payload, frame.get_model, threads=threads, progress=part
            )

        parts = _parts(progress, (frame.header.raw_bytes for frame in coded))
        return [or_error(decode, f, part) for f, part in zip(coded, parts, strict=True)]


ONE_BY_ONE = OneByOne()


def or_error(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R | FormatError:
    """What the function returns, or the :class:`FormatError` that it raises."""
    try:
        return function(*arguments, **named)
    except FormatError as error:
        return error


def _parts(progress: Progress | None, sizes: Iterable[int]) -> Iterator[Progress | None]:
    """For each of the parts of a group, its own progress."""
    start = 0
    for size in sizes:
        yield None if progress is None else lambda done, start=start: progress(start + done)  # type: ignore[misc]
        start += size
