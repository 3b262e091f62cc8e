"""Range ANS with tables by class: one format for all coders ``ans-*``.

A row and a column have a class each, and their sum numbers the table that an item is
coded with.  Tables are logarithms of weights, small integers that are in the stream; how
the encoder came to them (:mod:`~pgolf_codec.quant.coders.fits`) is its own affair.

Payload: varint n; n bytes of numbers (alphabet, classes, tables); two states, uint64; the
words, uint32, in the order in which a decoder reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError, TruncatedError
from pgolf_codec.lm.integers.tables import exp2_table
from pgolf_codec.quant.coders import alphabet as alphabets
from pgolf_codec.quant.coders.alphabet import Alphabet
from pgolf_codec.quant.coders.machine_code import BUCKET_BITS, PRECISION, STATIC_SOURCES
from pgolf_codec.quant.coders.numbers import NumberReader, NumberWriter
from pgolf_codec.quant.coders.varint import read_varint, write_varint

OCTAVES = 20
"""Weights go down to 2**-OCTAVES of the largest."""
MAX_CLASSES = 64
_CLASS_BITS = 6
_UNIT, _CLASSES, _MODE, _TABLE = (alphabets.N_CONTEXTS + k for k in range(4))
_TABLE_CONTEXTS = 3
_CONTEXTS = _TABLE + _TABLE_CONTEXTS
_STATES = 16
_encode = Kernel("pgolf_codec.quant.coders.ans_kernel", "encode", STATIC_SOURCES)
_decode = Kernel("pgolf_codec.quant.coders.ans_kernel", "decode", STATIC_SOURCES)


@dataclass(frozen=True, slots=True)
class Model:
    """Tables, and who uses which."""

    unit: int
    """log2 of the steps of a logarithm an octave has, 0 to 6."""
    levels: NDArray[np.int64]
    """(tables, symbols): 0 never; l has the weight 2**((l - top) / 2**unit)."""
    row_classes: NDArray[np.int64]
    """(rows,), from 0; all 0 where rows don't matter."""
    column_classes: NDArray[np.int64]

    @property
    def top(self) -> int:
        return OCTAVES << self.unit

    def cumulative(self) -> NDArray[np.int64]:
        """(tables, symbols + 1) bounds of the symbols' intervals, the last 2**PRECISION."""
        steps = (self.top - self.levels) << (10 - self.unit)
        weights = _exp2()[steps & 1023] >> (steps >> 10)
        weights[self.levels == 0] = 0
        there = np.cumsum(weights > 0, axis=1)
        sums = np.cumsum(weights, axis=1)
        bounds = np.zeros((len(weights), weights.shape[1] + 1), np.int64)
        free = (1 << PRECISION) - there[:, -1:]
        bounds[:, 1:] = there + sums * free // sums[:, -1:]
        return bounds


def encode(alphabet: Alphabet, symbols: NDArray[np.int32], model: Model) -> bytes:
    """Payload of ``symbols`` (rows, columns), every one of which its table has."""
    head = write_head(alphabet, model)
    out = bytearray()
    write_varint(out, len(head))
    cumulative = model.cumulative()
    words, states = np.empty(symbols.size + 2, np.uint32), np.full(2, 1 << 32, np.uint64)
    n_words = _encode(symbols, model.row_classes, model.column_classes, cumulative, words, states)
    out += head + states.astype("<u8").tobytes() + words[:n_words][::-1].astype("<u4").tobytes()
    return bytes(out)


def decode(payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
    n_head, at = read_varint(payload, 0)
    start = at + n_head + _STATES
    if start > len(payload) or (len(payload) - start) % 4:
        raise TruncatedError("ANS: ends early")
    alphabet, model = read_head(payload[at : at + n_head], shape)
    cumulative = model.cumulative()
    states = np.frombuffer(payload[start - _STATES : start], "<u8").astype(np.uint64)
    words = np.frombuffer(payload[start:], "<u4").astype(np.uint32)
    symbols = np.empty(shape, np.int32)
    sound = _decode(
        symbols.reshape(-1), model.row_classes.astype(np.uint64),
        model.column_classes.astype(np.uint64), cumulative.reshape(-1).astype(np.uint32),
        cumulative.shape[1], _buckets(cumulative).reshape(-1), words, states,
    )  # fmt: skip
    if not sound:
        raise CorruptError("ANS: the stream is damaged or cut short")
    return alphabet.values(symbols)


def write_head(alphabet: Alphabet, model: Model) -> bytes:
    out = NumberWriter(_CONTEXTS)
    alphabet.write(out)
    out.number(model.unit, _UNIT)
    for classes in (model.row_classes, model.column_classes):
        n_classes = int(classes.max()) + 1
        out.number(n_classes - 1, _CLASSES)
        if n_classes > 1:
            out.labels(classes.copy(), _CLASS_BITS)
    expected = _expected(model.levels)
    across = bool(np.abs(expected[1]).sum() < np.abs(expected[0]).sum())
    out.number(int(across), _MODE)
    n_symbols = model.levels.shape[1]
    contexts = _table_contexts(n_symbols)
    for row in expected[int(across)]:
        out.numbers(row.copy(), contexts)
    return out.finish()


def read_head(data: memoryview, shape: tuple[int, int]) -> tuple[Alphabet, Model]:
    source = NumberReader(data, _CONTEXTS)
    alphabet = Alphabet.read(source, shape[0] * shape[1])
    unit = source.number(_UNIT, 0, 6)
    classes = []
    for size in shape:
        n_classes = source.number(_CLASSES, 0, MAX_CLASSES - 1) + 1
        found = source.labels(size, _CLASS_BITS) if n_classes > 1 else np.zeros(size, np.int64)
        if int(found.max()) >= n_classes:
            raise CorruptError("ANS: a class that is not there")
        classes.append(found)
    n_tables = int(classes[0].max() + classes[1].max()) + 1
    across = source.number(_MODE, 0, 1)
    contexts = _table_contexts(alphabet.n_symbols)
    levels = np.zeros((n_tables, alphabet.n_symbols), np.int64)
    for t in range(n_tables):
        found = source.numbers(alphabet.n_symbols, contexts)
        before = levels[t - 1] if t and across else None
        levels[t] = _levels(found, before)
    source.finish()
    if levels.min() < 0 or levels.max() > OCTAVES << unit or not levels.any(axis=1).all():
        raise CorruptError("ANS: a table that is not possible")
    return alphabet, Model(unit, levels, classes[0], classes[1])


def _table_contexts(n_symbols: int) -> NDArray[np.int64]:
    """The first two numbers of a table, and the others."""
    return _TABLE + np.minimum(np.arange(n_symbols), _TABLE_CONTEXTS - 1)


def _expected(levels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is stored: second differences within tables; or those of a table less the one before."""
    within = np.diff(levels, n=2, axis=1, prepend=np.zeros((len(levels), 2), np.int64))
    across = levels.copy()
    across[1:] -= levels[:-1]
    across = np.diff(across, axis=1, prepend=0)
    across[0] = within[0]
    return within, across


def _levels(found: NDArray[np.int64], before: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if before is None:
        return np.cumsum(np.cumsum(found))
    return before + np.cumsum(found)


@cache
def _exp2() -> NDArray[np.int64]:
    return exp2_table().astype(np.int64)


def _buckets(cumulative: NDArray[np.int64]) -> NDArray[np.uint16]:
    """(tables, 2**BUCKET_BITS) symbol at the beginning of each bucket."""
    points = np.arange(1 << BUCKET_BITS) << (PRECISION - BUCKET_BITS)
    return np.stack([np.searchsorted(row, points, side="right") - 1 for row in cumulative]).astype(
        np.uint16
    )
