"""Verification of anyone's predictor: coded by one process, decoded by another.

The first process has the predictor and the text, the second the predictor and the
archive.  Both make the same calls in the same order, one pass, so a float predictor
repeats itself on the same machine; on another one it need not.
"""

from __future__ import annotations

import hashlib
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pgolf_codec
from pgolf_codec.errors import PredictorError, VerificationError
from pgolf_codec.eval.bpb import Sizes
from pgolf_codec.eval.host import Host, Limits
from pgolf_codec.eval.receipt import PREDICTOR_CLAIMS, PredictorReceipt
from pgolf_codec.eval.verify import ARCHIVE, Decoded, Encoded, check

Progress = Callable[[int], None]
"""Called with the raw bytes that are done, about."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is to be coded: documents, in their order, and the file they come from."""

    documents: tuple[bytes, ...]
    path: Path | None = None

    @property
    def data(self) -> bytes:
        return b"".join(self.documents)

    @property
    def lengths(self) -> list[int]:
        return [len(document) for document in self.documents]

    @property
    def hidden(self) -> list[Path]:
        """What the decoding process must not see."""
        return [] if self.path is None else [self.path]

    @classmethod
    def read(cls, path: Path, *, by_documents: bool = False) -> Text:
        """A file as one document, or a corpus file (``.jsonl``, ``.jsonl.zst``) as many.

        Raises :class:`FormatError` for what is no corpus file.
        """
        if not by_documents:
            return cls((path.read_bytes(),), path)
        from pgolf_codec.lm.data import read_documents

        texts = (document.text for document in read_documents(path))
        return cls(tuple(text.encode("utf-8", "surrogatepass") for text in texts), path)


@dataclass(frozen=True, slots=True)
class Files:
    """Files that a process needs, each with its size and SHA-256."""

    entries: Mapping[Path, tuple[int, str]]

    @classmethod
    def of(cls, host: Host) -> Files:
        """What Python code opened there, the predictor's source, and what it declares."""
        names = {host.about["source"], *host.about["declared_files"], *host.ask("files")["files"]}
        entries = {}
        for path in sorted({Path(name).resolve() for name in names}):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise PredictorError(f"{path}: {error.strerror}, but it is needed") from None
            entries[path] = (len(data), hashlib.sha256(data).hexdigest())
        return cls(entries)

    @property
    def n_bytes(self) -> int:
        return sum(size for size, _ in self.entries.values())

    def fingerprint(self, earlier: Files | None = None) -> str:
        """Of all contents; those that ``earlier`` has, too, as they were then."""
        known = {} if earlier is None else earlier.entries
        digests = [known.get(path, entry)[1] for path, entry in self.entries.items()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def verify_predictor(
    spec: str,
    text: Text,
    *,
    claimed_bpb: float | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> PredictorReceipt:
    """Code ``text`` with the predictor that ``spec`` names, decode it elsewhere, compare.

    Raises :class:`VerificationError`, with the receipt, when a claim does not hold, and
    :class:`PredictorError` when the predictor fails before there is an archive.
    """
    with Host(spec, limits) as host:
        start = time.perf_counter()
        packed = host.ask("pack", _scaled(progress, text), data=text.data, lengths=text.lengths)
        seconds = time.perf_counter() - start
        claim = Claim.of(host, text, packed["stepped_bits"], claimed_bpb)
        files = Files.of(host)
        about = host.about
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-") as folder:
        archive = Path(folder) / ARCHIVE
        archive.write_bytes(packed["archive"])
        encoded = _encoded(text, packed, archive.stat().st_size, seconds)
        decoded, needed = decode_elsewhere(spec, archive, text, limits, progress)
    receipt = settle(spec, text, encoded, decoded, claim, packed, about, needed or files, files)
    if not receipt.verified:
        why = f" ({receipt.decoder_error})" if receipt.decoder_error else ""
        raise VerificationError(f"does not hold: {', '.join(receipt.failed)}{why}", receipt)
    return receipt


def decode_elsewhere(
    spec: str, archive: Path, text: Text, limits: Limits | None, progress: Progress | None
) -> tuple[Decoded, Files | None]:
    """Let a fresh process, which can't see the text, decode; and what it needed to do so."""
    try:
        with Host(spec, limits, hidden=text.hidden) as host:
            start = time.perf_counter()
            answer = host.ask("unpack", _scaled(progress, text), archive_bytes=archive.read_bytes())
            seconds = time.perf_counter() - start
            files = Files.of(host)
    except PredictorError as error:
        return Decoded("", 0, "", 0.0, error=str(error)), None
    same = answer["lengths"] == text.lengths
    digest = hashlib.sha256(answer["data"]).hexdigest() if same else "other documents"
    return Decoded(digest, len(answer["data"]), "", seconds), files


@dataclass(frozen=True, slots=True)
class Claim:
    """The score that the predictor's author would report."""

    bits: float
    n_bytes: int

    @classmethod
    def of(cls, host: Host, text: Text, stepped_bits: float, bpb: float | None) -> Claim:
        """Given, or stated by the predictor, or what its own evaluation gives."""
        bpb = host.about["claimed_bpb"] if bpb is None else bpb
        if bpb is not None:
            return cls(bpb * len(text.data), len(text.data))
        answer = host.ask("claim", data=text.data, lengths=text.lengths)
        bits = stepped_bits if answer["bits"] is None else answer["bits"]
        return cls(float(bits), int(answer["counted_bytes"]))

    @property
    def bpb(self) -> float | None:
        return self.bits / self.n_bytes if self.n_bytes else None


def settle(
    spec: str,
    text: Text,
    encoded: Encoded,
    decoded: Decoded,
    claim: Claim,
    packed: Mapping[str, Any],
    about: Mapping[str, Any],
    needed: Files,
    files: Files,
) -> PredictorReceipt:
    """Facts and claims into one receipt."""
    now, then = needed.fingerprint(), needed.fingerprint(files)
    decoded = Decoded(decoded.sha256, decoded.n_bytes, now, decoded.seconds, decoded.error)
    beside_bits = 8 * (packed["order_bytes"] + packed["residual_bytes"])
    slack_bits = rounding_bits(packed["n_symbols_coded"], about["n_symbols"])
    claims = check(encoded, decoded, then) | {
        "claim_is_coded": encoded.sizes.coded_bits - beside_bits <= claim.bits + slack_bits,
        "claim_divides_by_the_file": claim.n_bytes <= encoded.n_bytes,
    }
    assert claims.keys() == PREDICTOR_CLAIMS.keys()
    sizes = encoded.sizes
    return PredictorReceipt(
        input_sha256=encoded.sha256,
        input_bytes=encoded.n_bytes,
        model_name=spec,
        model_fingerprint=now,
        model_bytes=needed.n_bytes,
        entropy_bits=sizes.entropy_bits,
        coded_bits=sizes.coded_bits,
        file_bytes=sizes.file_bytes,
        bpb_entropy=sizes.bpb_entropy,
        bpb_coded=sizes.bpb_coded,
        bpb_file=sizes.bpb_file,
        decoder_sha256=decoded.sha256,
        decoder_error=decoded.error,
        versions=versions(),
        encode_seconds=encoded.seconds,
        decode_seconds=decoded.seconds,
        verified=all(claims.values()),
        claims=claims,
        claimed_bits=claim.bits,
        claimed_bytes=claim.n_bytes,
        claimed_bpb=claim.bpb,
        n_documents=len(text.documents),
        n_symbols_coded=packed["n_symbols_coded"],
        order_bytes=packed["order_bytes"],
        residual_bytes=packed["residual_bytes"],
        isolation=about["isolation"],
    )


def rounding_bits(n_symbols_coded: int, n_symbols: int) -> float:
    """What integer frequencies and the coder may add to float probabilities.

    A unit of 2**-24 for each of V symbols costs at most V · 2**-24 / ln 2 bits a symbol
    coded; rounding and the end of the stream are covered by the rest.
    """
    return 64 + n_symbols_coded * (1.5 * n_symbols / (1 << 24) + 1e-4)


def versions() -> dict[str, str | int]:
    """Of what float probabilities may depend on."""
    return {
        "pgolf_codec": pgolf_codec.__version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "platform": platform.platform(),
    }


def _encoded(text: Text, packed: Mapping[str, Any], disk_bytes: int, seconds: float) -> Encoded:
    data = text.data
    return Encoded(
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=len(data),
        sizes=Sizes(
            raw_bytes=sum(text.lengths),
            entropy_bits=packed["entropy_bits"],
            coded_bits=packed["coded_bits"],
            file_bytes=len(packed["archive"]),
        ),
        disk_bytes=disk_bytes,
        seconds=seconds,
    )


def _scaled(progress: Progress | None, text: Text) -> Progress | None:
    """Symbols are told; bytes are wanted.  Without knowing, symbols count as bytes."""
    if progress is None:
        return None
    most = sum(text.lengths)
    return lambda n_done: progress(min(n_done, most))
