"""Range ANS with tables by class: one format for all coders ``ans-*``.

A row and a column have a class each, and their sum numbers the table that an item is
coded with.  Tables are logarithms of weights, small integers that are in the stream; how
the encoder came to them (:mod:`~pgolf_codec.quant.coders.fits`) is its own affair.
Items may be less a :mod:`~pgolf_codec.quant.coders.prediction`, which then has a part in the
choice of the table.

Payload: varint n; n bytes of numbers (alphabet, prediction, classes, tables); two states,
uint64; the words, uint32, in the order in which a decoder reads them.
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
from pgolf_codec.quant.coders.machine_code import (
    BUCKET_BITS,
    ESCAPED,
    PRECISION,
    STATIC_SOURCES,
)
from pgolf_codec.quant.coders.numbers import NumberReader, NumberWriter
from pgolf_codec.quant.coders.prediction import (
    MAX_FROM_CENTRE,
    N_CONTEXTS,
    ROWS_A_BLOCK,
    Prediction,
    shade_bits_of,
)
from pgolf_codec.quant.coders.varint import read_varint, write_varint

OCTAVES = 20
"""Weights go down to 2**-OCTAVES of the largest."""
MAX_CLASSES = 64
_MAX_LEVELS = 1 << 22
"""Of all tables together."""
_CLASS_BITS = 6
_UNIT, _CLASSES, _MODE, _TABLE = (alphabets.N_CONTEXTS + k for k in range(4))
_TABLE_CONTEXTS = 3
_PREDICTION = _TABLE + _TABLE_CONTEXTS
_CONTEXTS = _PREDICTION + N_CONTEXTS
_PREDICTED = 8
"""Is added to the unit where there is a prediction."""
_STATES = 16
_APART = 16
"""Items between rows of scratch, for lines of the cache to lie in different sets."""
_encode = Kernel("pgolf_codec.quant.coders.ans_kernel", "encode", STATIC_SOURCES)
_decode = Kernel("pgolf_codec.quant.coders.ans_kernel", "decode", STATIC_SOURCES)
_decode_predicted = Kernel("pgolf_codec.quant.coders.prediction_kernel", "decode", STATIC_SOURCES)


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
    prediction: Prediction | None = None
    """With one, table number (class << its shade_bits) + shade."""

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


def encode(
    alphabet: Alphabet,
    symbols: NDArray[np.int32],
    model: Model,
    shades: NDArray[np.int32] | None = None,
) -> bytes:
    """Payload of ``symbols`` (rows, columns), every one of which its table has.

    ``shades``, of the same shape, are needed if the model predicts.
    """
    head = write_head(alphabet, model)
    out = bytearray()
    write_varint(out, len(head))
    tables = (model.row_classes[:, None] + model.column_classes).astype(np.int32)
    if shades is not None:
        tables = tables << shade_bits_of(model.prediction) | shades
        symbols, tables = _in_blocks(symbols), _in_blocks(tables)
    words, states = np.empty(symbols.size + 2, np.uint32), np.full(2, 1 << 32, np.uint64)
    n_words = _encode(symbols.reshape(-1), tables.reshape(-1), model.cumulative(), words, states)
    out += head + states.astype("<u8").tobytes() + words[:n_words][::-1].astype("<u4").tobytes()
    return bytes(out)


def decode(payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
    n_head, at = read_varint(payload, 0)
    start = at + n_head + _STATES
    if start > len(payload) or (len(payload) - start) % 4:
        raise TruncatedError("ANS: ends early")
    alphabet, model = read_head(payload[at : at + n_head], shape)
    states = np.frombuffer(payload[start - _STATES : start], "<u8").astype(np.uint64)
    words = np.frombuffer(payload[start:], "<u4").astype(np.uint32)
    cumulative = model.cumulative()
    tables = (
        cumulative.reshape(-1).astype(np.uint32), cumulative.shape[1],
        _buckets(cumulative).reshape(-1),
    )  # fmt: skip
    classes = model.row_classes, model.column_classes
    values = np.empty(shape, np.int32)
    prediction = model.prediction
    if prediction is None:
        wide = [c.astype(np.uint64) for c in classes]
        if not _decode(values.reshape(-1), *wide, *tables, words, states):
            raise CorruptError("ANS: the stream is damaged or cut short")
        return alphabet.values(values)
    n_rows = min(shape[0], ROWS_A_BLOCK)
    sound = _decode_predicted(
        values, *(c.astype(np.int32) for c in classes), *tables, words, states, alphabet.low,
        alphabet.n_levels, prediction.unit, prediction.shade_bits, prediction.offsets,
        *prediction.sparse(),
        np.zeros((shape[1], n_rows), np.int8),
        np.zeros((shape[1], n_rows + _APART), np.int32),
        np.zeros(n_rows, np.int16), np.zeros(n_rows, np.int32),
    )  # fmt: skip
    if not sound:
        raise CorruptError("ANS: the stream is damaged or cut short")
    return _with_escapes(values, alphabet, prediction.centre)


def _with_escapes(values: NDArray[np.int32], alphabet: Alphabet, centre: int) -> NDArray[np.int32]:
    """What was not in the stream, and the centre; changes ``values``."""
    outside = values == ESCAPED if alphabet.escapes.size else np.zeros(0, bool)
    escapes = alphabet.escapes + centre
    if int(outside.sum()) != escapes.size:
        raise CorruptError("coded integers: the number of escapes does not hold")
    if escapes.size and not -(2**31) <= int(escapes.min()) <= int(escapes.max()) < 2**31:
        raise CorruptError("coded integers: an escape beyond 32 bits")
    if centre:
        values += np.int32(centre)
    if escapes.size:
        values[outside] = escapes
    return values


def _in_blocks(items: NDArray[np.int32]) -> NDArray[np.int32]:
    """(items,) in the order in which they are predicted: columns of blocks of rows."""
    tops = range(0, len(items), ROWS_A_BLOCK)
    return np.concatenate([items[top : top + ROWS_A_BLOCK].T.reshape(-1) for top in tops])


def write_head(alphabet: Alphabet, model: Model) -> bytes:
    out = NumberWriter(_CONTEXTS)
    alphabet.write(out)
    out.number(model.unit + (_PREDICTED if model.prediction else 0), _UNIT)
    if model.prediction:
        model.prediction.write(out, _PREDICTION)
    for classes in (model.row_classes, model.column_classes):
        n_classes = int(classes.max()) + 1
        out.number(n_classes - 1, _CLASSES)
        if n_classes > 1:
            out.labels(classes.copy(), _CLASS_BITS)
    expected = _expected(model.levels)
    across = bool(np.abs(expected[1]).sum() < np.abs(expected[0]).sum())
    out.number(int(across), _MODE)
    n_symbols = model.levels.shape[1]
    numbers = expected[int(across)]
    out.numbers(numbers.reshape(-1), np.tile(_table_contexts(n_symbols), len(numbers)))
    return out.finish()


def read_head(data: memoryview, shape: tuple[int, int]) -> tuple[Alphabet, Model]:
    source = NumberReader(data, _CONTEXTS)
    alphabet = Alphabet.read(source, shape[0] * shape[1])
    unit = source.number(_UNIT, 0, _PREDICTED + 6)
    prediction = None
    if unit >= _PREDICTED:
        unit -= _PREDICTED
        prediction = Prediction.read(source, _PREDICTION, shape[1])
        if abs(alphabet.low) > MAX_FROM_CENTRE:
            raise CorruptError("coded integers: levels too far from what was predicted")
    elif unit > 6:
        raise CorruptError("ANS: a unit that is not possible")
    classes = []
    for size in shape:
        n_classes = source.number(_CLASSES, 0, MAX_CLASSES - 1) + 1
        labels = source.labels(size, _CLASS_BITS) if n_classes > 1 else np.zeros(size, np.int64)
        if int(labels.max()) >= n_classes:
            raise CorruptError("ANS: a class that is not there")
        classes.append(labels)
    n_tables = int(classes[0].max() + classes[1].max()) + 1
    n_tables <<= shade_bits_of(prediction)
    across = source.number(_MODE, 0, 1)
    if n_tables * alphabet.n_symbols > _MAX_LEVELS:
        raise CorruptError("ANS: more tables than are allowed")
    contexts = np.tile(_table_contexts(alphabet.n_symbols), n_tables)
    found = source.numbers(contexts.size, contexts).reshape(n_tables, alphabet.n_symbols)
    levels = np.cumsum(found, axis=1)
    if across:
        levels[0] = np.cumsum(levels[0])
        levels = np.cumsum(levels, axis=0)
    else:
        levels = np.cumsum(levels, axis=1)
    source.finish()
    if levels.min() < 0 or levels.max() > OCTAVES << unit or not levels.any(axis=1).all():
        raise CorruptError("ANS: a table that is not possible")
    return alphabet, Model(unit, levels, classes[0], classes[1], prediction)


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


@cache
def _exp2() -> NDArray[np.int64]:
    return exp2_table().astype(np.int64)


def _buckets(cumulative: NDArray[np.int64]) -> NDArray[np.uint16]:
    """(tables, 2**BUCKET_BITS) symbol at the beginning of each bucket."""
    n_tables, n_buckets = len(cumulative), 1 << BUCKET_BITS
    size = 1 << (PRECISION - BUCKET_BITS)
    # The first bucket that begins at or behind each bound, and how many bounds each has.
    buckets = (cumulative[:, 1:] + size - 1) // size
    places = buckets + (n_buckets + 1) * np.arange(n_tables)[:, None]
    passed = np.bincount(places.reshape(-1), minlength=n_tables * (n_buckets + 1))
    symbols = passed.reshape(n_tables, -1).cumsum(axis=1)[:, :n_buckets]
    return symbols.astype(np.uint16)
