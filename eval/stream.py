"""One stream of :mod:`pgolf_codec.codec.range_coder`, read symbol by symbol.

The codec's own decoder steps many streams of tokens together and is made for that; a
foreign predictor has one, and the counts of a residual are few.  The pseudo-code is in
docs/FORMAT.md.
"""

from __future__ import annotations

from pgolf_codec.codec.frequencies import PRECISION, TOTAL
from pgolf_codec.errors import CorruptError

_MASK = (1 << 64) - 1
_WORD_BYTES = 4


class Stream:
    """Safe on any bytes."""

    def __init__(self, data: bytes) -> None:
        self._n_words = -(-len(data) // _WORD_BYTES)
        self._data = data + bytes(-len(data) % _WORD_BYTES)
        self._n_read = 2
        self._lower, self._span = 0, _MASK
        self._point = int.from_bytes(data[:8].ljust(8, b"\0"))

    def target(self) -> int:
        """The point, 0 <= point < 2**24, that the next symbol's interval holds."""
        point = ((self._point - self._lower) & _MASK) // (self._span >> PRECISION)
        if point >= TOTAL:
            raise CorruptError("a coded stream is damaged")
        return point

    def advance(self, cum: int, end: int) -> None:
        """Leave the symbol that owns [cum, end); the target is in there."""
        scale = self._span >> PRECISION
        self._lower = (self._lower + scale * cum) & _MASK
        self._span = scale * (end - cum)
        if self._span < 1 << 32:
            at = _WORD_BYTES * self._n_read
            word = int.from_bytes(self._data[at : at + _WORD_BYTES])  # zero behind the end
            self._n_read += 1
            if self._n_read > self._n_words + 2:
                raise CorruptError("a coded stream ends too early")
            self._lower = (self._lower << 32) & _MASK
            self._span <<= 32
            self._point = (self._point << 32 | word) & _MASK

    def finish(self) -> None:
        """Raise :class:`CorruptError` unless every word was read."""
        if self._n_words >= self._n_read:
            raise CorruptError("a coded stream does not end where it should")
