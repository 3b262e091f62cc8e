"""Integers of a trellis to bytes and back: adaptive binary range coding, no table sent.

The decoder runs the trellis (:mod:`pgolf_codec.quant.trellis`) along, so it knows which
of the two quantizers an index belongs to.  It also keeps a running mean of |x| for each
row and for the column at hand: their product says how large a weight to expect, and its
class (quarters of an octave) chooses the probabilities.  These start as those of a normal
distribution of that size, from integer tables, and adapt.  All arithmetic is on integers.

Payload: number of states as log2, uint8; then the bytes of the range coder.  Columns are
coded one after the other, each from its first row, each from state 0.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CoderError, CorruptError
from pgolf_codec.lm.tables import exp2_table
from pgolf_codec.quant.trellis import CODES, machine

MAX_WEIGHT = 127
ONE = 1 << 12
"""A row's size relative to the others is in units of 2**-12."""
PRIOR_WEIGHT = 4
"""Rows, or columns, that a running mean starts with."""
AHEAD = 4
"""Rows of a column, and from the 16th on columns, for which one mean is used."""
N_CLASSES = 64
LONGEST = 6
"""Bits behind the first of the largest index, 127."""
ZERO, LENGTH, MANTISSA = 0, 1, LONGEST + 1
"""Places of a set of probabilities: is it zero; is it longer; the bits after the first."""
SET = MANTISSA + (2 << LONGEST)
START_COUNT, MAX_COUNT = 16, 1000
"""Symbols that the prior is worth, and after which adaptation gets no slower."""
TOP = 1 << 24
FINE = 12
"""Bits of a probability beyond the 16 that the coder uses."""

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


def _class_of(mean: int) -> int:
    octave = max(mean, 1).bit_length() - 1
    return 4 * octave + (((mean << 2) >> octave) & 3)


@functools.cache
def prior() -> NDArray[np.int32]:
    """Probabilities of a 0, in 2**-28: (N_CLASSES, 2 parities, SET).

    A weight of class q has |x| of about m = (9 + 2 (q mod 4)) / 8 * 2**(q // 4 - 8) in the
    mean; magnitudes are weighed by 7/8 of a normal and 1/8 of a Laplace distribution.
    """
    exp2 = exp2_table().astype(np.int64)
    out = np.full((N_CLASSES, 2, SET), 1 << 15, np.int32)
    x = np.arange(2 * MAX_WEIGHT + 2, dtype=np.int64)
    for q in range(N_CLASSES):
        # m in 2**-11; log2(e) / pi, and log2(e), in 2**-10 and scaled by m**2 and m
        m = (9 + 2 * (q % 4)) << (q // 4)
        normal = np.minimum(x * x * (470 << 22) // (m * m), 30 << 10)
        laplace = np.minimum(x * (1477 << 11) // m, 30 << 10)
        w = sum(share * (exp2[e & 1023] >> (e >> 10)) for share, e in ((7, normal), (1, laplace)))
        for parity in range(2):
            _fill(out[q, parity], np.asarray(w), parity)
    out <<= FINE
    out.setflags(write=False)
    return out


def _fill(probabilities: NDArray[np.int32], w: NDArray[np.int64], parity: int) -> None:
    """The binary decisions of one set, from weights of |x|."""
    v = np.arange(1, MAX_WEIGHT + 1)
    sizes = w[2 * v - parity]
    if not parity:
        probabilities[ZERO] = _share(int(w[0]), 2 * int(sizes.sum()))
    for length in range(LONGEST + 1):
        of_length = sizes[(v >> length) == 1]
        longer = sizes[v >= 2 << length]
        if length < LONGEST:
            probabilities[LENGTH + length] = _share(int(of_length.sum()), int(longer.sum()))
        for bit in range(length):
            for prefix in range(1 << bit, 2 << bit):
                zeros = sizes[(v >> (length - bit - 1)) == 2 * prefix]
                ones = sizes[(v >> (length - bit - 1)) == 2 * prefix + 1]
                at = MANTISSA + (1 << length) + prefix
                probabilities[at] = _share(int(zeros.sum()), int(ones.sum()))


def _share(zeros: int, ones: int) -> int:
    """Probability of a 0 in 2**-16."""
    return min(max(((zeros + 1) << 16) // (zeros + ones + 2), 64), (1 << 16) - 64)


def _start() -> NDArray[np.int32]:
    """All probabilities, a fresh copy: those of :func:`prior`, and the sign's."""
    return np.append(prior(), np.int32(1 << 15 + FINE))


def encode(x: NDArray[np.int8], n_states: int) -> bytes:
    """Payload of integers (rows, columns) within ±127 that obey the trellis of ``n_states``.

    With one state they are any integers: there is no trellis, and each is its own index.
    """
    data = np.empty(2 * x.size + 64, np.uint8)
    n_bytes = _walk(False, data, x, machine(n_states), _start())
    return bytes([n_states.bit_length() - 1]) + data[:n_bytes].tobytes()


def decode(payload: memoryview | bytes, shape: tuple[int, int]) -> NDArray[np.int8]:
    """The integers (rows, columns), or :class:`CorruptError`."""
    if not payload or 1 << payload[0] not in CODES:
        raise CorruptError("trellis tensor: the number of states is unknown")
    data = np.frombuffer(payload, np.uint8)[1:].copy()
    x = np.empty(shape, np.int8)
    n_bytes = _walk(True, data, x, machine(1 << payload[0]), _start())
    if n_bytes != data.size:
        raise CorruptError("trellis tensor: the stream does not end where it should")
    return x


_CLASS = np.array([_class_of(mean) for mean in range(1 << 12)], np.int64)
_RATE = np.array([1 << 20] + [(1 << 20) // n for n in range(1, MAX_COUNT + 1)], np.int64)
"""2**20 / n, by which a probability moves."""


ZERO_OR_NOT, SIGN, LONGER, REST = range(4)
"""What a binary decision is about."""


@_jit
def _obeys(x: Any, follow: Any) -> bool:
    """Whether every column of integers is a path of the trellis."""
    for c in range(x.shape[1]):
        state = 0
        for r in range(x.shape[0]):
            k, odd = (x[r, c] - (state & 1)) >> 1, (x[r, c] - (state & 1)) & 1
            if odd:
                return False
            state = follow[state, k & 1]
    return True


class TrellisCoder:
    """This coder as one of the registry ``quant.coders``: it finds the number of states."""

    summary = "adaptive, row and column sizes; knows a trellis when it sees one"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        if np.abs(values.astype(np.int64)).max() > MAX_WEIGHT:
            raise CoderError(f"trellis: values beyond ±{MAX_WEIGHT}")
        x = values.astype(np.int8)
        fits = (n for n in sorted(CODES) if n > 1 and _obeys(x, machine(n)))
        return encode(x, next(fits, 1))

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        return decode(payload, shape).astype(np.int32)


@_jit
def _walk(decoding: bool, data: Any, x: Any, follow: Any, p: Any) -> Any:
    """Encode ``x`` to ``data`` or decode it from there; returns the bytes of the stream.

    ``p`` is a flat copy of :func:`prior`, with one probability more, of the sign.  A value
    that is no weight ends decoding with -1.  One function, as numba counts references
    to every array that a call is given, which would take longer than the coding.
    """
    n_rows, n_columns = x.shape
    spacing = 2 if follow.shape[0] > 1 else 1
    n = np.full(p.size, START_COUNT, np.int32)
    # The range coder of LZMA: the byte on top waits, with the 255s behind it, for a carry.
    low, span = 0, (1 << 32) - 1  # decoding, low is the code less the encoder's low
    waiting, n_waiting, position = 0, 0, 0
    if decoding:
        while position < 4:
            low = (low << 8) | (data[position] if position < data.size else 0)
            position += 1
    sums = np.zeros(n_rows, np.int64)  # of |x|
    share = np.full(n_rows, ONE, np.int64)  # a row's mean |x|, relative to its column's
    typical, total = 4 << 8, 0  # a column's mean |x| in 2**-8: of all so far, and their sum
    for c in range(n_columns):
        state = 0
        seen, shares = PRIOR_WEIGHT * ONE * typical, PRIOR_WEIGHT * ONE
        column, mean = 0, 0
        for r in range(n_rows):
            if r % AHEAD == 0:
                mean = seen // shares
            expected = max(1, mean * share[r] >> 12)
            if expected < 1 << 12:
                q = _CLASS[expected]
            else:
                q = min(_CLASS[min(expected >> 8, (1 << 12) - 1)] + 32, N_CLASSES - 1)
            parity = state & 1
            base = (2 * q + parity) * SET
            value = int(x[r, c])
            v = 0 if decoding else (abs(value) + parity) // spacing
            negative = 1 if value < 0 and not decoding else 0
            question = SIGN if parity else ZERO_OR_NOT
            length, prefix, left = 0, 0, 0
            while True:
                if question == ZERO_OR_NOT:
                    at = base + ZERO
                    bit = 1 if v else 0
                elif question == SIGN:
                    at = p.size - 1
                    bit = negative
                elif question == LONGER:
                    at = base + LENGTH + length
                    bit = 1 if v >> (length + 1) else 0
                else:
                    at = base + MANTISSA + (1 << length) + prefix
                    bit = v >> (left - 1) & 1
                bound = (span >> 16) * (p[at] >> FINE)
                if decoding:
                    bit = 1 if low >= bound else 0
                if bit:
                    low += -bound if decoding else bound
                    span -= bound
                else:
                    span = bound
                while span < TOP:
                    span <<= 8
                    if decoding:
                        low = (low << 8) | (data[position] if position < data.size else 0)
                        position += 1
                        continue
                    if n_waiting == 0 or low < 0xFF000000 or low >= 1 << 32:
                        for i in range(n_waiting):
                            data[position] = ((255 if i else waiting) + (low >> 32)) & 255
                            position += 1
                        waiting, n_waiting = (low >> 24) & 255, 0
                    n_waiting += 1
                    low = (low & 0xFFFFFF) << 8
                aim = 64 << FINE if bit else (65536 - 64) << FINE
                p[at] += ((aim - p[at]) * _RATE[n[at]]) >> 20
                if n[at] < MAX_COUNT:
                    n[at] += 1
                if question == ZERO_OR_NOT:
                    if not bit:
                        break
                    question = SIGN
                elif question == SIGN:
                    negative = bit
                    question = LONGER
                elif question == LONGER:
                    length += bit
                    if not bit or length == LONGEST:
                        prefix, left, question = 1, length, REST
                        if left == 0:
                            break
                else:
                    prefix = 2 * prefix + bit
                    left -= 1
                    if left == 0:
                        break
            if decoding:
                value = spacing * prefix - parity if prefix else 0
                if value > MAX_WEIGHT:
                    return -1
                value = -value if negative else value
                x[r, c] = value
            if spacing == 2:
                state = follow[state, (value - parity) >> 1 & 1]
            size = abs(value) * 2 // spacing
            column += size
            sums[r] += size
            seen += size << 20
            shares += share[r]
        total += (column << 20) // max(1, shares - PRIOR_WEIGHT * ONE)
        typical = max(1, total // (c + 1))
        if c >= 16 and c % AHEAD:
            continue
        for r in range(n_rows):
            relative = ((sums[r] << 20) + PRIOR_WEIGHT * ONE * typical) // (
                total + PRIOR_WEIGHT * typical
            )
            share[r] = min(max(relative, ONE >> 6), ONE << 6)
    if decoding:
        return position
    for _ in range(5):
        if n_waiting == 0 or low < 0xFF000000 or low >= 1 << 32:
            for i in range(n_waiting):
                data[position] = ((255 if i else waiting) + (low >> 32)) & 255
                position += 1
            waiting, n_waiting = (low >> 24) & 255, 0
        n_waiting += 1
        low = (low & 0xFFFFFF) << 8
    return position


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
