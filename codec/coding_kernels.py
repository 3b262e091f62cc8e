"""Machine code of :mod:`frequencies` and :mod:`range_coder`, which say what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.frequencies import PRECISION, SHIFT, TOTAL
from pgolf_codec.codec.jit import jit
from pgolf_codec.codec.range_coder import State
from pgolf_codec.codec.vectors import I64, Turn, address, vector_loop

_BLOCK = 64
_WORD = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_RENORM = np.uint64(1 << 32)
"""The range is kept at or above this."""
_PRECISION = np.uint64(PRECISION)
_LAST_POINT = np.uint64(TOTAL - 1)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)


@jit
def _reciprocal(total: int, n_symbols: int) -> int:
    """R for weights that sum to ``total``."""
    return ((TOTAL - n_symbols) << SHIFT) // total


@vector_loop("u32", (I64, 0, "add"))
def _added(t: Turn, a: list[Any], total: list[Any]) -> list[Any]:
    """The sum: argument numbers without a sign."""
    return [t.b.add(total[0], t.b.zext(t.load(a[0]), t.vector(I64)))]


@jit
def _sum(weights: NDArray[np.uint32], first: int, last: int) -> int:
    return int(_added(address(weights, first), last - first))


@jit
def interval(weights: NDArray[np.uint32], symbol: int) -> tuple[int, int]:
    """(cum, freq) of one symbol of one distribution (V,)."""
    before = _sum(weights, np.int64(0), np.int64(symbol))
    r = _reciprocal(before + _sum(weights, np.int64(symbol), weights.size), weights.size)
    cum = symbol + ((before * r) >> SHIFT)
    if symbol == weights.size - 1:
        return cum, TOTAL - cum
    after = before + np.int64(weights[symbol])
    return cum, symbol + 1 + ((after * r) >> SHIFT) - cum


@jit
def put_interval(weights: NDArray[np.uint32], symbol: int, out: NDArray[np.int64]) -> int:
    out[0], out[1] = interval(weights, symbol)
    return 0


@jit
def locate(weights: NDArray[np.uint32], point: int) -> tuple[int, int, int]:
    """(symbol, cum, freq) of the interval that holds ``point``, 0 <= point < 2**24.

    Looks for the block of symbols first: the bounds of a block need its sum only.
    """
    last = weights.size - 1
    r = _reciprocal(_sum(weights, np.int64(0), weights.size), weights.size)
    before, first = np.int64(0), int(np.int64(0))
    while first + _BLOCK <= last:
        after = before + _sum(weights, first, first + _BLOCK)
        if point < first + _BLOCK + ((after * r) >> SHIFT):
            break
        before = after
        first += _BLOCK
    i = first
    cum = i + ((before * r) >> SHIFT)
    while i < last:
        before += np.int64(weights[i])
        end = i + 1 + ((before * r) >> SHIFT)
        if point < end:
            return i, cum, end - cum
        cum = end
        i += 1
    return last, cum, TOTAL - cum


@jit
def put_location(weights: NDArray[np.uint32], point: int, out: NDArray[np.int64]) -> int:
    out[0], out[1], out[2] = locate(weights, point)
    return 0


@jit
def encode_stream(
    cum: NDArray[np.uint32],
    freq: NDArray[np.uint32],
    n_seal_bytes: int,
    words: NDArray[np.uint32],
) -> int:
    """Number of words of one stream; the final one has ``n_seal_bytes`` .. 4 bytes that count.

    ``words`` has room for one a symbol, and one more.
    """
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
        return 0
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
    return n_words + 1


@jit
def _release(
    words: NDArray[np.uint32], n_words: int, n_held: int, held: np.uint64, carry: bool
) -> int:
    words[n_words] = held + (_ONE if carry else _ZERO)
    for i in range(1, n_held):
        words[n_words + i] = _ZERO if carry else _LOW
    return n_words + n_held


@jit
def _next_word(s: State, lane: int) -> np.uint64:
    """The next word of a stream; zeros behind its end."""
    at = s.read[lane]
    s.read[lane] += 1
    return np.uint64(s.words[s.start[lane] + at]) if at < s.n_words[lane] else _ZERO


@jit
def decode_symbols(s: State, weights: NDArray[np.uint32]) -> bool:
    """Put the next symbol of every stream, given weights (n, V), into ``s.symbols``.

    False if a stream was in a state that no encoder leaves.
    """
    sound = True
    for lane in range(s.start.size):
        sound = decode_symbol(s, lane, weights[lane]) and sound
    return sound


@jit
def decode_symbol(s: State, lane: int, weights: NDArray[np.uint32]) -> bool:
    """As :func:`decode_symbols`, of one stream, given weights (V,)."""
    s.symbols[lane] = 0
    if s.left[lane] == 0:
        return True
    s.left[lane] -= 1
    scale = s.span[lane] >> _PRECISION
    target = (s.point[lane] - s.lower[lane]) // scale
    sound = target <= _LAST_POINT  # not between the last interval and the end of the range
    symbol, cum, freq = locate(weights, int(min(target, _LAST_POINT)))
    s.symbols[lane] = symbol
    s.lower[lane] += scale * np.uint64(cum)
    s.span[lane] = scale * np.uint64(freq)
    if s.span[lane] < _RENORM:
        s.lower[lane] <<= _WORD
        s.span[lane] <<= _WORD
        s.point[lane] = s.point[lane] << _WORD | _next_word(s, lane)
        # One word that is not there may have been zero; then n_words is one short.
        sound = sound and s.read[lane] <= s.n_words[lane] + 2
    return bool(sound)
