"""Lossless text compression with small language models.

>>> import pgolf_codec
>>> text = "The house stood on a hill, and the road to it was long. ".encode() * 20
>>> blob = pgolf_codec.compress(text)
>>> pgolf_codec.decompress(blob) == text
True

Functions import what they need when they are called: ``import pgolf_codec`` costs
milliseconds.  Every error that is raised on purpose is a
:class:`~pgolf_codec.errors.PgolfError`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pgolf_codec.errors import (
    ConfigError,
    CorruptError,
    DeviceError,
    FormatError,
    ModelError,
    ModelNotFoundError,
    NotAnArchiveError,
    OutputLimitError,
    PgolfError,
    PredictorError,
    RefusedError,
    TruncatedError,
    UnsupportedVersionError,
    VerificationError,
    WrongModelError,
)

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Buffer

    from pgolf_codec.codec.frame_coder import FrameCoder
    from pgolf_codec.codec.model import Model, ModelResolver
    from pgolf_codec.codec.source import Readable
    from pgolf_codec.codec.stream import ArchiveReader, ArchiveWriter, Writable
    from pgolf_codec.eval.receipt import Receipt
    from pgolf_codec.eval.verify import ArtifactModel

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "CorruptError",
    "DeviceError",
    "FormatError",
    "ModelError",
    "ModelNotFoundError",
    "NotAnArchiveError",
    "OutputLimitError",
    "PgolfError",
    "PredictorError",
    "RefusedError",
    "TruncatedError",
    "UnsupportedVersionError",
    "VerificationError",
    "WrongModelError",
    "__version__",
    "compress",
    "decompress",
    "load_model",
    "open",
    "verify",
]


def compress(
    data: Buffer,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> bytes:
    """Compress ``data`` into one archive, the contents of a ``.pgz`` file.

    ``data`` is any object with the buffer protocol; all bytes come back, text or
    not.  ``model`` is an embedded model's name, the path of a ``.pglm`` file or what
    :func:`load_model` gave; None is the default model.  ``threads`` is by default
    the number of CPUs; it does not change a bit of the result, and neither does
    ``device``: None or ``cpu``, ``cuda``, ``cuda:1`` (docs/GPU.md).

    Raises :class:`ModelNotFoundError`, :class:`FormatError` for a bad artifact, or
    :class:`DeviceError`.

    >>> import pgolf_codec
    >>> blob = pgolf_codec.compress(b"To be, or not to be, that is the question.")
    >>> blob == pgolf_codec.compress(bytearray(pgolf_codec.decompress(blob)), threads=1)
    True
    """
    from pgolf_codec.codec import stream

    return stream.compress(data, model=_model(model), threads=threads, coder=_frame_coder(device))


def decompress(
    blob: Buffer,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    max_output_bytes: int | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> bytes:
    """The bytes that were given to :func:`compress`, or an error: never other bytes.

    Without ``model`` the one that the archive names is taken from the embedded
    models.  Set ``max_output_bytes`` for archives that you did not make.

    Raises :class:`NotAnArchiveError`, :class:`UnsupportedVersionError`,
    :class:`CorruptError`, :class:`TruncatedError`, :class:`WrongModelError`,
    :class:`ModelNotFoundError` or, before memory is spent, :class:`OutputLimitError`.

    >>> import pgolf_codec
    >>> blob = pgolf_codec.compress(b"spam " * 1000)
    >>> len(pgolf_codec.decompress(blob, max_output_bytes=5000))
    5000
    >>> pgolf_codec.decompress(blob[:-1])
    Traceback (most recent call last):
        ...
    pgolf_codec.errors.TruncatedError: ...
    """
    from pgolf_codec.codec import stream

    return stream.decompress(
        blob,
        model=_resolver(model),
        max_output_bytes=max_output_bytes,
        threads=threads,
        coder=_frame_coder(device),
    )


def open(
    file: str | os.PathLike[str] | Readable | Writable,
    mode: Literal["r", "rb", "w", "wb", "x", "xb"] = "rb",
    *,
    model: Model | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    streams: int | None = None,
    device: str | None = None,
) -> ArchiveReader | ArchiveWriter:
    """Open an archive as a binary file object; one frame is in memory at a time (on a GPU:
    many).

    ``file`` is a path or a binary file object, which is not closed.  Reading to the
    end checks everything that :func:`decompress` checks and raises the same errors.
    What is written is an archive only after ``close()``; a path takes the new
    contents then, and never if an exception leaves the ``with`` block.  Mode ``x``
    refuses to overwrite.

    >>> import io, pgolf_codec
    >>> file = io.BytesIO()
    >>> with pgolf_codec.open(file, "wb") as archive:
    ...     for line in range(3):
    ...         _ = archive.write(b"another line of text\\n")
    >>> _ = file.seek(0)
    >>> with pgolf_codec.open(file) as archive:
    ...     sum(1 for line in archive)
    3
    """
    from pgolf_codec.codec import stream

    coder = _frame_coder(device)
    if mode not in ("r", "rb"):
        return stream.open_archive(
            file, mode, model=_model(model), threads=threads, streams=streams, coder=coder
        )
    return stream.open_archive(file, mode, model=_resolver(model), threads=threads, coder=coder)


def load_model(model: str | os.PathLike[str] | None = None) -> ArtifactModel:
    """Load an embedded model by its name, or a ``.pglm`` file by its path.

    None is the default model.  Loading once and passing the result on saves time
    when many small texts are compressed.

    Raises :class:`ModelNotFoundError`, or :class:`FormatError` for a bad artifact.

    >>> import pgolf_codec
    >>> model = pgolf_codec.load_model()
    >>> len(model.predictor.fingerprint)
    32
    """
    from pgolf_codec.models import load_model

    return load_model(model)


def verify(
    text: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    model: ArtifactModel | str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Receipt:
    """Compress, decompress in a fresh process, compare; every claim in one receipt.

    ``text`` is a path, or the bytes themselves.  The other process is given the
    archive and the artifact, nothing else.

    Raises :class:`VerificationError`, with the receipt as its ``receipt``, when a
    claim does not hold.

    >>> import pgolf_codec
    >>> receipt = pgolf_codec.verify(b"To be, or not to be, that is the question.")
    >>> receipt.verified, receipt.bpb_file == 8 * receipt.file_bytes / receipt.input_bytes
    (True, True)
    """
    from pgolf_codec.eval.verify import verify

    return verify(text, model=model, threads=threads)


def _model(model: Model | str | os.PathLike[str] | None) -> Model:
    """The model to write with."""
    return load_model(model) if model is None or isinstance(model, str | os.PathLike) else model


def _frame_coder(device: str | None) -> FrameCoder:
    from pgolf_codec.devices import frame_coder

    return frame_coder(device)


def _resolver(model: Model | str | os.PathLike[str] | None) -> Model | ModelResolver:
    """The model to read with; without one, whichever the archive asks for."""
    if model is None:
        from pgolf_codec.models import find_by_fingerprint

        return find_by_fingerprint
    return _model(model)
