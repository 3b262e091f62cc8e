"""The kernel of :mod:`~pgolf_codec.quant.coders.cm`, both directions in one."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.quant.coders.arithmetic import (
    decode_bit,
    encode_bit,
    ends_well,
    finish_encoder,
    overrun,
    start_decoder,
    start_encoder,
)
from pgolf_codec.quant.coders.gaussian_tables import N_SIGMAS, REACH, SIGMA_ZERO, tables
from pgolf_codec.quant.coders.linear import BLOCK, GROUP, add_rows, column_means, factor

LEAST_ROWS = 64
"""The first factorization is behind so many rows."""
MARGIN = 2048
"""Bytes that one item may take, at least."""
FULL, DAMAGED = -2, -1

Array = NDArray[Any]
_int64: Any = np.int64  # numba knows it as a plain integer
_at: Any = np.uint64
"""An index that can't be negative: numba then looks for no end to count from."""

_TABLES = tables()
SQUASH, STRETCH, BEGIN, GO_ON = _TABLES.squash, _TABLES.stretch, _TABLES.begin, _TABLES.go_on
RATE, EIGHTHS, LEFT, ABOVE = _TABLES.rate, _TABLES.eighths, _TABLES.left, _TABLES.above
_FAR = 16 * REACH
_STEPS = 24
"""Steps of a walk that have counters of their own, each way."""
_BITS = 2 * _STEPS
_COARSE = N_SIGMAS // 4
_INPUTS = 7
_FIRST_WEIGHTS = (10000, 6500, 36000, 6500, 6500, 0, 0)
"""Of the mixer, in units of 2**-16."""
_HALF = np.uint32(1 << 31)
_MOST = 4194303
_LIMIT = 600
"""Counters go no slower than one in so many."""
_MAX_INT, _MIN_INT = 2**31 - 1, -(2**31)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _sigma_index(variance: int) -> Any:
    """Index of the deviation of a variance in units of 2**-16, at least 1."""
    v = min(variance, (1 << 32) - 1)
    top, rest = 0, v
    for step in (16, 8, 4, 2, 1):
        if rest >> step:
            rest >>= step
            top += step
    index = SIGMA_ZERO + 8 * (top - 16) + EIGHTHS[(v << 7 >> top) & 127]
    return min(max(index, 0), N_SIGMAS - 1)


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _logit(counters: Array, at: int, otherwise: int) -> int:
    """Of a counter; ``otherwise`` if it has seen nothing."""
    c = _int64(counters[_at(at)])
    return _int64(STRETCH[_at(c >> 20)]) if c & 1023 else otherwise


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _count(counters: Array, at: int, probability: int, goal: int, limit: int) -> None:
    """22 bits of probability, 10 bits of how often; begins where the mixer stood."""
    c = _int64(counters[_at(at)])
    n = c & 1023
    p = c >> 10
    if n == 0:
        n = 2
        p = probability << 6
    p += ((goal - p) * RATE[_at(n)]) >> 16
    counters[_at(at)] = np.uint32(p << 10 | min(n + 1, limit))


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _plain_bit(
    state: Array,
    data: Array,
    encoding: bool,
    counters: Array,
    at: int,
    bit: int,
) -> int:
    """A bit with one counter, no mixing."""
    p = min(max(_int64(counters[at]) >> 16, 32), 65504)
    if encoding:
        encode_bit(state, data, p, bit)
    else:
        bit = decode_bit(state, data, p)
    _count(counters, at, p, _MOST if bit else 0, 255)
    return bit


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _excess(
    state: Array,
    data: Array,
    encoding: bool,
    counters: Array,
    side: int,
    excess: int,
) -> int:
    """A number from 0 on: how many bits it plus one has, in unary, then these bits."""
    n_bits = 1
    while n_bits < 34:
        more = _plain_bit(
            state, data, encoding, counters, side * 34 + n_bits - 1,
            1 if encoding and (excess + 1) >> n_bits else 0,
        )  # fmt: skip
        if not more:
            break
        n_bits += 1
    number = 1
    for place in range(n_bits - 2, -1, -1):
        bit = ((excess + 1) >> place) & 1 if encoding else 0
        if encoding:
            encode_bit(state, data, 32768, bit)
        else:
            bit = decode_bit(state, data, 32768)
        number = number << 1 | bit
    return number - 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def code(
    values: Array,
    data: Array,
    encoding: bool,
    width: int,
    shift: int,
    origin: int,
    top: int,
    centre: int,
    open_low: bool,
    open_high: bool,
    ridge: int,
    variance: int,
    learn: int,
    prior: int,
    mean_prior: int,
) -> Any:
    """Both directions.  Number of bytes, or FULL, DAMAGED; 0 when all is decoded."""
    n_rows = (values.size + width - 1) // width
    state: Array = np.zeros(3, np.uint64)
    if encoding:
        start_encoder(state)
    else:
        start_decoder(state, data)
    linear = ridge > 0
    # Of each column; means and variances are of coarse values less the centre.
    mean: Array = np.zeros(width, np.int64)  # 4 fraction bits
    column_sigma: Array = np.zeros(width, np.int64)
    error_sigma: Array = np.zeros(width, np.int64)
    inverse: Array = np.zeros(width, np.int64)  # 2**48 / variance of errors
    expected_energy: Array = np.zeros(width, np.int64)  # 8 fraction bits
    sums: Array = np.zeros(width, np.int64)
    squares: Array = np.full(width, variance * prior >> 16, np.int64)
    errors: Array = np.full(width, variance * prior >> 8, np.int64)  # squared, 8 fraction bits
    last_error: Array = np.zeros(width, np.int64)  # squared, 8 fraction bits
    # Of the linear prediction.
    group = min(width, GROUP)
    lower: Array = np.zeros((width if linear else 1, group), np.int32)
    covariance: Array = np.zeros((width if linear else 1, group), np.float64)
    scratch: Array = np.zeros((group, group), np.float64)
    float_sums: Array = np.zeros(width, np.float64)
    waiting: Array = np.zeros((BLOCK, width), np.float64)
    n_waiting = 0
    level: Array = np.zeros(width, np.int64)  # 16 fraction bits
    shifted: Array = np.zeros(width, np.int32)
    next_factor = LEAST_ROWS
    # Of rows.
    all_energy = _int64(0)
    energy_spread = _int64(0)
    # Counters and weights.
    by_fraction: Array = np.full(_COARSE * 16 * _BITS, _HALF, np.uint32)
    by_neighbours: Array = np.full(32 * _COARSE * _BITS, _HALF, np.uint32)
    by_budget: Array = np.full(8 * _COARSE * _BITS, _HALF, np.uint32)
    n_levels = top + 1
    per_column = n_rows >= 16 and width * 2 * n_levels <= 1 << 22
    by_column: Array = np.full(width * 2 * n_levels if per_column else 1, _HALF, np.uint32)
    low_bits: Array = np.full(_BITS * 64, _HALF, np.uint32)
    escapes: Array = np.full(2 * 34, _HALF, np.uint32)
    weights: Array = np.zeros(_BITS * _INPUTS, np.int64)
    for at in range(_BITS * _INPUTS):
        weights[at] = _FIRST_WEIGHTS[at % _INPUTS]
    half = _int64(1) << (learn - 1)
    s5 = _int64(0)
    at = 0
    for i in range(n_rows):
        n = min(width, values.size - i * width)
        if i < 64 or i & 7 == 0:
            for j in range(n):
                error = max((errors[j] << 8) // (i + prior), 1)
                error_sigma[j] = _sigma_index(error)
                inverse[j] = (_int64(1) << 32) // error
                centred = (sums[j] << 8) // (i + mean_prior)
                mean[j] = (centred + 8) >> 4
                spread = (squares[j] << 16) // (i + prior) - centred * centred
                column_sigma[j] = _sigma_index(max(spread, 1))
                expected_energy[j] = (squares[j] << 8) // (i + prior)
        shifted[:] = 0
        expected = _int64(0)
        for j in range(n):
            expected += expected_energy[j]
        budget, slack = expected, expected
        if i >= 4:
            budget = (all_energy << 8) // i
            deviation = min(energy_spread // i, 1 << 22)
            slack = deviation * deviation * 51456 // max(expected // n, 1)
        slack = min(max(slack, 16), 1 << 44)
        row_energy = _int64(0)
        row_errors, row_count, row_sigma = _int64(4 << 8), 4, 0
        left, second_left = _int64(0), _int64(0)
        for j in range(n):
            guess = (level[j] + shifted[j] + 2048) >> 12 if linear else mean[j]
            guess = min(max(guess, -16 * centre), 16 * (top - centre))
            start = (guess + 8) >> 4
            if j & 7 == 0:
                row_sigma = _sigma_index((row_errors << 8) // row_count) - SIGMA_ZERO
            ratio = (max(budget + slack, 64) << 16) // max(expected + slack, 1)
            left_sigma = _sigma_index(max(ratio, 1)) - SIGMA_ZERO
            sigma = error_sigma[j]
            sigma_0 = column_sigma[j]
            sigma_1 = min(max(sigma + row_sigma, 0), N_SIGMAS - 1)
            sigma_2 = min(max(sigma + left_sigma, 0), N_SIGMAS - 1)
            coarse = min(max(sigma_0 + left_sigma, 0), N_SIGMAS - 1) >> 2
            remaining = n - j
            place = 7
            for bound in (2, 3, 5, 9, 17, 33, 65):
                if remaining >= bound:
                    place -= 1
            near = left + second_left
            neighbours = (
                LEFT[min(near * near * inverse[j] >> 19, 1023)] * 4
                + ABOVE[min(last_error[j] * inverse[j] >> 19, 1023)]
            )
            in_fraction = ((sigma >> 2) * 16 + ((guess + 8) & 15)) * _BITS
            in_neighbours = (neighbours * _COARSE + (sigma >> 2)) * _BITS
            in_budget = (place * _COARSE + coarse) * _BITS
            in_column = j * 2 * n_levels + centre
            from_guess = 16 * start - guess
            from_mean = 16 * start - mean[j]
            wanted = _int64(0)
            if encoding:
                wanted = (_int64(values[at]) >> shift) - origin - centre
                wanted = min(max(wanted, -centre), top - centre)
            t = start
            n_steps = 0
            upwards = start + centre <= 0
            first = not upwards
            while True:
                if first:
                    bit_place = 0
                    x = from_guess - 8
                    x_mean = from_mean - 8
                    in_this_column = in_column + t
                elif upwards:
                    if t + centre >= top:
                        break
                    bit_place = min(1 + n_steps, _STEPS - 1)
                    x = from_guess + 16 * (t - start)
                    x_mean = from_mean + 16 * (t - start)
                    in_this_column = in_column + t
                else:
                    if t + centre <= 0:
                        break
                    bit_place = _STEPS + min(n_steps, _STEPS - 1)
                    x = 16 * (start - t) - from_guess
                    x_mean = 16 * (start - t) - from_mean
                    in_this_column = in_column + t + n_levels
                x = min(max(x, -_FAR), _FAR) + _FAR
                x_mean = min(max(x_mean, -_FAR), _FAR) + _FAR
                if first:
                    s0 = _int64(BEGIN[_at(sigma_0), _at(x_mean)])
                    s1 = _int64(BEGIN[_at(sigma_1), _at(x)])
                    s2 = _int64(BEGIN[_at(sigma_2), _at(x)])
                else:
                    s0 = _int64(GO_ON[_at(sigma_0), _at(x_mean)])
                    s1 = _int64(GO_ON[_at(sigma_1), _at(x)])
                    s2 = _int64(GO_ON[_at(sigma_2), _at(x)])
                s3 = _logit(by_fraction, in_fraction + bit_place, s2)
                s4 = _logit(by_neighbours, in_neighbours + bit_place, s2)
                if per_column:
                    s5 = _logit(by_column, in_this_column, s2)
                s6 = _logit(by_budget, in_budget + bit_place, s2)
                w0 = _at(bit_place * _INPUTS)
                w1 = w0 + _at(1)
                w2 = w0 + _at(2)
                w3 = w0 + _at(3)
                w4 = w0 + _at(4)
                w5 = w0 + _at(5)
                w6 = w0 + _at(6)
                dot = (
                    weights[w0] * s0 + weights[w1] * s1 + weights[w2] * s2
                    + weights[w3] * s3 + weights[w4] * s4 + weights[w5] * s5
                    + weights[w6] * s6
                ) >> 16  # fmt: skip
                p = _int64(SQUASH[_at(min(max(dot, -2047), 2047) + 2048)])
                if encoding:
                    bit = wanted >= t if first else wanted > t if upwards else wanted < t
                    encode_bit(state, data, p, bit)
                else:
                    bit = decode_bit(state, data, p) == 1
                missed = (65536 if bit else 0) - p
                weights[w0] += (s0 * missed + half) >> learn
                weights[w1] += (s1 * missed + half) >> learn
                weights[w2] += (s2 * missed + half) >> learn
                weights[w3] += (s3 * missed + half) >> learn
                weights[w4] += (s4 * missed + half) >> learn
                weights[w5] += (s5 * missed + half) >> learn
                weights[w6] += (s6 * missed + half) >> learn
                goal = _int64(_MOST) if bit else _int64(0)
                _count(by_fraction, in_fraction + bit_place, p, goal, _LIMIT)
                _count(by_neighbours, in_neighbours + bit_place, p, goal, _LIMIT)
                if per_column:
                    _count(by_column, in_this_column, p, goal, _LIMIT)
                _count(by_budget, in_budget + bit_place, p, goal, _LIMIT)
                if first:
                    first = False
                    upwards = bit
                    if not bit:
                        t -= 1
                elif bit:
                    t += 1 if upwards else -1
                    n_steps += 1
                else:
                    break
            # The walk has ended at t; what it leaves open follows.
            whole = t + centre + origin
            if open_high and t + centre == top:
                excess = (_int64(values[at]) >> shift) - whole if encoding else _int64(0)
                whole += _excess(state, data, encoding, escapes, 0, excess)
            elif open_low and t + centre == 0:
                excess = whole - (_int64(values[at]) >> shift) if encoding else _int64(0)
                whole -= _excess(state, data, encoding, escapes, 1, excess)
            if shift:
                context = (min(n_steps, _STEPS - 1) + (0 if upwards else _STEPS)) * 64
                node = 1
                for place in range(shift - 1, -1, -1):
                    known = (_int64(values[at]) >> place) & 1 if encoding else _int64(0)
                    cell = context + min(node, 32 + place)
                    found = _plain_bit(state, data, encoding, low_bits, cell, known)
                    whole = whole << 1 | found
                    node = node << 1 | found
            if encoding:
                if _int64(state[2]) + MARGIN > data.size:
                    return FULL
            else:
                if not _MIN_INT <= whole <= _MAX_INT or overrun(state, data):
                    return DAMAGED
                values[at] = whole
            at += 1
            error = min(max(16 * t - guess, -2047), 2047)
            if linear:
                end = min(j // GROUP * GROUP + GROUP, n)
                later, share = shifted[j + 1 : end], lower[j, j % GROUP + 1 :]
                step = np.int32(error)
                for k in range(later.size):
                    later[k] += share[k] * step
                waiting[n_waiting, j] = t
            energy = t * t
            row_energy += energy
            budget -= energy << 8
            expected -= expected_energy[j]
            sums[j] += t
            squares[j] += energy
            error_energy = error * error
            errors[j] += error_energy
            last_error[j] = error_energy
            second_left, left = left, abs(error)
            row_errors += min(error_energy * inverse[j] >> 16, 1 << 14)
            row_count += 1
        if i:
            energy_spread += abs(row_energy - all_energy // i)
        all_energy += row_energy
        if linear and n == width:
            n_waiting += 1
            due = i + 1 == next_factor and i + 1 < n_rows
            if n_waiting == BLOCK or due:
                add_rows(covariance, float_sums, waiting, n_waiting)
                n_waiting = 0
            if due:
                next_factor += next_factor // 2
                factor(
                    covariance, float_sums, np.float64(i + 1 + mean_prior),
                    np.float64(ridge) * (np.float64(variance) / 65536.0), scratch, lower,
                )  # fmt: skip
                column_means(float_sums, np.float64(i + 1 + mean_prior), level)
    if encoding:
        return finish_encoder(state, data)
    return 0 if ends_well(state, data) else DAMAGED
