"""Bits per byte: three sizes, counted and never estimated, over the raw bytes.

``entropy_bits``  −Σ log2 of the model's integer frequencies
``coded_bits``    what the coder wrote, with what a decoder needs to cut it into streams
``file_bytes``    what lies on disk: headers, checks, index and all

A frame that the model does not code (stored, or zstd) counts in full in each of the
three, so that entropy <= coded <= file, frame by frame.

A stream ends at the last byte that its decoder can't guess, its length being known; so
the coder alone may take a few bits less than the entropy, and the lengths are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgolf_codec.codec.container import Method
from pgolf_codec.codec.stream import CompressionStats


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
            coded_bits=8 * payloads[Method.MODEL] + unmodelled_bits,
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
