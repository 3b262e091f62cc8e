"""The receipt of a verification: what was measured, and which claims hold.

The three sizes, ``entropy_bits``, ``coded_bits`` and ``file_bytes``, are those of
:mod:`pgolf_codec.eval.bpb`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pgolf_codec.errors import CorruptError

CLAIMS = {
    "decoder_finished": "another process decoded the archive without an error",
    "digest_matches": "it got the bytes that went in",
    "size_matches": "it got as many bytes as went in",
    "model_matches": "it used the model that this receipt names",
    "file_size_is_on_disk": "file_bytes is the size of the archive on disk",
    "coded_covers_entropy": "entropy_bits <= coded_bits + 64",
    "file_covers_coded": "coded_bits <= 8 file_bytes",
}
"""Name and meaning of every claim."""

PREDICTOR_CLAIMS = CLAIMS | {
    "claim_is_coded": "the coder wrote no more than the claimed bits, but for rounding",
    "claim_divides_by_the_file": "the claimed score divides by no more bytes than there are",
}
"""Those of :class:`PredictorReceipt`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """Facts of one verification; bpb are bits per byte of the input, None for no input."""

    input_sha256: str
    input_bytes: int
    model_name: str
    model_fingerprint: str
    """As the artifact states and its loader checks it: a SHA-256, in hex."""
    model_bytes: int
    """Size of the artifact, which is not part of ``file_bytes``."""
    entropy_bits: float
    coded_bits: int
    file_bytes: int
    bpb_entropy: float | None
    bpb_coded: float | None
    bpb_file: float | None
    """8 file_bytes / input_bytes: the score."""
    decoder_sha256: str
    """Of what the other process got; empty if it failed."""
    decoder_error: str
    """Why it failed; empty if it did not."""
    versions: Mapping[str, str | int]
    encode_seconds: float
    decode_seconds: float
    """Of decoding alone, without the start of the process."""
    verified: bool
    """Whether every claim holds."""
    claims: Mapping[str, bool]
    """The keys are those of :data:`CLAIMS`."""

    @property
    def failed(self) -> tuple[str, ...]:
        """The claims that do not hold."""
        return tuple(name for name, holds in self.claims.items() if not holds)

    def to_json(self) -> str:
        """One JSON object, a key a line; the inverse of :meth:`from_json`."""
        return json.dumps(_plain(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raise :class:`CorruptError` for anything that :meth:`to_json` does not write."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise CorruptError(f"receipt: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise CorruptError("receipt: not a JSON object")
        kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        for name in kinds.keys() ^ values.keys():
            raise CorruptError(f"receipt: {'missing' if name in kinds else 'unknown'} key {name!r}")
        for name, kind in kinds.items():
            if not isinstance(values[name], _KINDS[kind]) or (
                isinstance(values[name], bool) and kind != "bool"
            ):
                raise CorruptError(f"receipt: {name} is not of type {kind}")
        return cls(**values)

    def describe(self) -> str:
        """For people: some twenty lines."""
        lines = [
            ("input", f"{self.input_bytes} bytes, sha256 {self.input_sha256}"),
            ("decoded", f"sha256 {self.decoder_sha256}" if self.decoder_sha256 else "nothing"),
            ("model", f"{self.model_name}, {self.model_bytes} bytes"),
            ("", f"fingerprint {self.model_fingerprint}"),
            ("entropy", f"{self.entropy_bits / 8:.1f} bytes{_bpb(self.bpb_entropy)}"),
            ("coded", f"{self.coded_bits / 8:.1f} bytes{_bpb(self.bpb_coded)}"),
            ("file", f"{self.file_bytes} bytes{_bpb(self.bpb_file)}"),
            ("encode", f"{self.encode_seconds:.2f} s"),
            ("decode", f"{self.decode_seconds:.2f} s, in a process of its own"),
            ("versions", ", ".join(f"{key} {value}" for key, value in self.versions.items())),
        ]
        if self.decoder_error:
            lines.append(("error", self.decoder_error))
        report = [f"{label:<9} {text}" for label, text in [*lines, *self._more_lines()]]
        report += [
            f"{'ok' if holds else 'FAILED':<9} {PREDICTOR_CLAIMS.get(name, name)}"
            for name, holds in self.claims.items()
        ]
        report.append("verified" if self.verified else "NOT VERIFIED")
        return "\n".join(report) + "\n"

    def _more_lines(self) -> list[tuple[str, str]]:
        return []


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictorReceipt(Receipt):
    """A receipt of a foreign predictor, with its claim beside what was coded.

    ``model_bytes`` is the size of every file that the decoding process opened;
    ``coded_bits`` has the residual and the order in it.
    """

    claimed_bits: float
    claimed_bytes: int
    """The bytes by which its author divides."""
    claimed_bpb: float | None
    n_documents: int
    n_symbols_coded: int
    order_bytes: int
    """For telling a decoder in which order documents come."""
    residual_bytes: int
    """For restoring what the predictor's tokens lose."""
    isolation: str
    """What kept its process from network, files and text."""

    def _more_lines(self) -> list[tuple[str, str]]:
        text = f"{self.claimed_bits / 8:.1f} bytes of {self.claimed_bytes}"
        from pgolf_codec.eval.bpb import way

        way_lines = [
            ("" if i else "way", f"{step.bpb:+.4f} {step.name}: {step.meaning}")
            for i, step in enumerate(way(self))
        ]
        return [
            ("claimed", f"{text}{_bpb(self.claimed_bpb)}"),
            *way_lines,
            ("symbols", f"{self.n_symbols_coded}; {self.n_documents} {_documents(self)}"),
            ("process", self.isolation),
        ]


def _documents(receipt: PredictorReceipt) -> str:
    return "document" if receipt.n_documents == 1 else "documents"


def read_receipt(text: str | bytes) -> Receipt:
    """A receipt of either kind; raises :class:`CorruptError`."""
    kind = PredictorReceipt if b'"claimed_bits"' in _utf8(text) else Receipt
    return kind.from_json(text)


def _utf8(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


_KINDS: dict[str, Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "Mapping[str, bool]": dict,
    "Mapping[str, str | int]": dict,
}


def _plain(receipt: Receipt) -> dict[str, Any]:
    values = {f.name: getattr(receipt, f.name) for f in dataclasses.fields(receipt)}
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _bpb(value: float | None) -> str:
    return "" if value is None else f", {value:.4f} bpb"
