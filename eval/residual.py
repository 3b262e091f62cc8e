"""What lossy tokens never paid for: the bits that lead from their text to the raw bytes.

A tokenizer that folds line ends into blanks, or letters into others, decodes to a text
that is not the file.  Here the raw bytes are coded given that text, by edits: at each of
its bytes *copy*, *substitute*, *insert before* or *delete*, with adaptive frequencies in
the context of the byte, of the raw byte before and of whether the edit before was a
copy; new bytes in the context of the raw byte before.  All integers, coded by
:mod:`pgolf_codec.codec.range_coder`.  It is a price, not the lowest possible one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import range_coder
from pgolf_codec.codec.compiled import jit
from pgolf_codec.codec.frequencies import interval
from pgolf_codec.errors import CorruptError

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


def encode(raw: Sequence[bytes], decoded: Sequence[bytes]) -> bytes:
    """The bytes that restore each of ``raw`` from each of ``decoded``; none if all agree."""
    if list(raw) == list(decoded):
        return b""
    tables = _tables()
    cum, freq = [], []
    for wanted, given in zip(raw, decoded, strict=True):
        one, other = _array(wanted), _array(given)
        edits, data = _align(one, other)
        part = _model(edits, data, other, *tables)
        cum.append(part[0])
        freq.append(part[1])
    n = sum(map(len, cum))
    stream = range_coder.encode(np.concatenate(cum), np.concatenate(freq))
    return n.to_bytes(_HEAD_BYTES, "little") + stream


def decode(data: bytes, decoded: Sequence[bytes]) -> list[bytes]:
    """The raw bytes; raises :class:`CorruptError` for what :func:`encode` does not write."""
    if not data:
        return list(decoded)
    n = int.from_bytes(data[:_HEAD_BYTES], "little")
    coder = range_coder.Decoder([data[_HEAD_BYTES:]], np.array([n], np.int64))
    counts, byte_counts = _tables()
    raw, n_left = [], n

    def take(row: NDArray[np.uint32]) -> int:
        nonlocal n_left
        if n_left == 0:
            raise CorruptError("the residual ends too early")
        n_left -= 1
        (symbol,) = coder.step(row[None]).tolist()
        _count(row, symbol)
        return int(symbol)

    for given in decoded:
        out, at, last = bytearray(), 0, COPY
        while True:
            byte = given[at] if at < len(given) else _END
            before = out[-1] if out else 0
            last = take(counts[_context(byte, before, last)])
            if byte == _END and last in (SUBSTITUTE, DELETE):
                raise CorruptError("the residual edits what is not there")
            if last in (SUBSTITUTE, INSERT):
                out.append(take(byte_counts[before]))
            elif last == COPY:
                if byte == _END:
                    break
                out.append(byte)
            at += last != INSERT
        raw.append(bytes(out))
    coder.finish()
    return raw


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Counts of edits by context, and of new bytes by the raw byte before."""
    counts = np.ones((4 * (_END + 1) * 2, 4), np.uint32)
    counts[:, COPY] = _STEP
    return counts, np.ones((256, 256), np.uint32)


@jit
def _context(byte: int, before: int, last: int) -> int:
    """Row of the table of edits: a blank is told by what stands before it."""
    place = _END + 1 + before if byte == _BLANK else byte
    return place * 4 + last


@jit
def _count(row: NDArray[np.uint32], symbol: int) -> None:
    row[symbol] += np.uint32(_STEP)
    total = 0
    for i in range(row.size):
        total += row[i]
    if total > _MOST:
        for i in range(row.size):
            row[i] = (row[i] + np.uint32(1)) >> np.uint32(1)


@jit
def _align(
    raw: NDArray[np.uint8], given: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Edits that turn ``given`` into ``raw``, and the new byte of each (0 if none)."""
    edits = np.empty(raw.size + given.size + 1, np.uint8)
    data = np.zeros(raw.size + given.size + 1, np.uint8)
    n, i, k = 0, 0, 0
    while i < raw.size or k < given.size:
        if i < raw.size and k < given.size and raw[i] == given[k]:
            edits[n] = COPY
            n, i, k = n + 1, i + 1, k + 1
            continue
        skip_raw, skip_given = _resynchronise(raw, given, i, k)
        for _ in range(min(skip_raw, skip_given)):
            edits[n], data[n] = SUBSTITUTE, raw[i]
            n, i, k = n + 1, i + 1, k + 1
        for _ in range(skip_raw - skip_given):
            edits[n], data[n] = INSERT, raw[i]
            n, i = n + 1, i + 1
        for _ in range(skip_given - skip_raw):
            edits[n] = DELETE
            n, k = n + 1, k + 1
    edits[n] = COPY
    return edits[: n + 1], data[: n + 1]


@jit
def _resynchronise(
    raw: NDArray[np.uint8], given: NDArray[np.uint8], i: int, k: int
) -> tuple[int, int]:
    """How many bytes of each to leave, at least one, so that they agree again."""
    left_raw, left_given = raw.size - i, given.size - k
    for reach in range(1, 2 * _REACH):
        for skip_raw in range(max(0, reach - _REACH), min(reach, left_raw) + 1):
            skip_given = reach - skip_raw
            if skip_given > left_given:
                continue
            length = min(_MATCH, left_raw - skip_raw, left_given - skip_given)
            both_end = skip_raw == left_raw and skip_given == left_given
            if length < _MATCH and left_raw - skip_raw != left_given - skip_given:
                continue
            same = True
            for j in range(length):
                if raw[i + skip_raw + j] != given[k + skip_given + j]:
                    same = False
                    break
            if same and (length > 0 or both_end):
                return skip_raw, skip_given
    return min(1, left_raw), min(1, left_given)


@jit
def _model(
    edits: NDArray[np.uint8],
    data: NDArray[np.uint8],
    given: NDArray[np.uint8],
    counts: NDArray[np.uint32],
    byte_counts: NDArray[np.uint32],
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """(cum, freq) of every edit and new byte, in the order in which they are decoded."""
    cum, freq = np.empty(2 * edits.size, np.uint32), np.empty(2 * edits.size, np.uint32)
    n, k, before, last = 0, 0, 0, COPY
    for e in range(edits.size):
        byte = int(given[k]) if k < given.size else _END
        edit = int(edits[e])
        row = counts[_context(byte, before, last)]
        cum[n], freq[n] = interval(row, edit)
        _count(row, edit)
        n += 1
        if edit in (SUBSTITUTE, INSERT):
            row = byte_counts[before]
            cum[n], freq[n] = interval(row, int(data[e]))
            _count(row, int(data[e]))
            n += 1
            before = int(data[e])
        elif edit == COPY:
            before = byte
        if edit != INSERT:
            k += 1
        last = edit
    return cum[:n], freq[:n]
