"""Archives as files: write, read, compress, decompress.

A writer holds one frame of raw bytes, a reader one frame; both work on pipes.
Several archives one behind another read as one, as with xz and zstd.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from pgolf_codec.codec.container import (
    DIGEST_BYTES,
    FINGERPRINT_BYTES,
    MAX_FRAME_LOG2,
    MIN_FRAME_LOG2,
    Footer,
    FrameHeader,
    Header,
    Method,
)
from pgolf_codec.codec.frame_coder import ONE_BY_ONE, CodedFrame, FrameCoder
from pgolf_codec.codec.frames import EncodedFrame
from pgolf_codec.codec.model import Model, ModelResolver
from pgolf_codec.codec.payload import MAX_STREAMS
from pgolf_codec.codec.source import BufferFile, Readable, Source
from pgolf_codec.codec.workers import default_threads
from pgolf_codec.errors import (
    ConfigError,
    CorruptError,
    FormatError,
    ModelError,
    NotAnArchiveError,
    OutputLimitError,
    PgolfError,
    UnsupportedVersionError,
    WrongModelError,
)
from pgolf_codec.files import replacing

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEFAULT_FRAME_BYTES = 1 << 20

Progress = Callable[[int], None]
"""Called now and then, in the caller's thread, with the raw bytes done so far."""


class Writable(Protocol):
    """Anything with ``write`` that takes all it is given, or says how much it took."""

    def write(self, data: bytes, /) -> int | None: ...


@dataclass(slots=True)
class CompressionStats:
    """Where the bytes of an archive went."""

    raw_bytes: int = 0
    file_bytes: int = 0
    """The whole archive."""
    n_tokens: int = 0
    """Tokens that the model coded."""
    entropy_bits: float = 0.0
    """-log2(freq / 2**24), summed over these tokens."""
    coded_bits: int = 0
    """What the range coder wrote for them."""
    n_frames: Counter[Method] = field(default_factory=Counter)
    payload_bytes: Counter[Method] = field(default_factory=Counter)
    raw_bytes_by_method: Counter[Method] = field(default_factory=Counter)

    @property
    def framing_bytes(self) -> int:
        """Header, footer, frame headers and the sizes of streams."""
        others = self.payload_bytes[Method.STORED] + self.payload_bytes[Method.ZSTD]
        return self.file_bytes - self.coded_bits // 8 - others


def as_bytes_view(data: Buffer) -> memoryview:
    """Any object with a buffer as flat bytes; ``TypeError`` for everything else."""
    view = memoryview(data)
    if view.nbytes == 0:
        return memoryview(b"")
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


class ArchiveWriter(io.BufferedIOBase):
    """A binary file that compresses what is written to it.

    Only :meth:`close` makes the archive complete; a writer that is left by an
    exception, or forgotten, leaves a file that every reader calls truncated (or,
    opened by name, no file at all).
    """

    def __init__(
        self,
        sink: Writable,
        *,
        model: Model,
        threads: int | None = None,
        streams: int | None = None,
        frame_bytes: int = DEFAULT_FRAME_BYTES,
        coder: FrameCoder = ONE_BY_ONE,
        progress: Progress | None = None,
    ) -> None:
        """``sink`` stays open.  ``streams`` is a fixed number of streams a model frame.

        Raises :class:`ConfigError` on impossible sizes.
        """
        self.stats = CompressionStats()
        self._failed = False
        self._owner: contextlib.ExitStack | None = None  # of the sink, if we opened it
        self._sink = sink
        if frame_bytes not in (1 << n for n in range(MIN_FRAME_LOG2, MAX_FRAME_LOG2 + 1)):
            raise ConfigError(
                f"frames of {frame_bytes} bytes: not a power of two in "
                f"2**{MIN_FRAME_LOG2}..2**{MAX_FRAME_LOG2}"
            )
        if streams is not None and not 1 <= streams <= MAX_STREAMS:
            raise ConfigError(f"{streams} streams: not in 1..{MAX_STREAMS}")
        if model.tokenizer.n_symbols != model.predictor.n_symbols:
            raise ModelError(f"model {model.name}: tokenizer and predictor do not fit")
        self._model = model
        self._threads = threads or default_threads()
        self._streams = streams
        self._frame_bytes = frame_bytes
        self._coder = coder
        self._progress = progress
        self._pending = bytearray()
        self._group: list[bytes] = []  # full frames that wait for more
        self._frame_sizes: list[int] = []
        self._digest = hashlib.sha256()
        predictor = model.predictor
        self._put(
            Header(
                predictor.numerics_version, frame_bytes, predictor.fingerprint[:FINGERPRINT_BYTES]
            ).pack()
        )

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        """Take all of ``data`` (any buffer); frames are coded as they fill up."""
        if self.closed:
            raise ValueError("write to a closed archive")
        view = as_bytes_view(data)
        at = 0
        while at < len(view):
            taken = min(len(view) - at, self._frame_bytes - len(self._pending))
            self._pending += view[at : at + taken]
            at += taken
            if len(self._pending) == self._frame_bytes:
                self._end_frame()
                if len(self._group) * self._frame_bytes >= self._coder.group_bytes:
                    self._write_group()
        return len(view)

    def close(self) -> None:
        """Write what is left and the footer; the archive is complete after this."""
        if self._failed:
            raise ValueError("the archive is not complete: an earlier write has failed")
        if self.closed:
            return
        try:
            if self._pending:
                self._end_frame()
            if self._group:
                self._write_group()
            footer = Footer(
                self.stats.raw_bytes, self._frame_sizes, self._digest.digest()[:DIGEST_BYTES]
            )
            self._put(footer.pack())
            if self._owner is not None:
                owner, self._owner = self._owner, None
                owner.__exit__(None, None, None)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close without completing the archive."""
        if not self.closed:
            super().close()
            if self._owner is not None:
                error = ValueError("the archive was given up")
                self._owner.__exit__(ValueError, error, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # io's own finalizer calls close(), which would bless half of the data.
        if hasattr(self, "_owner"):
            self.abort()

    def _put(self, data: bytes) -> None:
        _write_all(self._sink, data)
        self.stats.file_bytes += len(data)

    def _end_frame(self) -> None:
        self._group.append(bytes(self._pending))
        self._pending.clear()

    def _write_group(self) -> None:
        try:
            encoded = self._coder.encode(
                self._group,
                self._model,
                streams=self._streams,
                threads=self._threads,
                progress=_shifted(self._progress, self.stats.raw_bytes),
            )
            for raw, frame in zip(self._group, encoded, strict=True):
                self.put(raw, frame)
        except BaseException:
            self._failed = True  # part of a frame may be out: nothing more must follow it
            self.abort()
            raise
        self._group.clear()

    def put(self, raw: bytes, encoded: EncodedFrame) -> None:
        """Write the next frame, which somebody has coded already."""
        stats = self.stats
        header = FrameHeader.of(len(self._frame_sizes), encoded.method, encoded.payload, raw)
        packed = header.pack(self._frame_bytes) + encoded.payload
        self._put(packed)
        self._frame_sizes.append(len(packed))
        self._digest.update(raw)
        stats.raw_bytes += len(raw)
        stats.n_frames[encoded.method] += 1
        stats.payload_bytes[encoded.method] += len(encoded.payload)
        stats.raw_bytes_by_method[encoded.method] += len(raw)
        if encoded.model is not None:
            stats.n_tokens += encoded.model.n_tokens
            stats.entropy_bits += encoded.model.entropy_bits
            stats.coded_bits += encoded.model.coded_bits
        if self._progress is not None:
            self._progress(stats.raw_bytes)


class ArchiveReader(io.BufferedIOBase):
    """A binary file that decompresses an archive, or several in a row.

    What it hands out has passed its frame's checks; the end of the data is reported
    only after size, index and digest of the footer have been found right.
    """

    def __init__(
        self,
        source: Readable,
        *,
        model: Model | ModelResolver,
        threads: int | None = None,
        max_output_bytes: int | None = None,
        coder: FrameCoder = ONE_BY_ONE,
        progress: Progress | None = None,
        close_source: bool = False,
    ) -> None:
        self._source = source
        self._close_source = close_source
        self._frames = _decoded_frames(
            Source(source),
            ModelChoice(model),
            coder,
            threads=threads or default_threads(),
            max_output_bytes=max_output_bytes,
            progress=progress,
        )
        self._frame = memoryview(b"")
        self._error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def read1(self, size: int | None = -1) -> bytes:
        """What is left of the current frame, or the next one; ``b""`` at the end."""
        if self.closed:
            raise ValueError("read from a closed archive")
        if not self._frame and size != 0:
            self._frame = memoryview(self._next_frame())
        size = len(self._frame) if size is None or size < 0 else size
        out, self._frame = bytes(self._frame[:size]), self._frame[size:]
        return out

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, fewer at the end; all that is left if negative."""
        left = None if size is None or size < 0 else size
        parts = []
        while left is None or left > 0:
            part = self.read1(-1 if left is None else left)
            if not part:
                break
            parts.append(part)
            left = None if left is None else left - len(part)
        return b"".join(parts)

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readinto1(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._frame = memoryview(b"")
            if self._close_source:
                cast(Any, self._source).close()

    def _next_frame(self) -> bytes:
        # A generator that has raised only says "end" from then on: that would be a lie.
        if self._error is not None:
            raise self._error
        try:
            return next(self._frames, b"")
        except BaseException as error:
            self._error = error
            raise


class ModelChoice:
    """The model of an archive, looked up when first needed and checked against its header."""

    def __init__(self, model: Model | ModelResolver) -> None:
        self._model = model
        self._resolved: dict[bytes, Model] = {}

    def get(self, header: Header) -> Model:
        """Raises :class:`ModelError`, and :class:`UnsupportedVersionError` for numerics."""
        prefix = header.fingerprint
        model = self._resolved.get(prefix)
        if model is None:
            model = self._model(prefix) if callable(self._model) else self._model
        predictor = model.predictor
        if predictor.numerics_version != header.numerics_version:
            raise UnsupportedVersionError(
                f"the archive was made with numerics version {header.numerics_version}; "
                f"model {model.name} has {predictor.numerics_version}"
            )
        if predictor.fingerprint[:FINGERPRINT_BYTES] != prefix:
            raise WrongModelError(
                f"the archive was made with model {prefix.hex()}..., not with {model.name} "
                f"({predictor.fingerprint[:FINGERPRINT_BYTES].hex()}...)"
            )
        if model.tokenizer.n_symbols != predictor.n_symbols:
            raise ModelError(f"model {model.name}: tokenizer and predictor do not fit")
        self._resolved[prefix] = model
        return model


def open_archive(
    file: str | os.PathLike[str] | Readable | Writable,
    mode: Literal["r", "rb", "w", "wb", "x", "xb"] = "rb",
    *,
    model: Model | ModelResolver,
    threads: int | None = None,
    streams: int | None = None,
    frame_bytes: int = DEFAULT_FRAME_BYTES,
    max_output_bytes: int | None = None,
    coder: FrameCoder = ONE_BY_ONE,
    progress: Progress | None = None,
) -> ArchiveReader | ArchiveWriter:
    """Open an archive by name, or on an open binary file, which then stays open.

    Writing by name goes to a temporary file that takes the name on ``close()``;
    mode ``x`` refuses to overwrite.  ``streams`` and ``frame_bytes`` are for writing,
    ``max_output_bytes`` is for reading.  A writer needs the model itself.
    """
    named = isinstance(file, str | os.PathLike)
    if mode in ("r", "rb"):
        source = Path(cast(Any, file)).open("rb") if named else file  # noqa: SIM115
        return ArchiveReader(
            cast(Readable, source),
            model=model,
            threads=threads,
            max_output_bytes=max_output_bytes,
            coder=coder,
            progress=progress,
            close_source=named,
        )
    if mode not in ("w", "wb", "x", "xb"):
        raise ValueError(f"mode {mode!r} is none of rb, wb, xb")
    if not hasattr(model, "predictor"):
        raise TypeError("writing an archive needs a model, not a resolver")
    with contextlib.ExitStack() as stack:
        sink: Any = file
        if named:
            sink = stack.enter_context(replacing(Path(cast(Any, file)), overwrite="w" in mode))
        writer = ArchiveWriter(
            sink,
            model=cast(Model, model),
            threads=threads,
            streams=streams,
            frame_bytes=frame_bytes,
            coder=coder,
            progress=progress,
        )
        writer._owner = stack.pop_all()  # the writer leaves it, not this block
        return writer


def compress_stream(
    source: Readable,
    sink: Writable,
    *,
    model: Model,
    threads: int | None = None,
    streams: int | None = None,
    frame_bytes: int = DEFAULT_FRAME_BYTES,
    coder: FrameCoder = ONE_BY_ONE,
    progress: Progress | None = None,
) -> CompressionStats:
    """Compress all of ``source`` into ``sink``; tells where the bytes went."""
    with ArchiveWriter(
        sink,
        model=model,
        threads=threads,
        streams=streams,
        frame_bytes=frame_bytes,
        coder=coder,
        progress=progress,
    ) as writer:
        while block := source.read(frame_bytes):
            writer.write(block)
    return writer.stats


def compress(
    data: Buffer,
    *,
    model: Model,
    threads: int | None = None,
    streams: int | None = None,
    frame_bytes: int = DEFAULT_FRAME_BYTES,
    coder: FrameCoder = ONE_BY_ONE,
    progress: Progress | None = None,
) -> bytes:
    """One archive of ``data``: any contiguous or strided buffer, taken as its bytes."""
    view = as_bytes_view(data)
    sink = io.BytesIO()
    with ArchiveWriter(
        sink,
        model=model,
        threads=threads,
        streams=streams,
        frame_bytes=frame_bytes,
        coder=coder,
        progress=progress,
    ) as writer:
        writer.write(view)
    return sink.getvalue()


def decompress(
    blob: Buffer,
    *,
    model: Model | ModelResolver,
    threads: int | None = None,
    max_output_bytes: int | None = None,
    coder: FrameCoder = ONE_BY_ONE,
    progress: Progress | None = None,
) -> bytes:
    """The original of an archive, or of several in a row.

    Raises a :class:`FormatError` if anything about the archive is wrong, a
    :class:`ModelError` if the model is, and :class:`OutputLimitError` before more
    than ``max_output_bytes`` would be made.
    """
    reader = ArchiveReader(
        BufferFile(as_bytes_view(blob)),
        model=model,
        threads=threads,
        max_output_bytes=max_output_bytes,
        coder=coder,
        progress=progress,
    )
    return reader.read()


@dataclass(frozen=True, slots=True)
class FrameRead:
    """A frame that waits to be decoded."""

    coded: CodedFrame
    offset: int
    frame_bytes: int

    def located(self, error: FormatError) -> FormatError:
        return located(error, self.coded.index, self.offset, self.frame_bytes)


def read_frames(
    source: Source, models: ModelChoice, max_output_bytes: int | None
) -> Iterator[FrameRead | Footer]:
    """The frames of each archive, and behind them its footer."""
    total = 0
    first = True
    while first or not source.at_end():
        header = read_header(source, first)
        first = False
        frame_sizes: list[int] = []
        short = False
        while True:
            start = source.offset
            index = len(frame_sizes)
            try:
                frame = FrameHeader.read(source.read, header.frame_bytes)
                if frame is None:
                    break
                if short:
                    raise CorruptError("the frame before it is not full, so it was the last")
                total += frame.raw_bytes
                if max_output_bytes is not None and total > max_output_bytes:
                    raise OutputLimitError(f"the output is larger than {max_output_bytes} bytes")
                payload = source.read(frame.payload_bytes)
            except FormatError as error:
                raise located(error, index, start, header.frame_bytes) from error
            get_model = functools.partial(models.get, header)
            coded = CodedFrame(frame, index, payload, get_model)
            yield FrameRead(coded, start, header.frame_bytes)
            short = frame.raw_bytes < header.frame_bytes
            frame_sizes.append(source.offset - start)
        yield Footer.read(source.read, frame_sizes, header.frame_bytes)


def _decoded_frames(
    source: Source,
    models: ModelChoice,
    coder: FrameCoder,
    *,
    threads: int,
    max_output_bytes: int | None,
    progress: Progress | None,
) -> Iterator[bytes]:
    """The raw bytes of each frame of each archive, decoded in groups."""
    items = read_frames(source, models, max_output_bytes)
    digest, raw_bytes, total = hashlib.sha256(), 0, 0
    failure: PgolfError | None = None
    more = True
    while more:
        group: list[FrameRead | Footer] = []
        waiting = 0
        while not group or 0 < waiting < coder.group_bytes:
            try:
                item = next(items, None)
            except PgolfError as error:
                failure, item = error, None  # what was read before it comes first
            if item is None:
                more = False
                break
            group.append(item)
            waiting += item.coded.header.raw_bytes if isinstance(item, FrameRead) else 0
        coded = [item.coded for item in group if isinstance(item, FrameRead)]
        found = iter(coder.decode(coded, threads=threads, progress=_shifted(progress, total)))
        for item in group:
            if isinstance(item, Footer):
                _check_footer(item, raw_bytes, digest.digest())
                digest, raw_bytes = hashlib.sha256(), 0
                continue
            raw = next(found)
            if isinstance(raw, FormatError):
                raise item.located(raw) from raw
            digest.update(raw)
            raw_bytes += len(raw)
            total += len(raw)
            if progress is not None:
                progress(total)
            yield raw
    if failure is not None:
        raise failure


def _check_footer(footer: Footer, raw_bytes: int, digest: bytes) -> None:
    if footer.raw_bytes != raw_bytes:
        raise CorruptError(f"{raw_bytes} bytes instead of the {footer.raw_bytes} of the footer")
    if footer.digest != digest[:DIGEST_BYTES]:
        raise CorruptError("the digest of the output is not that of the original")


def read_header(source: Source, first: bool) -> Header:
    try:
        return Header.read(source.read)
    except NotAnArchiveError:
        if first:
            raise
        raise CorruptError(
            f"what follows the archive, at or before offset {source.offset}, is no archive"
        ) from None


def _write_all(file: Writable, data: bytes) -> None:
    """Write all of ``data``, also to raw files that take less at a time."""
    view = memoryview(data)
    while view:
        written = file.write(bytes(view) if len(view) < len(data) else data)
        view = view[len(view) if written is None else written :]


def located(error: FormatError, index: int, offset: int, frame_bytes: int) -> FormatError:
    """The same kind of error, saying which frame is meant."""
    start = index * frame_bytes
    return type(error)(
        f"frame {index} (at offset {offset}; original bytes from {start} on, at most "
        f"{frame_bytes}): {error}"
    )


def _shifted(progress: Progress | None, start: int) -> Progress | None:
    return None if progress is None else lambda done: progress(start + done)
