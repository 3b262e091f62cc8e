"""``cm``: integer context mixing.

An item is coded as a walk: at or above the expected value, or below; then step by step
away from there, each step a bit.  Four models give a logit for every bit, a mixer adds
them with weights that it learns, and an arithmetic coder takes the sum:

- a normal distribution about the column's mean with the column's variance;
- the same about the linear prediction from the row's earlier columns
  (:mod:`~pgolf_codec.quant.coders.linear`), with the variance of the column's errors, scaled
  by how large the row's errors were so far, and by what is left of the row's energy: rows
  that were scaled by their own deviation all have the same sum of squares, so the end of a
  row is known to be large where its beginning was small.  For the last eight items of a
  row the product of both likelihoods is computed level by level.  In tables whose rows are
  alike, as those of words are, the errors of the rows that are most like this one so far
  are part of the prediction;
- counters of the place in the walk, for each class of the variance;
- counters of the column and the value.

Everything is integer arithmetic but the factorization.  One kernel codes both ways.
docs/WEIGHTS.md is the specification.  Nothing here imports numba.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.errors import CorruptError, TruncatedError
from pgolf_codec.quant.coders.cm_state import (
    DAMAGED,
    FULL,
    LANES,
    LEAST_ROWS,
    LOOK,
    MARGIN,
    Plan,
    columns_of,
    counts_of,
    rows_of,
    tables,
)
from pgolf_codec.quant.coders.machine_code import SOURCES
from pgolf_codec.quant.coders.varint import read_varint, unzigzag, write_varint, zigzag

VERSION, VERSION_WITH_ROWS = 2, 3
MAX_BACK = 1 << 14
MAX_WIDTH = 8192
MAX_TOP = 254
MAX_GROUP = 256
BACK = 2048
"""Rows; four times as many are 0.3% smaller, where rows are alike, and take half as long again."""
_ALIKE, _ALIKE_ROWS = 0.1, 512
"""Rows are compared from this correlation on, see :func:`_alike`, and if there are so many."""
_ALIKE_SAMPLE = 64
_HEAD = struct.Struct("<BBBBBBBB")
_RIDGE_UNIT = 100
_RIDGES = (200, 400, 700, 1000, 1500, 2000, 3000, 5000, 8000, 20000)
_EVIDENCE_ROWS, _EVIDENCE_COLUMNS = 2048, 128
"""Of a table, that its ridge is chosen by."""
_SAMPLE = 1 << 16
_WALK_SIGMAS = 4
"""Low bits are split off until the deviation is below this."""

_code = Kernel("pgolf_codec.quant.coders.cm_kernel", "code", SOURCES)
_log_determinants = Kernel("pgolf_codec.quant.coders.linear", "log_determinants", SOURCES)


class ContextMixing:
    """The smallest and the slowest."""

    summary = "integer context mixing: rows, columns, neighbours, linear prediction"

    def encode(self, values: NDArray[np.int32]) -> bytes:
        transposed = _better_transposed(values)
        # Writable, as what is decoded: kernels have one type for both ways.
        items = np.require(values.T if transposed else values, requirements=("C", "W"))
        plan = _plan(items)
        n_room = items.size + 2 * MARGIN
        while True:
            data = np.zeros(n_room, np.uint8)
            n_bytes = _run(items.reshape(-1), data, True, plan)
            if n_bytes != FULL:
                return _write_plan(plan, transposed, items.shape[1]) + data[:n_bytes].tobytes()
            n_room *= 2

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        plan, transposed, start = _read_plan(payload, shape)
        values = np.empty(shape[0] * shape[1], np.int32)
        data = np.frombuffer(payload[start:], np.uint8).copy()  # one kernel, one array type
        if _run(values, data, False, plan) == DAMAGED:
            raise CorruptError("cm: the stream is damaged or cut short")
        if transposed:
            return np.ascontiguousarray(values.reshape(shape[::-1]).T)
        return values.reshape(shape)


CM = ContextMixing()


def _run(values: NDArray[np.int32], data: NDArray[np.uint8], encoding: bool, plan: Plan) -> int:
    n_rows = -(-values.size // plan.width)
    work = columns_of(plan), rows_of(plan, n_rows), counts_of(plan, n_rows)
    return _code(values, data, encoding, plan, tables(), *work)


def _better_transposed(values: NDArray[np.int32]) -> bool:
    """Rows should have equal energies, and columns enough items to learn from."""
    if min(values.shape) < LEAST_ROWS:
        return bool(1 < values.shape[0] < values.shape[1])
    energy = values.astype(np.float32) ** 2

    def spread(axis: int) -> float:
        sums = energy.sum(axis=axis)
        return float(sums.var() / max(float(sums.mean()), 1e-9) ** 2 * values.shape[axis])

    return spread(0) < spread(1) / 2


def _plan(items: NDArray[np.int32]) -> Plan:
    n_rows, n_columns = items.shape
    low, high = int(items.min()), int(items.max())
    sample = items.reshape(-1)[:: 1 + items.size // _SAMPLE]
    # Twice what nine tenths of the items would have if they were normal: outliers escape.
    usual = 2 * float(np.subtract(*np.percentile(sample, (95, 5)))) / 3.29 + 0.5
    deviation = min(float(items.std(dtype=np.float64)), usual)
    shift = max(0, math.ceil(math.log2(max(deviation, 1.0) / _WALK_SIGMAS)))
    middle = round(float(sample.clip(*np.percentile(sample, (5, 95))).mean())) >> shift
    lowest, highest = low >> shift, high >> shift
    if highest - lowest > MAX_TOP:
        lowest, highest = max(lowest, middle - 127), min(highest, middle + 127)
    coarse = (items >> shift).clip(lowest, highest) - middle
    width = _width(n_rows, n_columns)
    n_rows = items.size // width
    table = coarse.reshape(-1)[: n_rows * width].reshape(n_rows, width).astype(np.float32)
    variance = float(np.mean(np.square(coarse, dtype=np.float64)))
    prior, mean_prior = _priors(table)
    ridge = _ridge(table, variance)
    return Plan(
        width=width,
        shift=shift,
        origin=lowest,
        top=highest - lowest,
        centre=middle - lowest,
        open_low=int(lowest > low >> shift),
        open_high=int(highest < high >> shift),
        ridge=ridge,
        variance=max(1, int(65536 * variance)),
        learn=18 - (items.size >= 1 << 18) - (items.size >= 1 << 19),
        prior=prior,
        mean_prior=mean_prior,
        group=MAX_GROUP,
        growth=8 if n_rows >= 2048 else 4 if n_rows >= 512 else 2,
        back=BACK if ridge and _alike(table) > _ALIKE else 0,
    )


def _priors(table: NDArray[np.float32]) -> tuple[int, int]:
    """How much alike columns are: rows that a guess counts for, powers of two.

    The variance of a column's log variance, and of its mean, beyond what chance makes.
    """
    n_rows = len(table)
    if n_rows < 16:
        return 8, 4
    variances = table.var(axis=0, dtype=np.float64) + 1 / 64
    shares = table.mean(axis=0, dtype=np.float64) ** 2 / variances
    beyond = max(float(np.log(variances).var()) - 2 / n_rows, 1e-4)
    beyond_mean = max(float(shares.mean()) - 1 / n_rows, 1e-4)
    return _power(1 / beyond, 2, 1024), _power(1 / beyond_mean, 4, 4096)


def _power(value: float, low: int, high: int) -> int:
    return int(min(max(2 ** round(math.log2(value)), low), high))


def _ridge(table: NDArray[np.float32], variance: float) -> int:
    """The ridge under which the first columns are the likeliest, as if normal.

    That is the evidence of an inverse Wishart distribution with as many degrees of
    freedom beyond its dimension.
    """
    part = table[:_EVIDENCE_ROWS, :: 1 + table.shape[1] // (_EVIDENCE_COLUMNS + 1)].astype(
        np.float64
    )
    n_rows, n_columns = part.shape
    if len(table) <= LEAST_ROWS or n_columns < 2 or variance == 0:
        return 0
    if len(table) < table.shape[1]:
        return 0  # too few rows to learn from for what it takes
    part -= part.mean(axis=0)
    part /= np.sqrt(part.var(axis=0) + 1 / 64)
    bases = np.array(_RIDGES, np.float64)
    determinants = np.zeros(bases.size)
    square = (n_columns, n_columns)
    _log_determinants(part, bases, np.zeros(square), np.zeros(square), determinants)
    half_columns = np.arange(n_columns) / 2

    def evidence(index: int) -> float:
        freedom = _RIDGES[index] + n_columns + 1
        gammas = sum(
            math.lgamma((freedom + n_rows) / 2 - k) - math.lgamma(freedom / 2 - k)
            for k in half_columns
        )
        prior = freedom * n_columns * math.log(bases[index])
        return float(gammas + (prior - (freedom + n_rows) * determinants[index]) / 2)

    return _RIDGES[max(range(len(_RIDGES)), key=evidence)]


def _alike(table: NDArray[np.float32]) -> float:
    """Correlation of the second halves of rows with those whose first halves are most alike."""
    n_rows, half = len(table), table.shape[1] // 2
    if n_rows < _ALIKE_ROWS or half < LOOK:
        return 0.0
    # Sums of integers in doubles: exact, whatever their order.
    first, second = table[:, :half].astype(np.float64), table[:, half:].astype(np.float64)
    some = np.arange(0, n_rows, n_rows // _ALIKE_SAMPLE)
    lengths = np.sqrt(np.maximum((first * first).sum(axis=1), 1.0))
    likeness = first[some] @ first.T / lengths
    likeness[np.arange(some.size), some] = -np.inf
    one, other = second[some], second[likeness.argmax(axis=1)]
    squares = (one * one).sum() * (other * other).sum()
    return float((one * other).sum() / np.sqrt(max(squares, 1.0)))


def _width(n_rows: int, n_columns: int) -> int:
    if n_rows == 1:
        return min(n_columns, 64)
    if n_columns <= MAX_WIDTH:
        return n_columns
    return next((w for w in range(MAX_WIDTH, 511, -1) if n_columns % w == 0), 1024)


def _write_plan(plan: Plan, transposed: bool, n_columns: int) -> bytes:
    flags = transposed | plan.open_low << 1 | plan.open_high << 2 | (plan.learn - 12) << 3
    priors = plan.prior.bit_length() - 1 << 4 | plan.mean_prior.bit_length() - 1
    ridge = plan.ridge // _RIDGE_UNIT
    factors = plan.group // LANES - 1 << 4 | plan.growth
    version = VERSION_WITH_ROWS if plan.back else VERSION
    head = bytearray(
        _HEAD.pack(version, flags, plan.shift, plan.top, plan.centre, priors, ridge, factors)
    )
    if plan.back:
        head.append(plan.back.bit_length() - 1)
    width = 0 if plan.width == n_columns else plan.width
    for number in (width, zigzag(plan.origin), plan.variance):
        write_varint(head, number)
    return bytes(head)


def _read_plan(payload: memoryview, shape: tuple[int, int]) -> tuple[Plan, bool, int]:
    """The plan, whether the items are transposed, where the bits begin."""
    if len(payload) < _HEAD.size:
        raise TruncatedError("cm: ends within its head")
    version, flags, shift, top, centre, priors, ridge, factors = _HEAD.unpack_from(payload)
    if version not in (VERSION, VERSION_WITH_ROWS):
        raise CorruptError(f"cm: version {version}; this release reads 2 and 3")
    at, back = _HEAD.size, 0
    if version == VERSION_WITH_ROWS:
        if len(payload) == at:
            raise TruncatedError("cm: ends within its head")
        back, at = 1 << min(payload[at], 32), at + 1
    width, at = read_varint(payload, at)
    origin, at = read_varint(payload, at)
    variance, at = read_varint(payload, at)
    transposed = bool(flags & 1)
    plan = Plan(
        width=width or shape[0 if transposed else 1],
        shift=shift,
        origin=unzigzag(origin),
        top=top,
        centre=centre,
        open_low=flags >> 1 & 1,
        open_high=flags >> 2 & 1,
        ridge=ridge * _RIDGE_UNIT,
        variance=variance,
        learn=(flags >> 3) + 12,
        prior=1 << (priors >> 4),
        mean_prior=1 << (priors & 15),
        group=((factors >> 4) + 1) * LANES,
        growth=factors & 15,
        back=back,
    )
    sound = (
        shift < 32
        and centre <= top <= MAX_TOP
        and 1 <= plan.width <= MAX_WIDTH
        and -(2**32) < plan.origin < 2**32
        and 1 <= variance <= 1 << 32
        and plan.growth > 0
        and (not back or (plan.ridge > 0 and back <= MAX_BACK))
    )
    if not sound:
        raise CorruptError("cm: a head that is not possible")
    return plan, transposed, at
