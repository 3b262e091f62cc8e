"""Tables and memory of the context mixing kernel; everything that it does not allocate itself.

Nothing here imports numba.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.lm.integers.tables import exp2_table

N_SIGMAS = 112
"""Standard deviations 2**((i - SIGMA_ZERO) / 16)."""
SIGMA_ZERO = 48
REACH = 24
"""Distances are from -REACH to REACH, in units of 1/16."""
STEPS = 24
"""Steps of a walk that are told apart, each way."""
WAYS = 2 * STEPS
COUNTER_LIMIT = 300
"""Counters go no slower than one in so many."""
FIRST_WEIGHTS = (7500, 45000, 10000, 3000)
"""Of the mixer, in units of 2**-16."""
LANES = 16
"""Inner loops begin and end at multiples of this, so that vectors have no remainder."""
BLOCK = 8
"""Rows that are added to the covariance together."""
LEAST_ROWS = 64
"""The first factorization is behind so many rows."""
LOOK = 32
"""Columns after which the rows that are like this one are looked for again."""
NEAR = 4
"""So many of them are used, at most."""
FARTHEST = 7
"""Errors are kept in half deviations of their column, up to this."""
CLASSES_OF_LIKENESS = 16
CHUNK = 64
"""Rows whose scores are looked at together."""
MARGIN = 2048
"""Bytes that one item may take, at least."""
FULL, DAMAGED = -2, -1
_NEW = np.uint32(1 << 31)
_COLUMN_COUNTERS = 1 << 22


class Plan(NamedTuple):
    """What the encoder chose."""

    width: int
    """Items in a row; the items are one behind another, the last row may be short."""
    shift: int
    """Low bits that are coded apart."""
    origin: int
    """The lowest coarse value."""
    top: int
    """The highest coarse value less the lowest."""
    centre: int
    """The coarse value that counts as zero, less the lowest."""
    open_low: int
    """Whether items may lie below the lowest; it is an escape then."""
    open_high: int
    ridge: int
    """Of the linear prediction, in rows; 0: none."""
    variance: int
    """First guess, of coarse values, in units of 2**-16."""
    learn: int
    """log2 of the inverse of the mixer's step."""
    prior: int
    """Rows that the first guess counts for."""
    mean_prior: int
    """Rows of zeros that a column's mean begins with."""
    group: int
    """Columns that predict each other, a multiple of LANES."""
    growth: int
    """Factors are computed anew when there are a part of 1 / growth more rows."""
    back: int = 0
    """Rows before it that each row is compared with; 0: none."""


class Tables(NamedTuple):
    """Frozen arrays."""

    squash: NDArray[np.uint16]
    """(4096,): 2**16 times the probability of a logit, which is the index less 2048."""
    stretch: NDArray[np.int16]
    """(4096,): the logit, in units of 1/192, of a probability of index / 4096."""
    logits: NDArray[np.int16]
    """(2 · N_SIGMAS · (32 REACH + 1),): of P(v > x), v normal about 0, for each deviation and
    x = index / 16 - REACH; then of P(v > x + 1/2 | v > x - 1/2)."""
    rate: NDArray[np.int32]
    """(1024,): 2**16 times the step of a counter that has seen so many bits."""
    eighths: NDArray[np.int32]
    """(128,): 8 log2(1 + index / 128), to the nearest integer."""
    factors: NDArray[np.int64]
    """(129,): 2**16 · 2**(-(index - 64) / 8)."""
    precisions: NDArray[np.int64]
    """(N_SIGMAS,): 2**12 · 512 log2(e) / sigma**2."""
    exp2: NDArray[np.uint32]
    """(1024,): 2**30 · 2**(-index / 1024)."""


class Columns(NamedTuple):
    """What is known of each column; means and variances are of coarse values less the centre."""

    mean: NDArray[np.int64]
    """4 fraction bits."""
    column_sigma: NDArray[np.int64]
    error_sigma: NDArray[np.int64]
    inverse: NDArray[np.int64]
    """2**48 / variance of errors."""
    expected_energy: NDArray[np.int64]
    """8 fraction bits."""
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    errors: NDArray[np.int64]
    """Squared, 8 fraction bits."""
    level: NDArray[np.int64]
    """16 fraction bits."""
    shifted: NDArray[np.int32]
    """16 fraction bits; from here on columns are padded to LANES."""
    lower: NDArray[np.int32]
    """(width, group), 12 fraction bits."""
    covariance: NDArray[np.float64]
    """(width, group): item (k, j) is the product of column k and column j of its group, j >= k."""
    scratch: NDArray[np.float32]
    """(group, group)"""
    float_sums: NDArray[np.float64]
    waiting: NDArray[np.float32]
    """(BLOCK, padded width)"""
    cumulative: NDArray[np.int64]
    exponents: NDArray[np.int64]


class Rows(NamedTuple):
    """Earlier rows, each in its place: its number modulo the places.  Without them, one place."""

    kept: NDArray[np.int8]
    """(places, width): errors of the linear prediction, in half deviations of their column."""
    columns: NDArray[np.int8]
    """(width, places): the same."""
    roots: NDArray[np.int32]
    """(looks, places): 2**16 over the length of the row up to there."""
    products: NDArray[np.int32]
    """(places,): of the errors of this row and another's."""
    block: NDArray[np.int16]
    scores: NDArray[np.int32]
    near: NDArray[np.int64]
    """(NEAR,): places of those that are most alike."""
    shares: NDArray[np.int64]
    """(NEAR,): 12 fraction bits."""
    told: NDArray[np.int32]
    """(LOOK,): what they tell of the next errors, in their unit, 6 fraction bits."""
    learned: NDArray[np.int64]
    """(CLASSES_OF_LIKENESS, 4): products and squares that the gain is of, errors, and how many."""


class Counts(NamedTuple):
    """What is learned of bits."""

    by_sigma: NDArray[np.uint32]
    by_column: NDArray[np.uint32]
    """A single one if columns have none."""
    low_bits: NDArray[np.uint32]
    escapes: NDArray[np.uint32]
    weights: NDArray[np.int64]
    state: NDArray[np.uint64]
    """Of the arithmetic coder, (3,)."""


def columns_of(plan: Plan) -> Columns:
    width = plan.width
    padded = -(-width // LANES) * LANES
    linear = plan.ridge > 0
    group = min(plan.group, padded) if linear else LANES
    tall = width if linear else 1

    def integers() -> NDArray[np.int64]:
        return np.zeros(width, np.int64)

    return Columns(
        mean=integers(),
        column_sigma=integers(),
        error_sigma=integers(),
        inverse=integers(),
        expected_energy=integers(),
        sums=integers(),
        squares=np.full(width, plan.variance * plan.prior >> 16, np.int64),
        errors=np.full(width, plan.variance * plan.prior >> 8, np.int64),
        level=integers(),
        shifted=np.zeros(padded, np.int32),
        lower=np.zeros((tall, group), np.int32),
        covariance=np.zeros((tall, group)),
        scratch=np.zeros((group, group), np.float32),
        float_sums=np.zeros(padded),
        waiting=np.zeros((BLOCK, padded), np.float32),
        cumulative=np.zeros(plan.top + 2, np.int64),
        exponents=np.zeros(plan.top + 1, np.int64),
    )


def rows_of(plan: Plan, n_rows: int) -> Rows:
    places = min(plan.back, n_rows) if plan.back else 1
    width, looks = (plan.width, plan.width // LOOK + 1) if plan.back else (1, 1)
    apart = places + -places % LANES + 5 * LANES  # else columns share lines of the cache
    return Rows(
        kept=np.zeros((places, width), np.int8),
        columns=np.zeros((width, apart), np.int8),
        roots=np.zeros((looks, apart), np.int32),
        products=np.zeros(apart, np.int32),
        block=np.zeros(apart, np.int16),
        scores=np.zeros(CHUNK, np.int32),
        near=np.zeros(NEAR, np.int64),
        shares=np.zeros(NEAR, np.int64),
        told=np.zeros(LOOK, np.int32),
        learned=np.tile(np.array((0, 1024, 64 << 8, 64), np.int64), (CLASSES_OF_LIKENESS, 1)),
    )


def counts_of(plan: Plan, n_rows: int) -> Counts:
    by_column = 2 * plan.width * (plan.top + 1)
    if n_rows < 16 or by_column > _COLUMN_COUNTERS:
        by_column = 1
    return Counts(
        by_sigma=np.full(N_SIGMAS // 4 * WAYS, _NEW),
        by_column=np.full(by_column, _NEW),
        low_bits=np.full(WAYS * 64, _NEW),
        escapes=np.full(2 * 34, _NEW),
        weights=np.tile(np.array(FIRST_WEIGHTS, np.int64), WAYS),
        state=np.array((0, (1 << 32) - 1, 0), np.uint64),
    )


@cache
def tables() -> Tables:
    squash = _squash()
    # The first logit whose probability is the given one, or more.
    middles = (np.arange(4096, dtype=np.int64) * 2 + 1) << 3
    stretch = np.searchsorted(squash, middles).clip(1, 4095) - 2048
    tails = _tails()
    x = np.arange(-16 * REACH, 16 * REACH + 1) + tails.shape[1] // 2
    begin = _logits(tails[:, x], tails[:, :1], squash)
    go_on = _logits(tails[:, x + 8], tails[:, x - 8], squash)
    bounds = exp2_table()[1024 - (128 * np.arange(1, 9) - 64)].astype(np.int64)
    eighths = np.searchsorted(bounds, (2 * np.arange(128, dtype=np.int64) + 257) << 21, "right")
    found = Tables(
        squash=squash.astype(np.uint16),
        stretch=stretch.astype(np.int16),
        logits=np.concatenate((begin.reshape(-1), go_on.reshape(-1))).astype(np.int16),
        rate=((65536 * 5) // (5 * np.arange(1024) + 6)).astype(np.int32),
        eighths=eighths.astype(np.int32),
        factors=_exp2(128 * np.arange(129, dtype=np.int64)) >> 6,
        precisions=_precisions(),
        exp2=exp2_table().astype(np.uint32),
    )
    for table in found:
        table.setflags(write=False)
    return found


def _exp2(exponents: NDArray[np.int64]) -> NDArray[np.int64]:
    """2**30 * 2**(-exponent / 1024), rounded down; 0 from 31 * 1024 on."""
    table = exp2_table().astype(np.int64)
    shifts = np.minimum(exponents >> 10, 62)
    found: NDArray[np.int64] = table[exponents & 1023] >> shifts
    return found


def _squash() -> NDArray[np.int64]:
    """65536 / (1 + e**(-x / 192)), x from -2048 to 2047."""
    x = np.arange(2049, dtype=np.int64)
    falling = _exp2(x * 504_258 >> 16)  # 1024 log2(e) / 192
    lower = (falling << 16) // ((1 << 30) + falling)  # x <= 0
    return np.concatenate((lower[::-1], 65536 - lower[1:2048])).clip(2, 65534)


def _precisions() -> NDArray[np.int64]:
    # 1 / sigma**2 = 2**(-(i - zero) / 8); 1477 = 1024 log2(e)
    powers = _exp2(128 * np.arange(N_SIGMAS, dtype=np.int64)) >> 8
    return powers * 1477 // 2048 << (SIGMA_ZERO // 8)


def _tails() -> NDArray[np.int64]:
    """(N_SIGMAS, n) sums of the normal density from x on, x from -(REACH + 1) in 1/16."""
    half = 16 * (REACH + 1)
    steps = 2 * np.arange(half, dtype=np.int64) + 1  # middles, in 1/32
    exponents = (steps**2)[None, :] * _precisions()[:, None] >> 22
    density = _exp2(exponents)
    both = np.concatenate((density[:, ::-1], density), axis=1)
    sums = np.zeros((N_SIGMAS, 2 * half + 1), np.int64)
    sums[:, :-1] = np.cumsum(both[:, ::-1], axis=1)[:, ::-1]
    return sums


def _logits(
    part: NDArray[np.int64], whole: NDArray[np.int64], squash: NDArray[np.int64]
) -> NDArray[np.int64]:
    probability = (part << 16) // np.maximum(whole, 1)
    found: NDArray[np.int64] = np.searchsorted(squash, probability).clip(1, 4095) - 2048
    return found
