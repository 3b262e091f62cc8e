"""``trellis``: integers of a trellis, by adaptive binary range coding; no table is sent.

The decoder runs the trellis (:mod:`pgolf_codec.quant.trellis`) along, so it knows which
of the two quantizers an index belongs to.  It also keeps a running mean of |x| for each
row and for the column at hand: their product says how large a weight to expect, and its
class (quarters of an octave) chooses the probabilities.  These start as those of a normal
distribution of that size, from integer tables, and adapt.  All arithmetic is on integers.

Payload: number of states as log2, uint8; then the bytes of the range coder.  Columns are
coded one after the other, each from its first row, each from state 0.  With one state
there is no trellis, and any integers can be coded: if one is beyond ±127, 128 is added to
the first byte, and 127 stands for the next of the int32 behind the range coder's bytes.

Nothing here imports numba: artifacts are coded with this, and load in every process.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError
from pgolf_codec.lm.integers.tables import exp2_table
from pgolf_codec.quant.trellis import CODES, machine

MAX_WEIGHT = 127
ONE = 1 << 12
"""A row's size relative to the others is in units of 2**-12."""
PRIOR_WEIGHT = 4
"""Rows, or columns, that a running mean starts with."""
AHEAD = 4
"""Rows of a column, and from the 16th on columns, for which one mean is used."""
N_CLASSES = 64
CLASS_TABLE = 1 << 12
"""Means from here on are classed by what is left without their lowest 8 bits."""
LONGEST = 6
"""Bits behind the first of the largest index, 127."""
ZERO, LENGTH, MANTISSA = 0, 1, LONGEST + 1
"""Places of a set of probabilities: is it zero; is it longer; the bits after the first."""
SET = MANTISSA + (2 << LONGEST)
START_COUNT, MAX_COUNT = 16, 1000
"""Symbols that the prior is worth, and after which adaptation gets no slower."""
FINE = 12
"""Bits of a probability beyond the 16 that the coder uses."""
LEAST = 64
"""Of 65536, that the rarer side of a decision is worth."""
_ESCAPES = 128
_ITEMS_A_BYTE = 8192
"""More than any stream has: a decision costs 1/710 bit at least, and an item one decision."""

_encode = Kernel("pgolf_codec.quant.coders.trellis_kernel", "encode")
_decode = Kernel("pgolf_codec.quant.coders.trellis_kernel", "decode")


class TrellisCoder:
    """Finds out the number of states by itself; what is beyond ±127 is an escape."""

    summary = "adaptive, row and column sizes; knows a trellis when it sees one"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        beyond = np.abs(values.astype(np.int64)) > MAX_WEIGHT
        if beyond.any():
            escapes = beyond | (values == MAX_WEIGHT)
            x = np.where(escapes, MAX_WEIGHT, values).astype(np.int8)
            coded, rest = encode(x, 1), bytes(values[escapes].astype("<i4"))
            return bytes([coded[0] | _ESCAPES]) + coded[1:] + rest
        x = values.astype(np.int8)
        fits = (n for n in sorted(CODES) if n > 1 and _obeys(x, n))
        return encode(x, next(fits, 1))

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        x, n_bytes = _decoded(payload, shape)
        values, rest = x.astype(np.int32), payload[n_bytes:]
        if payload[0] & _ESCAPES:
            escapes = values == MAX_WEIGHT
            if len(rest) != 4 * np.count_nonzero(escapes):
                raise CorruptError("trellis tensor: its escapes do not end where they should")
            values[escapes] = np.frombuffer(rest, "<i4")
        elif len(rest):
            raise CorruptError("trellis tensor: the stream does not end where it should")
        return values


TRELLIS = TrellisCoder()


def encode(x: NDArray[np.int8], n_states: int) -> bytes:
    """Payload of integers (rows, columns) within ±127 that obey the trellis of ``n_states``."""
    data = np.empty(2 * x.size + 64, np.uint8)
    columns = np.ascontiguousarray(x.T)
    n_bytes = _encode(data, columns, machine(n_states), *_memory(len(x)))
    return bytes([n_states.bit_length() - 1]) + data[:n_bytes].tobytes()


def decode(payload: memoryview | bytes, shape: tuple[int, int]) -> NDArray[np.int8]:
    """The integers (rows, columns) of a payload without escapes, or :class:`CorruptError`."""
    x, n_bytes = _decoded(payload, shape)
    if n_bytes != len(payload) or payload[0] & _ESCAPES:
        raise CorruptError("trellis tensor: the stream does not end where it should")
    return x


def _decoded(payload: memoryview | bytes, shape: tuple[int, int]) -> tuple[NDArray[np.int8], int]:
    """The integers, and the bytes that they took."""
    n_states = 1 << (payload[0] & ~_ESCAPES) if payload else 0
    if n_states not in CODES:
        raise CorruptError("trellis tensor: the number of states is unknown")
    n_rows, n_columns = shape
    if n_rows * n_columns > _ITEMS_A_BYTE * len(payload):
        raise CorruptError(f"trellis tensor: {len(payload)} bytes are too few")
    data = np.frombuffer(payload, np.uint8)[1:].copy()
    columns = np.empty((n_columns, n_rows), np.int8)
    n_bytes = _decode(data, columns, machine(n_states), *_memory(n_rows))
    if not 0 <= n_bytes <= data.size:
        raise CorruptError("trellis tensor: the stream does not end where it should")
    return np.ascontiguousarray(columns.T), 1 + n_bytes


def _memory(n_rows: int) -> tuple[NDArray[np.integer], ...]:
    """What both kernels begin with: probabilities, counts, sums, shares; and their tables."""
    p = np.append(prior(), np.int32(1 << 15 + FINE))
    return (
        p,
        np.full(p.size, START_COUNT, np.int32),
        np.zeros(n_rows, np.int64),
        np.full(n_rows, ONE, np.int64),
        _class_table(),
        _RATES,
    )


_RATES = np.array([1 << 20] + [(1 << 20) // n for n in range(1, MAX_COUNT + 1)], np.int64)
"""2**20 / n, by which a probability moves."""


def _obeys(x: NDArray[np.int8], n_states: int) -> bool:
    """Whether every column of integers is a path of the trellis."""
    follow, state = machine(n_states), np.zeros(x.shape[1], np.int64)
    for row in x.astype(np.int64):
        k = row - (state & 1)
        if (k & 1).any():
            return False
        state = follow[state, k >> 1 & 1]
    return True


@functools.cache
def _class_table() -> NDArray[np.int64]:
    """Classes of means from 0 on."""
    mean = np.maximum(np.arange(CLASS_TABLE), 1)
    octave = np.frexp(mean.astype(np.float64))[1] - 1
    table = np.asarray(4 * octave + (((mean << 2) >> octave) & 3), np.int64)
    table.setflags(write=False)
    return table


@functools.cache
def prior() -> NDArray[np.int32]:
    """Probabilities of a 0, in 2**-28: (N_CLASSES, 2 parities, SET).

    A weight of class q has |x| of about m = (9 + 2 (q mod 4)) / 8 * 2**(q // 4 - 8) in the
    mean; magnitudes are weighed by 7/8 of a normal and 1/8 of a Laplace distribution.
    """
    exp2 = exp2_table().astype(np.int64)
    x = np.arange(2 * MAX_WEIGHT + 2, dtype=np.int64)
    q = np.arange(N_CLASSES, dtype=np.int64)[:, None]
    # m in 2**-11; log2(e) / pi, and log2(e), in 2**-10 and scaled by m**2 and m
    m = (9 + 2 * (q % 4)) << (q // 4)
    normal = np.minimum(x * x * (470 << 22) // (m * m), 30 << 10)
    laplace = np.minimum(x * (1477 << 11) // m, 30 << 10)
    w = sum(share * (exp2[e & 1023] >> (e >> 10)) for share, e in ((7, normal), (1, laplace)))
    out = np.full((N_CLASSES, 2, SET), 1 << 15, np.int32)
    for parity in range(2):
        _fill(out[:, parity], np.asarray(w), parity)
    out <<= FINE
    out.setflags(write=False)
    return out


def _fill(probabilities: NDArray[np.int32], w: NDArray[np.int64], parity: int) -> None:
    """The binary decisions of a set (N_CLASSES, SET), from weights of |x| (N_CLASSES, x)."""
    v = np.arange(1, MAX_WEIGHT + 1)
    sums = np.cumsum(np.pad(w[:, 2 * v - parity], ((0, 0), (2, 0))), axis=1)

    def between(first: int, end: int) -> NDArray[np.int64]:
        """Weight of the indices from ``first``, 1 or more, to before ``end``."""
        return np.asarray(sums[:, min(end, MAX_WEIGHT + 1)] - sums[:, min(first, MAX_WEIGHT + 1)])

    if not parity:
        probabilities[:, ZERO] = _share(w[:, 0], 2 * between(1, 128))
    for length in range(LONGEST + 1):
        if length < LONGEST:
            shorter, longer = between(1 << length, 2 << length), between(2 << length, 128)
            probabilities[:, LENGTH + length] = _share(shorter, longer)
        for bit in range(length):
            below = length - bit - 1
            for prefix in range(1 << bit, 2 << bit):
                first, middle, end = (2 * prefix + i << below for i in range(3))
                at = MANTISSA + (1 << length) + prefix
                probabilities[:, at] = _share(between(first, middle), between(middle, end))


def _share(zeros: NDArray[np.int64], ones: NDArray[np.int64]) -> NDArray[np.int64]:
    """Probabilities of a 0 in 2**-16."""
    share = ((zeros + 1) << 16) // (zeros + ones + 2)
    return np.asarray(np.clip(share, LEAST, (1 << 16) - LEAST))


@functools.cache
def prices() -> NDArray[np.float64]:
    """Bits of an index before any adaptation: (N_CLASSES, 2 parities, 2 * 64 + 1).

    Index k = (x - parity) / 2 stands at place k + 64.
    """
    p = prior() / 2.0**28
    say0, say1 = -np.log2(p), -np.log2(1 - p)
    out = np.zeros((N_CLASSES, 2, 129))
    for k in range(-64, 65):
        for parity in range(2):
            v = abs(2 * k + parity) + parity >> 1
            bits = out[:, parity, k + 64]
            if parity == 0:
                bits += (say1 if v else say0)[:, 0, ZERO]
            if v == 0:
                continue
            bits += 1
            length = v.bit_length() - 1
            for i in range(min(length + 1, LONGEST)):
                bits += (say1 if i < length else say0)[:, parity, LENGTH + i]
            for i in range(length):
                prefix = v >> (length - i)
                say = say1 if v >> (length - i - 1) & 1 else say0
                bits += say[:, parity, MANTISSA + (1 << length) + prefix]
    out.setflags(write=False)
    return out


def classes(mean: NDArray[np.float64]) -> NDArray[np.int64]:
    """The coder's class of weights whose mean |x| is about ``mean``."""
    size = np.maximum(np.floor(mean * 256), 1).astype(np.int64)
    octave = np.frexp(size.astype(np.float64))[1] - 1
    return np.asarray(np.minimum(4 * octave + (((size << 2) >> octave) & 3), N_CLASSES - 1))
