"""The entropy coder: intervals ⇄ bytes, many streams in lock step.

A range coder with 64 bits of state, 32-bit words and 24-bit intervals.  It gives
the very words of constriction's ``RangeEncoder`` (bamler-lab/constriction, module
``stream::queue``), and constriction decodes them; it exists because constriction
wants one Python call and one float64 model a symbol (benchmarks/coder.py measures
what that costs).  Only the end differs: the length of a stream is known and a decoder
reads zeros behind it, so the final word is one with the most zero bytes at its end,
and these are left off.  (The point may lie above a border of words: then the words
before it carry the one.)

Pseudo-code of both directions is in docs/FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel, flat
from pgolf_codec.errors import CorruptError

_encode_stream = Kernel("pgolf_codec.codec.coding_kernels", "encode_stream")
_decode_symbols = Kernel("pgolf_codec.codec.coding_kernels", "decode_symbols")


def encode(cum: NDArray[np.uint32], freq: NDArray[np.uint32]) -> bytes:
    """One stream: the intervals [cum, cum + freq) (n,), in units of 2**-24, as bytes.

    Every ``freq`` is positive and ``cum + freq <= 2**24``.
    """
    coded = _words(cum, freq, 1).astype(">u4").tobytes()
    return coded[:-4] + coded[-4:].rstrip(b"\0")


def encode_words(cum: NDArray[np.uint32], freq: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """As :func:`encode`, but with the whole final word that constriction writes."""
    return _words(cum, freq, 4)


def _words(
    cum: NDArray[np.uint32], freq: NDArray[np.uint32], n_seal_bytes: int
) -> NDArray[np.uint32]:
    words = np.empty(cum.size + 1, np.uint32)  # a symbol finishes one word at most
    return words[: _encode_stream(cum, freq, n_seal_bytes, words)]


class State(NamedTuple):
    """Of n decoders; all arrays are (n,) but for ``words``."""

    words: NDArray[np.uint32]
    """Of all streams, one behind another."""
    start: NDArray[np.int64]
    n_words: NDArray[np.int64]
    read: NDArray[np.int64]
    """Words that were read, those behind the end included."""
    left: NDArray[np.int64]
    """Symbols that are still to come."""
    lower: NDArray[np.uint64]
    span: NDArray[np.uint64]
    point: NDArray[np.uint64]
    symbols: NDArray[np.int32]
    """Decoded last."""


class Decoder:
    """Reads ``n`` streams in lock step; safe on any bytes."""

    def __init__(self, streams: Sequence[bytes | memoryview], n_symbols: NDArray[np.int64]) -> None:
        """``n_symbols`` (n,) says how many symbols each stream holds."""
        n, n_words = len(streams), np.array([-(-len(stream) // 4) for stream in streams], np.int64)
        heads = [bytes(stream[:8]) for stream in streams]
        padded = b"".join(bytes(stream) + b"\0" * (-len(stream) % 4) for stream in streams)
        self.state = State(
            words=np.frombuffer(padded, ">u4").astype(np.uint32),
            start=np.cumsum(n_words) - n_words,
            n_words=n_words,
            read=np.full(n, 2, np.int64),  # the first two words are in ``point``
            left=n_symbols.astype(np.int64),
            lower=np.zeros(n, np.uint64),
            span=np.full(n, 2**64 - 1, np.uint64),
            point=np.array([int.from_bytes(s[:8].ljust(8, b"\0")) for s in heads], np.uint64),
            symbols=np.zeros(n, np.int32),
        )
        self._flat_state = flat(self.state)

    def step(self, weights: NDArray[np.uint32]) -> NDArray[np.int32]:
        """The next symbol of every stream (n,), given the weights (n, V) of each.

        A stream that has no symbols left gives 0.  The array is overwritten by the
        next call.  Raises :class:`CorruptError` on a state that no encoder leaves and
        when a stream is read past its end.
        """
        self.check(bool(_decode_symbols(self._flat_state, np.ascontiguousarray(weights))))
        return self.state.symbols

    def check(self, sound: bool) -> None:
        """Raise :class:`CorruptError` if ``sound`` is false."""
        if not sound:
            raise CorruptError("a stream of coded tokens is damaged")

    def finish(self) -> None:
        """Raise :class:`CorruptError` unless every symbol and every word was read."""
        if self.state.left.any() or (self.state.n_words >= self.state.read).any():
            raise CorruptError("a stream of coded tokens does not end where it should")
