"""Bits per byte: three sizes, counted and never estimated, over the raw bytes.

``entropy_bits``  −Σ log2 of the model's integer frequencies
``coded_bits``    what the coder wrote, with what a decoder needs to cut it into streams
``file_bytes``    what lies on disk: headers, checks, index and all

A frame that the model does not code (stored, or zstd) counts in full in each of the
three, so that entropy <= coded <= file, frame by frame.

A stream ends at the last byte that its decoder can't guess, its length being known; so
the coder alone may take a few bits less than the entropy, and the lengths are counted.

The challenge's figure is another one:

    Σ nll / ln 2  ÷  Σ bytes,     over rows of ``length`` targets, the rest left out,

nll in nats and float64; the bytes of a target are those of
:func:`pgolf_codec.lm.data.tokenizers.challenge_byte_counts`: 0 for control, unknown and unused
pieces, 1 for a byte piece, else the UTF-8 length without the leading blank, and 1 for that
blank unless the token before is one of the first kind.  So BOS costs bits and counts no
byte, and what a lossy tokenizer folds (line ends, runs of blanks, NFKC) costs nothing.
:func:`way` goes from such a claim to the size of the file, step by step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.container import Method
from pgolf_codec.codec.stream import CompressionStats

if TYPE_CHECKING:
    from pgolf_codec.eval.receipt import PredictorReceipt
    from pgolf_codec.lm.data.tokenizers import ByteCounts


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one archive; bpb is None where there is no byte to share them."""

    raw_bytes: int
    entropy_bits: float
    coded_bits: int
    file_bytes: int

    @classmethod
    def of(cls, stats: CompressionStats) -> Sizes:
        """From the accounts of an encoder."""
        payloads = stats.payload_bytes
        unmodelled_bits = 8 * (payloads[Method.STORED] + payloads[Method.ZSTD])
        return cls(
            raw_bytes=stats.raw_bytes,
            entropy_bits=stats.entropy_bits + unmodelled_bits,
            coded_bits=8 * (payloads[Method.MODEL] + payloads[Method.ADAPTED]) + unmodelled_bits,
            file_bytes=stats.file_bytes,
        )

    @property
    def bpb_entropy(self) -> float | None:
        return self._bpb(self.entropy_bits)

    @property
    def bpb_coded(self) -> float | None:
        return self._bpb(self.coded_bits)

    @property
    def bpb_file(self) -> float | None:
        """The score."""
        return self._bpb(8 * self.file_bytes)

    def _bpb(self, bits: float) -> float | None:
        return bits / self.raw_bytes if self.raw_bytes else None


def challenge_rows(ids: NDArray[Any], length: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs and targets (n_rows, length) of the token stream ``ids`` (n,).

    The first id is only an input, and what does not fill a row is left out.
    """
    n_rows = max(0, len(ids) - 1) // length
    used = ids[: n_rows * length + 1]
    return used[:-1].reshape(n_rows, length), used[1:].reshape(n_rows, length)


def challenge_bytes(
    counts: ByteCounts, inputs: NDArray[Any], targets: NDArray[Any]
) -> NDArray[np.int64]:
    """Bytes that the challenge counts for each target, given the token before it."""
    blanks = counts.leading_blank[targets] & ~counts.boundary[inputs]
    n_bytes: NDArray[np.int64] = counts.n_bytes[targets] + blanks
    return n_bytes


def challenge_bpb(nll: NDArray[Any], n_bytes: NDArray[np.int64]) -> float:
    """The challenge's score of targets with ``nll`` nats and ``n_bytes`` bytes each."""
    return math.fsum(nll.ravel().tolist()) / math.log(2) / int(n_bytes.sum())


@dataclass(frozen=True, slots=True)
class Step:
    """Part of the way from a claimed score to the size of the file."""

    name: str
    bpb: float
    """What it adds; may be negative."""
    meaning: str


def way(receipt: PredictorReceipt) -> list[Step]:
    """What lies between the claim and ``bpb_file``; the steps add up to it.

    Empty if there are no bytes, or if the claim is infinite.
    """
    n, claimed = receipt.input_bytes, receipt.claimed_bpb
    if not n or claimed is None or not math.isfinite(claimed):
        return []
    beside_bits = 8 * (receipt.order_bytes + receipt.residual_bytes)
    steps = [
        ("claimed", claimed, "claimed bits over the bytes that its author counts"),
        (
            "bytes",
            receipt.claimed_bits / n - claimed,
            f"the file has {n} bytes, {receipt.claimed_bytes} are counted",
        ),
        (
            "coding",
            (receipt.coded_bits - beside_bits - receipt.claimed_bits) / n,
            "what a decoder needs to get the same symbols",
        ),
        ("lost", 8 * receipt.residual_bytes / n, "what the tokens lose of the file"),
        ("order", 8 * receipt.order_bytes / n, "the order of the documents"),
        (
            "headers",
            (8 * receipt.file_bytes - receipt.coded_bits) / n,
            "lengths and a digest",
        ),
    ]
    return [Step(*step) for step in steps]
