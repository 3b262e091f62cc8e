"""The entropy coder: intervals ⇄ bytes, many streams in lock step.

A range coder with 64 bits of state, 32-bit words and 24-bit intervals.  It gives
the very words of constriction's ``RangeEncoder`` (bamler-lab/constriction, module
``stream::queue``), and constriction decodes them; it exists because constriction
wants one Python call and one float64 model a symbol (benchmarks/coder.py measures
what that costs).  Only the final word differs: the length of a stream is known and
a decoder reads zeros behind it, so the word is the one with the most zero bytes at
its end, and these are left off.

Pseudo-code of both directions is in docs/FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import inner, jit
from pgolf_codec.codec.frequencies import PRECISION, TOTAL, locate
from pgolf_codec.errors import CorruptError

_WORD = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_RENORM = np.uint64(1 << 32)
"""The range is kept at or above this."""
_PRECISION = np.uint64(PRECISION)
_LAST_POINT = np.uint64(TOTAL - 1)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)


def encode(cum: NDArray[np.uint32], freq: NDArray[np.uint32]) -> bytes:
    """One stream: the intervals [cum, cum + freq) (n,), in units of 2**-24, as bytes.

    Every ``freq`` is positive and ``cum + freq <= 2**24``.
    """
    words: NDArray[np.uint32] = _encode(cum, freq, 1)
    coded = words.astype(">u4").tobytes()
    return coded[:-4] + coded[-4:].rstrip(b"\0")


def encode_words(cum: NDArray[np.uint32], freq: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """As :func:`encode`, but with the whole final word that constriction writes."""
    words: NDArray[np.uint32] = _encode(cum, freq, 4)
    return words


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
        padded = b"".join(bytes(stream) + b"\0" * (-len(stream) % 4) for stream in streams)
        self.state = State(
            words=np.frombuffer(padded, ">u4").astype(np.uint32),
            start=np.cumsum(n_words) - n_words,
            n_words=n_words,
            read=np.zeros(n, np.int64),
            left=n_symbols.astype(np.int64),
            lower=np.zeros(n, np.uint64),
            span=np.full(n, _FULL, np.uint64),
            point=np.zeros(n, np.uint64),
            symbols=np.zeros(n, np.int32),
        )
        for _ in range(2):
            for lane in range(n):
                self.state.point[lane] = self.state.point[lane] << _WORD | _next(self.state, lane)

    def step(self, weights: NDArray[np.uint32]) -> NDArray[np.int32]:
        """The next symbol of every stream (n,), given the weights (n, V) of each.

        A stream that has no symbols left gives 0.  The array is overwritten by the
        next call.  Raises :class:`CorruptError` on a state that no encoder leaves and
        when a stream is read past its end.
        """
        self.check(decode_symbols(self.state, weights))
        return self.state.symbols

    def check(self, sound: bool) -> None:
        """Raise :class:`CorruptError` if :func:`decode_symbols` said so."""
        if not sound:
            raise CorruptError("a stream of coded tokens is damaged")

    def finish(self) -> None:
        """Raise :class:`CorruptError` unless every symbol and every word was read."""
        if self.state.left.any() or (self.state.n_words >= self.state.read).any():
            raise CorruptError("a stream of coded tokens does not end where it should")


@jit
def _encode(
    cum: NDArray[np.uint32], freq: NDArray[np.uint32], n_seal_bytes: int
) -> NDArray[np.uint32]:
    """Words of one stream; the final one has ``n_seal_bytes`` .. 4 bytes that count."""
    words = np.empty(cum.size + 1, np.uint32)  # a symbol finishes one word at most
    n_words = 0
    lower, span = _ZERO, _FULL
    # While the interval wraps around 2**64, a carry may still come: ``n_held`` words
    # wait, the first of them ``held``, the others all ones (or, with the carry, zeros).
    n_held, held = 0, _ZERO
    for i in range(cum.size):
        scale = span >> _PRECISION
        span = scale * np.uint64(freq[i])
        new_lower = lower + scale * np.uint64(cum[i])
        if n_held and new_lower + span > new_lower:
            n_words = _release(words, n_words, n_held, held, bool(new_lower < lower))
            n_held = 0
        lower = new_lower
        if span < _RENORM:
            span <<= _WORD
            word = lower >> _WORD
            lower <<= _WORD
            if n_held:
                n_held += 1
            elif lower + span > lower:
                words[n_words] = word
                n_words += 1
            else:
                n_held, held = 1, word
    if cum.size == 0:
        return words[:0]
    # Seal: the point of the interval with the fewest bytes before its zeros.
    point = lower
    for n_bytes in range(n_seal_bytes, 5):
        step = _ONE << np.uint64(64 - 8 * n_bytes)
        point = (lower + (step - _ONE)) & ~(step - _ONE)
        if point - lower < span:
            break
    if n_held:
        n_words = _release(words, n_words, n_held, held, bool(point < lower))
    words[n_words] = point >> _WORD
    return words[: n_words + 1]


@inner
def _release(
    words: NDArray[np.uint32], n_words: int, n_held: int, held: np.uint64, carry: bool
) -> int:
    words[n_words] = held + (_ONE if carry else _ZERO)
    for i in range(1, n_held):
        words[n_words + i] = _ZERO if carry else _LOW
    return n_words + n_held


def _next(s: State, lane: int) -> np.uint64:
    """The next word of a stream; zeros behind its end."""
    at = s.read[lane]
    s.read[lane] += 1
    return np.uint64(s.words[s.start[lane] + at]) if at < s.n_words[lane] else _ZERO


_next_word = inner(_next)


@jit
def decode_symbols(s: State, weights: NDArray[np.uint32]) -> bool:
    """Put the next symbol of every stream, given weights (n, V), into ``s.symbols``.

    False if a stream was in a state that no encoder leaves.
    """
    sound = True
    for lane in range(s.start.size):
        s.symbols[lane] = 0
        if s.left[lane] == 0:
            continue
        s.left[lane] -= 1
        scale = s.span[lane] >> _PRECISION
        target = (s.point[lane] - s.lower[lane]) // scale
        if target > _LAST_POINT:  # between the last interval and the end of the range
            sound = False
            target = _LAST_POINT
        symbol, cum, freq = locate(weights[lane], int(target))
        s.symbols[lane] = symbol
        s.lower[lane] += scale * np.uint64(cum)
        s.span[lane] = scale * np.uint64(freq)
        if s.span[lane] < _RENORM:
            s.lower[lane] <<= _WORD
            s.span[lane] <<= _WORD
            s.point[lane] = s.point[lane] << _WORD | _next_word(s, lane)
            # One word that is not there may have been zero; then n_words is one short.
            sound = sound and s.read[lane] <= s.n_words[lane] + 2
    return sound
