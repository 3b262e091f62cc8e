"""What lossy tokens never paid for: the bits that lead from their text to the raw bytes.

A tokenizer that folds line ends into blanks, or letters into others, decodes to a text
that is not the file.  Here the raw bytes are coded given that text, by edits: at each of
its bytes *copy*, *substitute*, *insert before* or *delete*, with adaptive frequencies in
the context of the byte, of the raw byte before it where it is a blank, and of the edit
before; new bytes in the context of the raw byte before.  All integers, coded by
:mod:`pgolf_codec.codec.range_coder`.  It is a price, not the lowest possible one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import range_coder
from pgolf_codec.codec.frequencies import SHIFT, TOTAL
from pgolf_codec.errors import CorruptError
from pgolf_codec.eval.stream import Stream

COPY, SUBSTITUTE, INSERT, DELETE = range(4)
"""Edits; behind the last byte of a text, *copy* is its end."""

_END = 256
"""Stands for the byte behind a text's last one."""
_BLANK = 32
_REACH = 48
"""Bytes that a resynchronisation may skip on either side."""
_MATCH = 3
"""Bytes that have to agree for it."""
_STEP, _MOST = 32, 1 << 16
"""A count grows by the one; all are halved when their sum passes the other."""
_HEAD_BYTES = 4

Edit = tuple[int, int]
"""Which one, and the new byte (0 if none)."""
Code = Callable[[list[int], int], int]
"""Codes a symbol by its counts, or finds it (then the argument means nothing); returns it."""


def encode(raw: Sequence[bytes], decoded: Sequence[bytes]) -> bytes:
    """The bytes that restore each of ``raw`` from each of ``decoded``; none if all agree."""
    if list(raw) == list(decoded):
        return b""
    cum: list[int] = []
    freq: list[int] = []

    def put(counts: list[int], symbol: int) -> int:
        at, end = _interval(counts, symbol)
        cum.append(at)
        freq.append(end - at)
        return symbol

    model = _Model(put)
    for wanted, given in zip(raw, decoded, strict=True):
        edits = _align(wanted, given)
        for _ in model.texts(given, edits):
            pass
    stream = range_coder.encode(np.array(cum, np.uint32), np.array(freq, np.uint32))
    return len(cum).to_bytes(_HEAD_BYTES, "little") + stream


def decode(data: bytes, decoded: Sequence[bytes]) -> list[bytes]:
    """The raw bytes; raises :class:`CorruptError` for what :func:`encode` does not write."""
    if not data:
        return list(decoded)
    n_left = int.from_bytes(data[:_HEAD_BYTES], "little")
    stream = Stream(data[_HEAD_BYTES:])

    def take(counts: list[int], symbol: int) -> int:
        nonlocal n_left
        if n_left == 0:
            raise CorruptError("the residual ends too early")
        n_left -= 1
        target = stream.target()
        for found in range(len(counts)):
            at, end = _interval(counts, found)
            if target < end:
                break
        stream.advance(at, end)
        return found

    model = _Model(take)
    raw = [b"".join(model.texts(given, None)) for given in decoded]
    stream.finish()
    if n_left:
        raise CorruptError(f"the residual holds {n_left} symbols too many")
    return raw


def places(raw: bytes, given: bytes) -> NDArray[np.int64]:
    """(len(given) + 1,): where in ``raw`` each byte of ``given`` comes to stand, and the end."""
    found, k, i = np.empty(len(given) + 1, np.int64), 0, 0
    for edit, _ in _align(raw, given):
        if edit != INSERT:
            found[k] = i
            k += 1
        i += edit != DELETE
    found[len(given)] = len(raw)
    return found


class _Model:
    """Adaptive counts, the same for both directions; ``code`` is the direction."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._edits: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [_STEP, 1, 1, 1])
        self._bytes: defaultdict[int, list[int]] = defaultdict(lambda: [1] * 256)

    def texts(self, given: bytes, edits: Iterator[Edit] | None) -> Iterator[bytes]:
        """Code the edits of one text, or decode them; yields the raw bytes one by one."""
        at, before, last = 0, 0, COPY
        while True:
            byte = given[at] if at < len(given) else _END
            edit, new = (0, 0) if edits is None else next(edits)
            # A blank is told by what stands before it: line ends follow full stops.
            place = _END + 1 + before if byte == _BLANK else byte
            last = self._symbol(self._edits[place, last], edit)
            if last in (SUBSTITUTE, INSERT):
                before = self._symbol(self._bytes[before], new)
                yield bytes([before])
            elif last == COPY and byte != _END:
                before = byte
                yield bytes([byte])
            elif last == COPY:
                return
            if byte == _END and last != INSERT:
                raise CorruptError("the residual edits what is not there")
            at += last != INSERT

    def _symbol(self, counts: list[int], symbol: int) -> int:
        symbol = self._code(counts, symbol)
        counts[symbol] += _STEP
        if sum(counts) > _MOST:
            counts[:] = [(count + 1) >> 1 for count in counts]
        return symbol


def _interval(counts: list[int], symbol: int) -> tuple[int, int]:
    """[cum, end) of a symbol, as :mod:`pgolf_codec.codec.frequencies` cuts them."""
    n = len(counts)
    before = sum(counts[:symbol])
    after = before + counts[symbol]
    r = ((TOTAL - n) << SHIFT) // sum(counts)
    end = TOTAL if symbol == n - 1 else symbol + 1 + ((after * r) >> SHIFT)
    return symbol + ((before * r) >> SHIFT), end


def _align(raw: bytes, given: bytes) -> Iterator[Edit]:
    """Edits that turn ``given`` into ``raw``, and at last its end."""
    i = k = 0
    while i < len(raw) or k < len(given):
        if i < len(raw) and k < len(given) and raw[i] == given[k]:
            yield COPY, 0
            i, k = i + 1, k + 1
            continue
        skip_raw, skip_given = _resynchronise(raw, given, i, k)
        both = min(skip_raw, skip_given)
        for j in range(skip_raw):
            yield (SUBSTITUTE if j < both else INSERT), raw[i + j]
        for _ in range(skip_given - both):
            yield DELETE, 0
        i, k = i + skip_raw, k + skip_given
    yield COPY, 0


def _resynchronise(raw: bytes, given: bytes, i: int, k: int) -> tuple[int, int]:
    """How many bytes of each to leave, at least one, so that they agree again."""
    ahead, behind = raw[i : i + _REACH + _MATCH], given[k : k + _REACH + _MATCH]
    for n in range(1, 2 * _REACH):
        for skip_raw in range(max(0, n - _REACH), min(n, len(ahead), _REACH) + 1):
            skip_given = n - skip_raw
            match = ahead[skip_raw : skip_raw + _MATCH]
            if skip_given > len(behind) or match != behind[skip_given : skip_given + _MATCH]:
                continue
            if len(match) == _MATCH or len(raw) - i - skip_raw == len(given) - k - skip_given:
                return skip_raw, skip_given
    return min(1, len(raw) - i), min(1, len(given) - k)
