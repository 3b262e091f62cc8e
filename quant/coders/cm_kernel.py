"""The kernel of :mod:`~pgolf_codec.quant.coders.cm`, both directions in one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.cm_state import (
    BLOCK,
    CHUNK,
    CLASSES_OF_LIKENESS,
    COUNTER_LIMIT,
    DAMAGED,
    FARTHEST,
    FULL,
    LANES,
    LEAST_ROWS,
    LOOK,
    MARGIN,
    N_SIGMAS,
    NEAR,
    REACH,
    SIGMA_ZERO,
    STEPS,
    WAYS,
)

Array = NDArray[Any]
_int64: Any = np.int64  # numba knows it as a plain integer
_uint64: Any = np.uint64
_at: Any = np.uint64
"""An index that can't be negative: numba then looks for no end to count from."""

_FAR = 16 * REACH
_TABLE_ROW = 2 * _FAR + 1
_GO_ON = N_SIGMAS * _TABLE_ROW
_MOST = 4194303
_MAX_INT, _MIN_INT = 2**31 - 1, -(2**31)
_TOP, _FULL_SPAN = np.uint64(1 << 24), np.uint64((1 << 32) - 1)
_8, _16, _24, _32 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(32)
_TAIL = 16
"""Items at the end of a row whose distribution is computed whole."""
_VANISHED = 31 * 1024
"""Exponents of powers of two that are 0."""


@jit
def code(
    values: Array,
    data: Array,
    encoding: int,
    plan: Any,
    tables: Any,
    work: Any,
    rows: Any,
    counts: Any,
) -> Any:
    """Both directions.  Number of bytes, or FULL, DAMAGED; 0 when all is decoded."""
    width, shift, origin, top, centre = plan.width, plan.shift, plan.origin, plan.top, plan.centre
    open_low, open_high = plan.open_low, plan.open_high
    linear, size = plan.ridge > 0, plan.group
    prior, mean_prior = plan.prior, plan.mean_prior
    logits, squash, stretch, rate = tables.logits, tables.squash, tables.stretch, tables.rate
    eighths, factors = tables.eighths, tables.factors
    mean, column_sigma, error_sigma = work.mean, work.column_sigma, work.error_sigma
    inverse, expected_energy = work.inverse, work.expected_energy
    sums, squares, errors = work.sums, work.squares, work.errors
    level, shifted, lower = work.level, work.shifted, work.lower
    waiting, cumulative, exponents = work.waiting, work.cumulative, work.exponents
    by_sigma, by_column, weights = counts.by_sigma, counts.by_column, counts.weights
    state = counts.state
    n_rows = (values.size + width - 1) // width
    n_levels = top + 1
    n_places = min(plan.back, n_rows)
    kept, columns, told, learned = rows.kept, rows.columns, rows.told, rows.learned
    exp2 = tables.exp2
    per_column = by_column.size > 1
    half = _int64(1) << (plan.learn - 1)
    learn = _int64(plan.learn)
    n_waiting, next_factor = 0, LEAST_ROWS
    all_energy, energy_spread = _int64(0), _int64(0)
    seen = _int64(prior)
    row_weight = _int64(0)  # 16 fraction bits
    low, span, position = _uint64(0), _FULL_SPAN, _int64(0)
    if not encoding:
        for _ in range(4):
            low = low << _8 | _uint64(_byte(data, position))
            position += 1
    at = 0
    for i in range(n_rows):
        n = min(width, values.size - i * width)
        if i < 64 or i & 7 == 0:
            if i >= 256:
                seen -= seen >> 5
                for j in range(width):
                    errors[j] -= errors[j] >> 5
            _refresh(i, seen, prior, mean_prior, work, eighths)
        shifted[:] = 0
        expected, expected_squares = _int64(0), _int64(0)
        for j in range(n):
            energy = expected_energy[j]
            expected += energy
            expected_squares += energy * energy >> 8
        budget, noise, known = _int64(0), _int64(0), i >= 4
        if known:
            budget = (all_energy << 8) // i
            deviation = min(energy_spread // i, 1 << 22)
            noise = deviation * deviation * 402
        row_energy, row_sum = _int64(0), _int64(0)
        row_errors, row_count, row_sigma = _int64(4 << 8), _int64(4), _int64(0)
        row_factor, factor = _int64(0), _int64(0)
        group_errors = row_errors
        n_near, likeness, gain, nearer, length = 0, 0, _int64(0), _int64(0), _int64(0)
        place = i % n_places if n_places else 0
        rows.products[:] = 0
        for j in range(n):
            remaining = n - j
            guess = (level[j] + shifted[j] + 2048) >> 12 if linear else mean[j]
            guess = min(max(guess, -16 * centre), 16 * (top - centre))
            linear_guess, of_near = guess, _int64(0)
            if n_places and j % LOOK == 0 and j and i >= LEAST_ROWS:
                length = _compare(rows, j, place, min(i, n_places), length)
                n_near, likeness = _nearest(rows, j, place, min(i, n_places), length, n)
                found = learned[likeness]
                gain = min(max((found[0] << 8) // found[1], 0), 512)
                nearer = _sigma((found[2] << 8) // found[3], eighths) - SIGMA_ZERO
            if n_near:
                of_near = _int64(told[j % LOOK])
                unit = _power(_int64(64) * (N_SIGMAS - error_sigma[j]), exp2) >> 15
                guess += (gain * of_near * unit + (1 << 21)) >> 22
                guess = min(max(guess, -16 * centre), 16 * (top - centre))
            start = (guess + 8) >> 4
            in_tail = known and remaining <= _TAIL
            if j & 7 == 0:
                if j:
                    found = (row_errors - group_errors) * factors[factor + 64] >> 16
                    row_weight += 3 * (min(found, 1 << 14) - 2048) * row_sigma >> 6
                    row_weight = min(max(row_weight, -(1 << 17)), 1 << 17)
                    if n_near and j % LOOK:
                        without = min(max(factor - nearer, -64), 64) + 64
                        found = (row_errors - group_errors) * factors[without] >> 16
                        learned[likeness, 2] += min(found, 1 << 14)
                        learned[likeness, 3] += 8
                    group_errors = row_errors
                row_sigma = _sigma((row_errors << 8) // row_count, eighths) - SIGMA_ZERO
                row_factor = (row_weight * row_sigma >> 16) + (nearer if n_near else 0)
                factor = row_factor
                if known:
                    beyond = budget + (row_sum * row_sum << 8) // n - expected
                    beyond = min(max(beyond, -(1 << 36)), 1 << 36)
                    room = 2 * expected_squares + noise + 256
                    shrunk = 256 - 2 * (beyond * (expected // remaining) // room)
                    factor -= _sigma(min(max(shrunk, 26), 1 << 16) << 8, eighths) - SIGMA_ZERO
                factor = min(max(factor, -64), 64)
            sigma_0 = column_sigma[j]
            sigma_e = error_sigma[j]
            sigma_1 = sigma_e + (row_factor if in_tail else factor)
            sigma_1 = min(max(sigma_1, 0), N_SIGMAS - 1)
            if in_tail:
                rest = expected - expected_energy[j]
                goal = budget + (row_sum * row_sum << 8) // n - rest
                rest_squares = expected_squares - (expected_energy[j] * expected_energy[j] >> 8)
                _distribution(
                    guess, sigma_1, goal, 2 * max(rest_squares, 0) + noise + 256, top, centre,
                    tables.exp2, tables.precisions, cumulative, exponents,
                )  # fmt: skip
            in_sigma = (sigma_e >> 2) * WAYS
            in_column = j * 2 * n_levels + centre
            wanted = _int64(0)
            if encoding:
                wanted = (_int64(values[at]) >> shift) - origin - centre
                wanted = min(max(wanted, -centre), top - centre)
            # The walk: a first bit, then steps.
            t, sign, beyond_bit = start, _int64(1), _int64(-1)
            row_0, row_1 = sigma_0 * _TABLE_ROW + _FAR, sigma_1 * _TABLE_ROW + _FAR
            x_0, x_1 = 16 * start - mean[j] - 8, 16 * start - guess - 8
            way, last_way, left = _int64(0), _int64(STEPS - 1), _int64(1)
            if start + centre <= 0:
                way, left, beyond_bit = _int64(1), _int64(top - start - centre), _int64(0)
                x_0, x_1 = x_0 + 8, x_1 + 8
                row_0, row_1 = row_0 + _GO_ON, row_1 + _GO_ON
            cell = in_column + t
            while left > 0:
                s0 = _int64(logits[_at(row_0 + min(max(x_0, -_FAR), _FAR))])
                if in_tail:
                    k = t + centre
                    if way == 0:
                        part, whole_part = (
                            cumulative[n_levels] - cumulative[k],
                            cumulative[n_levels],
                        )
                    elif sign > 0:
                        part = cumulative[n_levels] - cumulative[k + 1]
                        whole_part = cumulative[n_levels] - cumulative[k]
                    else:
                        part, whole_part = cumulative[k], cumulative[k + 1]
                    s1 = _int64(stretch[_at(min((part << 12) // whole_part, 4095))])
                else:
                    s1 = _int64(logits[_at(row_1 + min(max(x_1, -_FAR), _FAR))])
                at_2 = _at(in_sigma + way)
                c2 = _int64(by_sigma[at_2])
                s2 = _int64(stretch[_at(c2 >> 20)]) if c2 & 1023 else s1
                c3, s3 = _int64(0), _int64(0)
                if per_column:
                    c3 = _int64(by_column[_at(cell)])
                    s3 = _int64(stretch[_at(c3 >> 20)]) if c3 & 1023 else s1
                w = _at(way * 4)
                w0, w1 = _int64(weights[w]), _int64(weights[w + _at(1)])
                w2, w3 = _int64(weights[w + _at(2)]), _int64(weights[w + _at(3)])
                dot = (w0 * s0 + w1 * s1 + w2 * s2 + w3 * s3) >> 16
                p = _int64(squash[_at(min(max(dot, -2047), 2047) + 2048)])
                bound = (span >> _16) * _uint64(p)
                if encoding:
                    bit = sign * (wanted - t) > beyond_bit
                    if bit:
                        span = bound
                    else:
                        low += bound
                        span -= bound
                    while span < _TOP:
                        if low >> _32:
                            _carry(data, position)
                            low &= _FULL_SPAN
                        data[_at(position)] = low >> _24
                        low = low << _8 & _FULL_SPAN
                        position += 1
                        span <<= _8
                else:
                    bit = low < bound
                    if bit:
                        span = bound
                    else:
                        low -= bound
                        span -= bound
                    while span < _TOP:
                        low = low << _8
                        if position < data.size:
                            low |= _uint64(data[_at(position)])
                        position += 1
                        span <<= _8
                goal_p = _int64(_MOST) if bit else _int64(0)
                missed = (_int64(65536) if bit else _int64(0)) - p
                weights[w] = w0 + ((s0 * missed + half) >> learn)
                weights[w + _at(1)] = w1 + ((s1 * missed + half) >> learn)
                weights[w + _at(2)] = w2 + ((s2 * missed + half) >> learn)
                weights[w + _at(3)] = w3 + ((s3 * missed + half) >> learn)
                count = max(c2 & 1023, 1)
                q = c2 >> 10 if c2 & 1023 else p << 6
                q += ((goal_p - q) * _int64(rate[_at(count)])) >> 16
                by_sigma[at_2] = q << 10 | min(count + 1, COUNTER_LIMIT)
                if per_column:
                    count = max(c3 & 1023, 1)
                    q = c3 >> 10 if c3 & 1023 else p << 6
                    q += ((goal_p - q) * _int64(rate[_at(count)])) >> 16
                    by_column[_at(cell)] = q << 10 | min(count + 1, COUNTER_LIMIT)
                if way == 0:
                    row_0, row_1, beyond_bit = row_0 + _GO_ON, row_1 + _GO_ON, _int64(0)
                    if bit:
                        way, left = _int64(1), _int64(top - t - centre)
                        x_0, x_1 = x_0 + 8, x_1 + 8
                    else:
                        t -= 1
                        sign, way, last_way = _int64(-1), _int64(STEPS), _int64(2 * STEPS - 1)
                        left = t + centre
                        cell += n_levels - 1
                        x_0, x_1 = mean[j] - 16 * t, guess - 16 * t
                elif bit:
                    t += sign
                    left -= 1
                    cell += sign
                    x_0 += 16
                    x_1 += 16
                    way = min(way + 1, last_way)
                else:
                    break
            # The walk has ended at t; what it leaves open follows.
            whole = t + centre + origin
            opened = (open_high and t + centre == top) or (open_low and t + centre == 0)
            if opened or shift:
                state[0], state[1], state[2] = low, span, _uint64(position)
                value = _int64(values[at]) if encoding else _int64(0)
                if open_high and t + centre == top:
                    whole += _excess(
                        state, data, encoding, counts.escapes, 0, (value >> shift) - whole, rate
                    )
                elif opened:
                    whole -= _excess(
                        state, data, encoding, counts.escapes, 1, whole - (value >> shift), rate
                    )
                if shift:
                    way_class = min(abs(t - start), STEPS - 1) + (0 if sign > 0 else STEPS)
                    whole = _low_bits(
                        state,
                        data,
                        encoding,
                        counts.low_bits,
                        way_class * 64,
                        whole,
                        value,
                        shift,
                        rate,
                    )
                low, span, position = state[0], state[1], _int64(state[2])
            if encoding:
                if position + MARGIN > data.size:
                    return FULL
            else:
                if not _MIN_INT <= whole <= _MAX_INT or position > data.size + 4:
                    return DAMAGED
                values[at] = whole
            at += 1
            error = min(max(16 * t - guess, -2047), 2047)
            if linear:
                first = j // size * size
                begin, end = (j + 1) // LANES * LANES, min(first + size, shifted.size)
                later, share = shifted[begin:end], lower[j, begin - first : end - first]
                linear_error = min(max(16 * t - linear_guess, -2047), 2047)
                step = np.int32(linear_error)
                if n_places:
                    z = (linear_error * _power(_int64(64) * sigma_e, exp2) + (1 << 29)) >> 30
                    z = min(max(z, -FARTHEST), FARTHEST)
                    kept[place, j] = z
                    columns[j, place] = z
                    if n_near:
                        learned[likeness, 0] += z * of_near
                        learned[likeness, 1] += of_near * of_near >> 6
                for k in range(later.size):
                    later[k] += share[k] * step
                waiting[n_waiting, j] = t
            energy = t * t
            row_energy += energy
            row_sum += t
            budget -= energy << 8
            expected -= expected_energy[j]
            expected_squares -= expected_energy[j] * expected_energy[j] >> 8
            sums[j] += t
            squares[j] += energy
            error_energy = error * error
            errors[j] += error_energy
            row_errors += min(error_energy * inverse[j] >> 16, 1 << 14)
            row_count += 1
        row_energy -= row_sum * row_sum // n
        if i:
            energy_spread += abs(row_energy - all_energy // i)
        all_energy += row_energy
        seen += 1
        if linear and n == width:
            n_waiting += 1
            due = i + 1 == next_factor and i + 1 < n_rows
            if n_waiting == BLOCK or due:
                _add_rows(work, n_waiting, size)
                n_waiting = 0
            if due:
                next_factor += next_factor // plan.growth
                _factor(
                    work,
                    size,
                    i + 1 + mean_prior,
                    np.float64(plan.ridge) * (np.float64(plan.variance) / 65536.0),
                )
    state[0], state[1], state[2] = low, span, _uint64(position)
    if encoding:
        return _finish(state, data)
    return 0 if data.size <= position <= data.size + 4 else DAMAGED


@jit
def _power(exponent: int, exp2: Array) -> Any:
    """2**30 * 2**(-exponent / 1024)."""
    return _int64(exp2[_at(exponent & 1023)]) >> (exponent >> 10)


@jit
def _compare(rows: Any, j: int, place: int, n: int, length: int) -> Any:
    """Products of this row and n others over the last columns; its squared length so far."""
    columns, block = rows.columns, rows.block[:n]
    for r in range(n):
        block[r] = 0
    for k in range(j - LOOK, j, 8):
        c0, c1, c2, c3 = columns[k], columns[k + 1], columns[k + 2], columns[k + 3]
        c4, c5, c6, c7 = columns[k + 4], columns[k + 5], columns[k + 6], columns[k + 7]
        z = rows.kept[place, k : k + 8]
        z0, z1, z2, z3 = np.int16(z[0]), np.int16(z[1]), np.int16(z[2]), np.int16(z[3])
        z4, z5, z6, z7 = np.int16(z[4]), np.int16(z[5]), np.int16(z[6]), np.int16(z[7])
        for m in range(8):
            length += _int64(z[m]) * _int64(z[m])
        for r in range(n):
            block[r] += np.int16(
                z0 * np.int16(c0[r])
                + z1 * np.int16(c1[r])
                + z2 * np.int16(c2[r])
                + z3 * np.int16(c3[r])
                + z4 * np.int16(c4[r])
                + z5 * np.int16(c5[r])
                + z6 * np.int16(c6[r])
                + z7 * np.int16(c7[r])
            )
    return length


@jit
def _root(value: int) -> Any:
    """The integer square root, below 2**32."""
    root, bit = _int64(0), _int64(1) << 32
    while bit:
        if value >= root + bit:
            value -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root


@jit
def _nearest(rows: Any, j: int, place: int, n_rows: int, length: int, n: int) -> Any:
    """What the rows of the highest scores tell; their number, and the class of the highest.

    A score is the product of all columns before j over the other row's length.
    """
    near, shares, scores = rows.near, rows.shares, rows.scores
    roots = rows.roots[j // LOOK - 1]
    roots[place] = 0  # not like itself
    n_near, least = 0, np.int32(0)
    for first in range(0, n_rows, CHUNK):
        size = min(CHUNK, n_rows - first)
        products, block = rows.products[first : first + size], rows.block[first : first + size]
        root = roots[first : first + size]
        most = np.int32(0)
        for r in range(size):
            products[r] += np.int32(block[r])
            score = np.int32(products[r] * root[r])
            scores[r] = score
            most = max(most, score)
        if most > least:
            for r in range(size):
                if scores[r] > least:
                    at = min(n_near, NEAR - 1)
                    while at and shares[at - 1] < scores[r]:
                        shares[at], near[at] = shares[at - 1], near[at - 1]
                        at -= 1
                    shares[at], near[at] = scores[r], first + r
                    n_near = min(n_near + 1, NEAR)
                    least = np.int32(shares[NEAR - 1]) if n_near == NEAR else np.int32(0)
    own = _root((_int64(1) << 32) // max(length, 1))
    roots[place] = own
    if not n_near:
        return 0, 0
    best, total = shares[0], _int64(0)
    likeness = min((best * own) >> 28, CLASSES_OF_LIKENESS - 1)
    for k in range(n_near):
        part = (shares[k] << 8) // best
        shares[k] = part * part
        total += part * part
    told = rows.told[: min(LOOK, n - j)]
    told[:] = 0
    for k in range(n_near):
        share, of_row = np.int32((shares[k] << 12) // total), rows.kept[near[k], j : j + told.size]
        for m in range(told.size):
            told[m] += share * np.int32(of_row[m])
    for m in range(told.size):
        told[m] >>= 6
    return n_near, likeness


@jit
def _sigma(variance: int, eighths: Array) -> Any:
    """Number of the deviation of a variance in units of 2**-16, at least 1."""
    v = min(max(variance, 1), (1 << 32) - 1)
    top, rest = 0, v
    for step in (16, 8, 4, 2, 1):
        more = rest >> step != 0
        rest = rest >> step if more else rest
        top += step if more else 0
    index = SIGMA_ZERO + 8 * (top - 16) + _int64(eighths[_at((v << 7 >> top) & 127)])
    return min(max(index, 0), N_SIGMAS - 1)


@jit
def _refresh(i: int, seen: int, prior: int, mean_prior: int, work: Any, eighths: Array) -> None:
    """Statistics of all columns, for the rows from i on."""
    for j in range(work.mean.size):
        error = max((work.errors[j] << 8) // seen, 1)
        work.error_sigma[j] = _sigma(error, eighths)
        work.inverse[j] = (_int64(1) << 32) // error
        centred = (work.sums[j] << 8) // (i + mean_prior)
        work.mean[j] = (centred + 8) >> 4
        squares = work.squares[j] << 8
        work.column_sigma[j] = _sigma((squares << 8) // (i + prior) - centred * centred, eighths)
        work.expected_energy[j] = squares // (i + prior)


@jit
def _distribution(
    guess: int, sigma: int, goal: int, room: int, top: int, centre: int,
    exp2: Array, precisions: Array, cumulative: Array, exponents: Array,
) -> None:  # fmt: skip
    """Sums of weights below each level: normal about the guess, and what is left of the energy.

    That, once the level's own is taken away, is normal about 0 with the variance ``room``.
    """
    share = (_int64(739) << 32) // room
    precision = precisions[sigma]
    least = _int64(1) << 62
    for k in range(top + 1):
        t = k - centre
        distance = 16 * t - guess
        left = min(abs(goal - (t * t << 8)) >> 4, 1 << 30)
        exponent = distance * distance * precision >> 20
        exponent += min(left * left, room << 6) * share >> 32
        exponents[k] = exponent
        least = min(least, exponent)
    total = _int64(0)
    for k in range(top + 1):
        cumulative[k] = total
        exponent = min(exponents[k] - least, _VANISHED)
        total += 1 + (_int64(exp2[exponent & 1023]) >> (exponent >> 10))
    cumulative[top + 1] = total


@jit
def _add_rows(work: Any, n_rows: int, group: int) -> None:
    """Add the products of the rows that wait."""
    rows, sums, covariance = work.waiting, work.float_sums, work.covariance
    rows[n_rows:] = 0.0
    for k in range(work.mean.size):
        first = k // group * group
        begin, end = k // LANES * LANES, min(first + group, rows.shape[1])
        out = covariance[k, begin - first : end - first]
        r0, r1, r2, r3 = (
            rows[0, begin:end],
            rows[1, begin:end],
            rows[2, begin:end],
            rows[3, begin:end],
        )
        r4, r5, r6, r7 = (
            rows[4, begin:end],
            rows[5, begin:end],
            rows[6, begin:end],
            rows[7, begin:end],
        )
        a0, a1, a2, a3 = rows[0, k], rows[1, k], rows[2, k], rows[3, k]
        a4, a5, a6, a7 = rows[4, k], rows[5, k], rows[6, k], rows[7, k]
        sums[k] += np.float64(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7)
        for j in range(out.size):
            out[j] += np.float64(
                a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
                + a4 * r4[j] + a5 * r5[j] + a6 * r6[j] + a7 * r7[j]
            )  # fmt: skip


@jit
def _factor(work: Any, group: int, n_rows: int, ridge: float) -> None:
    """L of all groups, transposed: ``lower`` (width, group), item (j, k) is L[k, j]."""
    scratch, lower, sums = work.scratch, work.lower, work.float_sums
    width, total = work.mean.size, np.float64(n_rows)
    for first in range(0, width, group):
        size = min(group, width - first)
        end = min(group, work.shifted.size - first)
        for i in range(size):
            begin = i // LANES * LANES
            row, source = scratch[i, begin:end], work.covariance[first + i, begin:end]
            below = sums[first + begin : first + end]
            share = sums[first + i] / total
            for k in range(row.size):
                row[k] = np.float32(source[k] - share * below[k])
            scratch[i, i] = np.float32(np.float64(scratch[i, i]) + ridge)
            j = 0
            while j + 4 <= i:  # four at a time, one after another
                r0, r1 = scratch[j, begin:end], scratch[j + 1, begin:end]
                r2, r3 = scratch[j + 2, begin:end], scratch[j + 3, begin:end]
                f0, f1 = scratch[j, i] / scratch[j, j], scratch[j + 1, i] / scratch[j + 1, j + 1]
                f2 = scratch[j + 2, i] / scratch[j + 2, j + 2]
                f3 = scratch[j + 3, i] / scratch[j + 3, j + 3]
                for k in range(row.size):
                    row[k] = (((row[k] - f0 * r0[k]) - f1 * r1[k]) - f2 * r2[k]) - f3 * r3[k]
                j += 4
            while j < i:
                r0 = scratch[j, begin:end]
                f0 = scratch[j, i] / scratch[j, j]
                for k in range(row.size):
                    row[k] -= f0 * r0[k]
                j += 1
            pivot, out = scratch[i, i], lower[first + i, begin:end]
            for k in range(row.size):
                scaled = np.floor(row[k] / pivot * np.float32(4096.0) + np.float32(0.5))
                out[k] = np.int32(min(max(scaled, np.float32(-4095.0)), np.float32(4095.0)))
            lower[first + i, begin : i + 1] = 0
    for k in range(width):
        work.level[k] = np.int64(np.floor(sums[k] / total * 65536.0 + 0.5))


@jit
def _plain_bit(
    state: Array, data: Array, encoding: int, counters: Array, at: int, bit: int, rate: Array
) -> Any:
    """A bit with one counter, no mixing; none if ``at`` is negative."""
    c = _int64(counters[at]) if at >= 0 else _int64(1 << 31)
    p = min(max(c >> 16, 32), 65504)
    bound = (state[1] >> _16) * _uint64(p)
    if not encoding:
        bit = 1 if state[0] < bound else 0
    if bit:
        state[1] = bound
    else:
        state[0] = state[0] + bound if encoding else state[0] - bound
        state[1] -= bound
    while state[1] < _TOP:
        if encoding:
            _shift(state, data)
        else:
            state[0] = state[0] << _8 | _uint64(_byte(data, _int64(state[2])))
            state[2] += _uint64(1)
        state[1] <<= _8
    if at >= 0:
        count = max(c & 1023, 1)
        q = c >> 10
        q += (((_int64(_MOST) if bit else _int64(0)) - q) * _int64(rate[count])) >> 16
        counters[at] = q << 10 | min(count + 1, 255)
    return bit


@jit
def _excess(
    state: Array, data: Array, encoding: int, counters: Array, side: int, excess: int, rate: Array
) -> Any:
    """A number from 0 on: how many bits it plus one has, in unary, then these bits."""
    n_bits = 1
    while n_bits < 34:
        more = 1 if encoding and (excess + 1) >> n_bits else 0
        if not _plain_bit(state, data, encoding, counters, side * 34 + n_bits - 1, more, rate):
            break
        n_bits += 1
    number = _int64(1)
    for place in range(n_bits - 2, -1, -1):
        known = ((excess + 1) >> place) & 1 if encoding else 0
        number = number << 1 | _plain_bit(state, data, encoding, counters, -1, known, rate)
    return number - 1


@jit
def _low_bits(
    state: Array, data: Array, encoding: int, counters: Array, context: int,
    whole: int, value: int, shift: int, rate: Array,
) -> int:  # fmt: skip
    node = 1
    for place in range(shift - 1, -1, -1):
        known = (value >> place) & 1 if encoding else 0
        cell = context + min(node, 32 + place)
        bit = _plain_bit(state, data, encoding, counters, cell, known, rate)
        whole, node = whole << 1 | bit, node << 1 | bit
    return whole


@jit
def _byte(data: Array, at: int) -> Any:
    return _int64(data[at]) if at < data.size else 0


@jit
def _carry(data: Array, n_bytes: int) -> None:
    """Add one to the number that the bytes are."""
    at = n_bytes - 1
    while data[at] == 255:
        data[at] = 0
        at -= 1
    data[at] += 1


@jit
def _shift(state: Array, data: Array) -> None:
    """The first byte of ``low`` is final but for a carry, which is handed on to those before."""
    if state[0] >> _32:
        _carry(data, _int64(state[2]))
        state[0] &= _FULL_SPAN
    data[_int64(state[2])] = state[0] >> _24
    state[0] = state[0] << _8 & _FULL_SPAN
    state[2] += _uint64(1)


@jit
def _finish(state: Array, data: Array) -> Any:
    """Number of bytes in all; ``data`` has room for four more."""
    low, end = state[0], state[0] + state[1]
    point = low
    for zeros in (32, 24, 16, 8, 0):  # the point of [low, end) with the most zero bytes
        step = _uint64(1) << _uint64(zeros)
        point = (low + step - _uint64(1)) & ~(step - _uint64(1))
        if point < end:
            break
    state[0] = point
    for _ in range(4):
        _shift(state, data)
    n = _int64(state[2])
    while n > 0 and data[n - 1] == 0 and n > _int64(state[2]) - 4:
        n -= 1
    return n
