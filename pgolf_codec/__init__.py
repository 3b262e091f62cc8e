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
    from collections.abc import Sequence
    from typing import Literal

    from typing_extensions import Buffer

    from pgolf_codec.codec.frame_coder import FrameCoder
    from pgolf_codec.codec.model import Model, ModelResolver
    from pgolf_codec.codec.source import Readable
    from pgolf_codec.codec.stream import ArchiveReader, ArchiveWriter, Writable
    from pgolf_codec.eval.evaluation import Evaluation
    from pgolf_codec.eval.foreign import Text
    from pgolf_codec.eval.host import Limits
    from pgolf_codec.eval.receipt import PredictorReceipt, Receipt
    from pgolf_codec.eval.report import Page
    from pgolf_codec.eval.verdict import Report
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
    "audit",
    "compress",
    "decompress",
    "evaluate",
    "load_model",
    "open",
    "report",
    "verify",
    "verify_predictor",
]


def compress(
    data: Buffer,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    device: str | None = None,
    adapt: bool | None = None,
) -> bytes:
    """Compress ``data`` into one archive, the contents of a ``.pgz`` file.

    ``data`` is any object with the buffer protocol; all bytes come back, text or
    not.  ``model`` is an embedded model's name, the path of a ``.pglm`` file or what
    :func:`load_model` gave; None is the default model.  ``threads`` is by default
    the number of CPUs; it does not change a bit of the result.  With ``adapt`` the model
    learns from the text: smaller, above all where the text is not web English, and
    somewhat slower.  ``device`` is None or ``cpu``, ``cuda``, ``cuda:1`` (docs/GPU.md); the
    processor alone adapts, and does so by default.

    Raises :class:`ModelNotFoundError`, :class:`FormatError` for a bad artifact, or
    :class:`DeviceError`.

    >>> import pgolf_codec
    >>> blob = pgolf_codec.compress(b"To be, or not to be, that is the question.")
    >>> blob == pgolf_codec.compress(bytearray(pgolf_codec.decompress(blob)), threads=1)
    True
    """
    from pgolf_codec.codec import stream

    writing = _writing_model(model, device, adapt)
    return stream.compress(data, model=writing, threads=threads, coder=_frame_coder(device))


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
    adapt: bool | None = None,
) -> ArchiveReader | ArchiveWriter:
    """Open an archive as a binary file object; one frame is in memory at a time (on a GPU:
    many).

    ``file`` is a path or a binary file object, which is not closed.  Reading to the
    end checks everything that :func:`decompress` checks and raises the same errors.
    What is written is an archive only after ``close()``; a path takes the new
    contents then, and never if an exception leaves the ``with`` block.  Mode ``x``
    refuses to overwrite.  ``adapt`` is as in :func:`compress`.

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
        writing = _writing_model(model, device, adapt)
        return stream.open_archive(
            file, mode, model=writing, threads=threads, streams=streams, coder=coder
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
    adapt: bool = True,
) -> Receipt:
    """Compress, decompress in a fresh process, compare; every claim in one receipt.

    ``text`` is a path, or the bytes themselves.  The other process is given the
    archive and the artifact, nothing else.  ``adapt`` is as in :func:`compress`.

    Raises :class:`VerificationError`, with the receipt as its ``receipt``, when a
    claim does not hold.

    >>> import pgolf_codec
    >>> receipt = pgolf_codec.verify(b"To be, or not to be, that is the question.")
    >>> receipt.verified, receipt.bpb_file == 8 * receipt.file_bytes / receipt.input_bytes
    (True, True)
    """
    from pgolf_codec.eval.verify import verify

    return verify(text, model=model, threads=threads, adapt=adapt)


def verify_predictor(
    predictor: str,
    text: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    by_documents: bool = False,
    claimed_bpb: float | None = None,
    limits: Limits | None = None,
) -> PredictorReceipt:
    """Settle anyone's scoring function: code, decode in a process without the text, compare.

    ``predictor`` is ``package.module:factory`` or ``FILE.py:factory`` (docs/REFEREE.md);
    ``by_documents`` says that ``text`` is the path of a ``.jsonl`` or ``.jsonl.zst`` corpus,
    ``claimed_bpb`` is the score to compare with, by default what the predictor's own
    probabilities say, and ``limits`` those of each process.

    Raises :class:`VerificationError`, with the receipt as its ``receipt``, when a claim
    does not hold, and :class:`PredictorError` when the predictor fails.

    >>> import pgolf_codec
    >>> receipt = pgolf_codec.verify_predictor("pgolf_codec.eval.ngrams:NGrams", b"spam " * 9)
    >>> receipt.verified, receipt.n_symbols_coded
    (True, 45)
    """
    from pgolf_codec.eval.foreign import verify_predictor

    found = _text(text, by_documents)
    return verify_predictor(predictor, found, claimed_bpb=claimed_bpb, limits=limits)


def audit(
    predictor: str,
    text: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    by_documents: bool = False,
    n_symbols: int = 512,
    tolerance_bits: float = 0.01,
    seed: int = 0,
    manifest: str | os.PathLike[str] | None = None,
    max_bytes: int | None = None,
    limits: Limits | None = None,
) -> Report:
    """Find the rule that a scoring function breaks, and the first place where it shows.

    ``n_symbols`` of the text's beginning are looked at; a probability may move by
    ``tolerance_bits`` when something changes that it must not depend on; ``manifest`` is a
    file with the SHA-256 of training documents, ``max_bytes`` what the decoder may need.
    The rest is as for :func:`verify_predictor`, which alone settles a score.

    Raises :class:`PredictorError` if the predictor fails on the text itself, and
    :class:`FormatError` for a manifest without hashes.

    >>> import pgolf_codec
    >>> report = pgolf_codec.audit("pgolf_codec.eval.ngrams:NGrams", b"spam " * 9)
    >>> report.broken, report.findings
    ((), ())
    """
    from pathlib import Path

    from pgolf_codec.eval.audit import audit, read_manifest

    return audit(
        predictor,
        _text(text, by_documents),
        n_symbols=n_symbols,
        tolerance_bits=tolerance_bits,
        seed=seed,
        manifest=None if manifest is None else read_manifest(Path(manifest)),
        max_bytes=max_bytes,
        limits=limits,
    )


def evaluate(
    text: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    model: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    by_documents: bool = False,
    join: bool = False,
    carry: bool = False,
    context: int | None = None,
    stride: int | None = None,
    adapt: bool | None = None,
    floats: bool = False,
    tune: Literal["full", "low-rank"] | None = None,
    rank: int | None = None,
    optimizer: Literal["sgd", "adam"] | None = None,
    rate: float | None = None,
    chunk: int | None = None,
    after_document: bool = False,
    passes: int | None = None,
    threads: int | None = None,
) -> Evaluation:
    """What a model says of a text, in any contexts, learning or not; nothing is coded.

    ``model`` is an embedded model's name, a ``.pglm`` file or a checkpoint of ``train``, which
    needs its ``tokenizer``.  Documents (``by_documents`` as for :func:`verify_predictor`) are
    read each by itself, unless contexts ``join`` them or what was learned is ``carry``-ed on.
    ``context`` and ``stride`` are of windows; without them contexts roll on.  ``adapt`` is as in
    :func:`compress`.  With ``floats`` it is the float graph that is asked, and may ``tune``
    itself at test time, score first: docs/REFEREE.md has the rest, and the ``proof`` of the
    result is the command that settles its score.

    Raises :class:`ConfigError` for what does nothing together, and what reading the model raises.

    >>> import pgolf_codec
    >>> found = pgolf_codec.evaluate(b"To be, or not to be, that is the question.", context=8)
    >>> found.bpb_entropy == found.entropy_bits / found.input_bytes, found.stride
    (True, 4)
    >>> found.proof.startswith("pgolf-codec verify --predictor")
    True
    """
    from pgolf_codec.eval.evaluation import evaluate
    from pgolf_codec.eval.settings import Settings

    settings = Settings(
        model=None if model is None else os.fspath(model),
        tokenizer=None if tokenizer is None else os.fspath(tokenizer),
        floats=floats,
        join=join,
        carry=carry,
        context=context,
        stride=stride,
        adapt=adapt,
        tune=tune,
        rank=rank,
        optimizer=optimizer,
        rate=rate,
        chunk=chunk,
        after_document=after_document,
        passes=passes,
    )
    return evaluate(settings, _text(text, by_documents), threads=threads)


def report(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | Receipt,
    *,
    text: str | os.PathLike[str] | None = None,
    model: ArtifactModel | str | os.PathLike[str] | None = None,
    predictor: str | None = None,
    by_documents: bool = False,
    limits: Limits | None = None,
    prime: Sequence[str | os.PathLike[str]] = (),
    threads: int | None = None,
) -> Page:
    """One HTML page, which needs nothing else, that shows where the bits of a text went.

    ``source`` is a text, coded and decoded for this as by :func:`verify`; or a receipt, which
    is drawn alone or, with the path of its ``text``, in full.  With ``predictor`` it is that
    function which codes, as by :func:`verify_predictor`, whose receipt shows the text only if
    its predictor is named here, too; ``by_documents`` and ``limits`` are as there.  ``prime``
    names files of text of the same kind: the page then compares with zstd that has a
    dictionary of them, as large as the model.  The page is the ``html`` of the result; its
    ``receipt`` says whether the text came back.

    Raises :class:`RefusedError` for a text that is not the receipt's, or a priming file
    with some of the text in it, and :class:`PredictorError`.

    >>> import pgolf_codec
    >>> page = pgolf_codec.report(b"To be, or not to be, that is the question.")
    >>> page.html[:15], page.receipt.verified
    ('<!DOCTYPE html>', True)
    """
    from pgolf_codec.eval.receipt import Receipt
    from pgolf_codec.eval.report import report, report_predictor, report_receipt

    if predictor is not None and (model is not None or threads is not None):
        raise TypeError("model and threads don't go with a predictor")
    if isinstance(source, Receipt):
        if text is None and (predictor is not None or by_documents):
            raise TypeError("with a receipt, predictor and by_documents need its text")
        return report_receipt(
            source,
            "receipt",
            text=_text(text, by_documents) if text is not None and by_documents else text,
            model=model,
            predictor=predictor,
            limits=limits,
            prime=prime,
            threads=threads,
        )
    if text is not None:
        raise TypeError("text goes with a receipt")
    if predictor is not None:
        return report_predictor(predictor, _text(source, by_documents), limits=limits, prime=prime)
    if by_documents or limits is not None:
        raise TypeError("by_documents and limits go with a predictor")
    return report(source, model=model, prime=prime, threads=threads)


def _model(model: Model | str | os.PathLike[str] | None) -> Model:
    """The model to write with."""
    return load_model(model) if model is None or isinstance(model, str | os.PathLike) else model


def _text(
    text: str | os.PathLike[str] | bytes | bytearray | memoryview, by_documents: bool
) -> Text:
    """What a predictor is to code."""
    from pathlib import Path

    from pgolf_codec.eval.foreign import Text

    if isinstance(text, str | os.PathLike):
        return Text.read(Path(text), by_documents=by_documents)
    if by_documents:
        raise TypeError("documents are read from a file")
    return Text((bytes(text),))


def _writing_model(
    model: Model | str | os.PathLike[str] | None, device: str | None, adapt: bool | None
) -> Model:
    from pgolf_codec.devices import adapting

    return adapting(_model(model), device, adapt)


def _frame_coder(device: str | None) -> FrameCoder:
    from pgolf_codec.devices import frame_coder

    return frame_coder(device)


def _resolver(model: Model | str | os.PathLike[str] | None) -> Model | ModelResolver:
    """The model to read with; without one, whichever the archive asks for."""
    if model is None:
        from pgolf_codec.models import find_by_fingerprint

        return find_by_fingerprint
    return _model(model)
