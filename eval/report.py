"""A picture of where the bits of a text went, from a real encoding of it.

The text is coded and decoded as in ``verify``; the model is asked once more for the bits
of each symbol, and what it says must add up to the receipt.  :mod:`report_page` draws.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pgolf_codec
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.errors import RefusedError, VerificationError, WrongModelError
from pgolf_codec.eval.foreign import Text as Documents
from pgolf_codec.eval.foreign import verify_predictor
from pgolf_codec.eval.foreign_trace import trace_predictor
from pgolf_codec.eval.host import Limits
from pgolf_codec.eval.peers import Primed, peers, primed, read_training, ultra
from pgolf_codec.eval.receipt import PredictorReceipt, Receipt
from pgolf_codec.eval.report_page import Classical, Contents, draw
from pgolf_codec.eval.trace import Trace, trace
from pgolf_codec.eval.verify import (
    ARCHIVE,
    ARTIFACT,
    ArtifactModel,
    Encoded,
    decode_elsewhere,
    encode,
    settle,
)

Step = Callable[[str], Callable[[int], None] | None]
"""Told what begins now; may give a function that is told the raw bytes done."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and the receipt that it draws."""

    html: str
    receipt: Receipt


def report(
    text: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    model: ArtifactModel | str | os.PathLike[str] | None = None,
    prime: Sequence[str | os.PathLike[str]] = (),
    threads: int | None = None,
    step: Step | None = None,
) -> Page:
    """A real encoding, decoded by another process, and where its bits went.

    See :func:`pgolf_codec.report`.  A claim that does not hold is drawn, not raised.
    """
    step = step or _silent
    name, data = _read(text)
    training = read_training([Path(path) for path in prime], data)
    loaded = _loaded(model)
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-") as made:
        folder = Path(made)
        (folder / ARTIFACT).write_bytes(loaded.blob)
        encoded = encode(data, folder / ARCHIVE, adapted(loaded), threads, step("encode"))
        step("decode")
        receipt = settle(encoded, decode_elsewhere(folder, threads), loaded)
        traced = _traced(data, folder / ARCHIVE, loaded, encoded, threads, step)
    return _drawn(name, receipt, data, traced, training, step)


def report_receipt(
    receipt: Receipt,
    name: str,
    *,
    text: str | os.PathLike[str] | Documents | None = None,
    model: ArtifactModel | str | os.PathLike[str] | None = None,
    predictor: str | None = None,
    limits: Limits | None = None,
    prime: Sequence[str | os.PathLike[str]] = (),
    threads: int | None = None,
    step: Step | None = None,
) -> Page:
    """What a receipt alone tells; with its ``text`` all that :func:`report` shows.

    The text is coded once more, not decoded: the receipt says what came of that.  The
    receipt of a foreign predictor is drawn in full if it is named as ``predictor``, too, and
    so may be run.  Raises :class:`RefusedError` if ``text`` is not the receipt's, and
    :class:`VerificationError` if its archive has another size than the receipt says.
    """
    step = step or _silent
    if text is None:
        return Page(draw(Contents(name, receipt)), receipt)
    name, data = _read(text)
    if hashlib.sha256(data).hexdigest() != receipt.input_sha256:
        what = text.path if isinstance(text, Documents) else text
        raise RefusedError(what, "is not the text of the receipt: another SHA-256")
    if isinstance(receipt, PredictorReceipt):
        found = None
        if predictor is not None:
            documents = text if isinstance(text, Documents) else Documents((data,), Path(text))
            found = trace_predictor(
                predictor, documents, receipt, limits=limits, progress=step("trace")
            )
        return _drawn(name, receipt, data, found, read_training([*map(Path, prime)], data), step)
    training = read_training([Path(path) for path in prime], data)
    loaded = _of_receipt(model, receipt)
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-") as made:
        archive = Path(made) / ARCHIVE
        encoded = encode(data, archive, adapted(loaded), threads, step("encode"))
        if encoded.disk_bytes != receipt.file_bytes:  # perhaps one of those that do not adapt
            encoded = encode(data, archive, loaded, threads, step("encode"))
        if encoded.disk_bytes != receipt.file_bytes:
            raise VerificationError(
                f"the receipt says {receipt.file_bytes} bytes, the archive has "
                f"{encoded.disk_bytes}",
                receipt,
            )
        traced = _traced(data, archive, loaded, encoded, threads, step)
    return _drawn(name, receipt, data, traced, training, step)


def report_predictor(
    predictor: str,
    text: Documents,
    *,
    claimed_bpb: float | None = None,
    limits: Limits | None = None,
    prime: Sequence[str | os.PathLike[str]] = (),
    step: Step | None = None,
) -> Page:
    """The same of anyone's predictor: verified, then run once more for the bits of each symbol.

    A claim that does not hold is drawn, not raised.  Raises :class:`PredictorError`.
    """
    step = step or _silent
    training = read_training([Path(path) for path in prime], text.data)
    try:
        receipt = verify_predictor(
            predictor, text, claimed_bpb=claimed_bpb, limits=limits, progress=step("verify")
        )
    except VerificationError as error:
        if not isinstance(error.receipt, PredictorReceipt):
            raise
        receipt = error.receipt
    found = trace_predictor(predictor, text, receipt, limits=limits, progress=step("trace"))
    name, data = _read(text)
    return _drawn(name, receipt, data, found, training, step)


def _traced(
    data: bytes,
    archive: Path,
    model: ArtifactModel,
    encoded: Encoded,
    threads: int | None,
    step: Step,
) -> Trace:
    """The bits of every symbol; they must be the entropy that the encoder counted."""
    traced = trace(data, archive, model, threads=threads, progress=step("trace"))
    told = encoded.sizes.entropy_bits
    found = float(traced.bits.sum())
    if not math.isclose(told, found, rel_tol=1e-9, abs_tol=1e-6):
        raise RuntimeError(f"{found} bits were traced, the encoder counted {told}")
    return traced


def _drawn(
    name: str,
    receipt: Receipt,
    data: bytes,
    traced: Trace | None,
    training: Sequence[bytes],
    step: Step,
) -> Page:
    """The others measured, the page drawn."""
    step("compare")
    classical: tuple[Classical, ...] = ()
    control: Primed | None = None
    if data:
        classical = tuple(Classical(p.name, len(p.compress(data))) for p in [*peers(), ultra()])
    if data and training:
        step("prime")
        control = primed(data, training, receipt.model_bytes)
    return Page(draw(Contents(name, receipt, data, traced, classical, control)), receipt)


def _read(
    text: str | os.PathLike[str] | Documents | bytes | bytearray | memoryview,
) -> tuple[str, bytes]:
    """Name and bytes; raises :class:`RefusedError` for a directory."""
    if isinstance(text, Documents):
        return "a text" if text.path is None else text.path.name, text.data
    if isinstance(text, bytes | bytearray | memoryview):
        return "a text", bytes(text)
    if os.path.isdir(text):
        raise RefusedError(text, "is a directory")
    return os.path.basename(os.fspath(text)), Path(text).read_bytes()


def _loaded(model: ArtifactModel | str | os.PathLike[str] | None) -> ArtifactModel:
    if model is None or isinstance(model, str | os.PathLike):
        return pgolf_codec.load_model(model)
    return model


def _of_receipt(
    model: ArtifactModel | str | os.PathLike[str] | None, receipt: Receipt
) -> ArtifactModel:
    """The model that the receipt names; raises ``WrongModelError``."""
    from pgolf_codec.models import find_by_fingerprint

    if model is None:
        return find_by_fingerprint(bytes.fromhex(receipt.model_fingerprint)[:8])
    loaded = _loaded(model)
    if loaded.predictor.fingerprint.hex() != receipt.model_fingerprint:
        raise WrongModelError(
            f"the receipt is of model {receipt.model_fingerprint[:16]}, this one is "
            f"{loaded.predictor.fingerprint.hex()[:16]}"
        )
    return loaded


def _silent(name: str) -> None:
    """Tells nobody."""
