"""Decoders of our own coders in plain Python, written from docs/WEIGHTS.md.

They share nothing with the package but the numbers of the documents; slow, and meant to be.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right

import reference_trellis

EXP2 = [round(2 ** (30 - i / 1024)) for i in range(1024)]


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def unzigzag(z: int) -> int:
    return z // 2 if z % 2 == 0 else -(z + 1) // 2


def decode(stream: bytes) -> tuple[tuple[int, ...], list[int]]:
    """Shape and items of a stream of a built-in coder of ours."""
    number, n_dimensions, at = stream[0], stream[1], 2
    shape = []
    for _ in range(n_dimensions):
        size, at = varint(stream, at)
        shape.append(size)
    if math.prod(shape) == 0:
        return tuple(shape), []
    rows = shape[0] if len(shape) > 1 else 1
    columns = math.prod(shape) // rows
    decoder = {1: raw, 8: huffman, 14: cm, 15: reference_trellis.decode} | dict.fromkeys(
        range(9, 14), ans
    )
    return tuple(shape), decoder[number](stream[at:], rows, columns)


def raw(data: bytes, rows: int, columns: int) -> list[int]:
    low, width = struct.unpack_from("<iB", data)
    bits = int.from_bytes(data[5:], "little")
    return [low + (bits >> i * width & (1 << width) - 1) for i in range(rows * columns)]


class Bits:
    """The arithmetic decoder."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read, self.code, self.range = data, 0, 0, 2**32 - 1
        for _ in range(4):
            self.code = self.code << 8 | self.byte()

    def byte(self) -> int:
        self.read += 1
        return self.data[self.read - 1] if self.read <= len(self.data) else 0

    def bit(self, p: int) -> int:
        bound = (self.range >> 16) * p
        if self.code < bound:
            self.range, bit = bound, 1
        else:
            self.code, self.range, bit = self.code - bound, self.range - bound, 0
        while self.range < 2**24:
            self.code, self.range = self.code << 8 | self.byte(), self.range << 8
        return bit

    def finish(self) -> None:
        assert len(self.data) <= self.read <= len(self.data) + 4


class Numbers:
    """Numbers and labels of a head."""

    def __init__(self, data: bytes) -> None:
        self.bits = Bits(data)
        self.cells: dict[tuple[int, ...], tuple[int, int]] = {}

    def bit(self, *cell: int) -> int:
        p, n = self.cells.get(cell, (32768, 0))
        bit = self.bits.bit(min(max(p, 256), 65280))
        self.cells[cell] = (p + (65535 * bit - p) * 2 // (2 * n + 3), min(n + 1, 60))
        return bit

    def number(self, context: int) -> int:
        if not self.bit(context, 0):
            return 0
        negative = self.bit(context, 1)
        n_bits = 1
        while n_bits < 40 and self.bit(context, 1 + n_bits):
            n_bits += 1
        value = 1
        for place in range(n_bits - 1):
            bit = self.bits.bit(32768) if place else self.bit(context, 41 + n_bits)
            value = 2 * value + bit
        return -value if negative else value

    def labels(self, n: int) -> list[int]:
        self.cells = {k: v for k, v in self.cells.items() if len(k) > 1}
        found = []
        for _ in range(n):
            node = 1
            for _ in range(6):
                node = 2 * node + self.bit(node)
            found.append(node - 64)
        return found


def alphabet(head: Numbers) -> tuple[int, int, list[int]]:
    low, n_levels = head.number(0), head.number(1) + 1
    return low, n_levels, [low + head.number(3) for _ in range(head.number(2))]


def values(symbols: list[int], low: int, n_levels: int, escapes: list[int]) -> list[int]:
    rest = iter(escapes)
    found = [next(rest) if s == n_levels else low + s for s in symbols]
    assert next(rest, None) is None
    return found


def huffman(data: bytes, rows: int, columns: int) -> list[int]:
    n_head, at = varint(data, 0)
    head = Numbers(data[at : at + n_head])
    low, n_levels, escapes = alphabet(head)
    lengths, last = [], 0
    for _ in range(n_levels + bool(escapes)):
        last += head.number(4)
        lengths.append(last)
    head.bits.finish()
    used = sorted((length, s) for s, length in enumerate(lengths) if length)
    if len(used) == 1:
        return values([used[0][1]] * (rows * columns), low, n_levels, escapes)
    codes, code, last = {}, 0, 0
    for length, s in used:
        code <<= length - last
        codes[length, code] = s
        code, last = code + 1, length
    bits = "".join(f"{byte:08b}" for byte in data[at + n_head :])
    symbols, at = [], 0
    for _ in range(rows * columns):
        length = 1
        while (length, int(bits[at : at + length], 2)) not in codes:
            length += 1
        symbols.append(codes[length, int(bits[at : at + length], 2)])
        at += length
    assert len(bits) - at < 8
    return values(symbols, low, n_levels, escapes)


def ans(data: bytes, rows: int, columns: int) -> list[int]:
    n_head, at = varint(data, 0)
    head = Numbers(data[at : at + n_head])
    low, n_levels, escapes = alphabet(head)
    unit = head.number(4)
    classes = []
    for size in (rows, columns):
        n_classes = head.number(5) + 1
        classes.append(head.labels(size) if n_classes > 1 else [0] * size)
    across = head.number(6)
    tables: list[list[int]] = []
    for t in range(max(classes[0]) + max(classes[1]) + 1):
        table, slope, level = [], 0, 0
        for s in range(n_levels + bool(escapes)):
            found = head.number(7 + min(s, 2))
            if t and across:
                level += found
                table.append(tables[-1][s] + level)
            else:
                slope += found
                level += slope
                table.append(level)
        tables.append(table)
    head.bits.finish()
    bounds = [intervals(table, unit) for table in tables]
    at += n_head
    states = list(struct.unpack_from("<2Q", data, at))
    words = iter(struct.unpack(f"<{(len(data) - at - 16) // 4}I", data[at + 16 :]))
    symbols = []
    for i in range(rows):
        for j in range(columns):
            lane = len(symbols) & 1
            table = bounds[classes[0][i] + classes[1][j]]
            point = states[lane] & 2**20 - 1
            s = bisect_right(table, point) - 1
            symbols.append(s)
            states[lane] = (states[lane] >> 20) * (table[s + 1] - table[s]) + point - table[s]
            if states[lane] < 2**32:
                states[lane] = states[lane] << 32 | next(words)
    assert states == [2**32, 2**32]
    assert next(words, None) is None
    return values(symbols, low, n_levels, escapes)


def intervals(levels: list[int], unit: int) -> list[int]:
    weights = []
    for level in levels:
        steps = ((20 << unit) - level) << 10 - unit
        weights.append(EXP2[steps & 1023] >> (steps >> 10) if level else 0)
    n, total = sum(w > 0 for w in weights), sum(weights)
    bounds, there, before = [0], 0, 0
    for w in weights:
        there, before = there + (w > 0), before + w
        bounds.append(there + before * (2**20 - n) // total)
    return bounds


# The context mixing coder.


def exp2(e: int) -> int:
    return EXP2[e & 1023] >> (e >> 10) if e < 31 << 10 else 0


_FALLING = [exp2(x * 504258 >> 16) for x in range(2049)]
_LOWER = [(f << 16) // (2**30 + f) for f in _FALLING]
SQUASH = [min(max(p, 2), 65534) for p in _LOWER[::-1] + [65536 - p for p in _LOWER[1:2048]]]


def logit(p: int) -> int:
    return min(max(bisect_left(SQUASH, p), 1), 4095) - 2048


STRETCH = [logit((2 * i + 1) << 3) for i in range(4096)]


def tails(sigma: int) -> list[int]:
    factor = (EXP2[128 * sigma & 1023] >> (128 * sigma >> 10) >> 8) * 1477 // 2048 << 6
    density = [exp2((2 * i + 1) ** 2 * factor >> 22) for i in range(400)]
    sums, total = [0], 0
    for d in density[::-1] + density:
        total += d
        sums.append(total)
    return sums[::-1]


_TAILS = [tails(i) for i in range(112)]
BEGIN = [[logit((t[x] << 16) // max(t[0], 1)) for x in range(16, 785)] for t in _TAILS]
GO_ON = [[logit((t[x + 8] << 16) // max(t[x - 8], 1)) for x in range(16, 785)] for t in _TAILS]
RATE = [65536 * 5 // (5 * n + 8) for n in range(1024)]
_EIGHTHS = [EXP2[1024 - (128 * k - 64)] for k in range(1, 9)]
EIGHTHS = [bisect_right(_EIGHTHS, (2 * f + 257) << 21) for f in range(128)]
LEFT, ABOVE = (2, 8, 27, 72, 173, 392, 854), (8, 72, 392)
FIRST_WEIGHTS = (10000, 6500, 36000, 6500, 6500, 0, 0)


def clip(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


def sigma_index(variance: int) -> int:
    v = min(variance, 2**32 - 1)
    top = v.bit_length() - 1
    return clip(48 + 8 * (top - 16) + EIGHTHS[(v << 7 >> top) & 127], 0, 111)


class Counters:
    """Probabilities that learn; those that have seen nothing have none."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, ...], tuple[int, int]] = {}

    def logit(self, cell: tuple[int, ...], otherwise: int) -> int:
        return STRETCH[self.cells[cell][0] >> 10] if cell in self.cells else otherwise

    def count(self, cell: tuple[int, ...], p: int, bit: int, limit: int) -> None:
        q, n = self.cells.get(cell, (p << 6, 2))
        self.cells[cell] = (q + ((4194303 * bit - q) * RATE[n] >> 16), min(n + 1, limit))

    def plain_bit(self, bits: Bits, cell: tuple[int, ...]) -> int:
        p = clip(self.cells.get(cell, (1 << 21, 0))[0] >> 6, 32, 65504)
        bit = bits.bit(p)
        self.count(cell, p, bit, 255)
        return bit


def cm(data: bytes, rows: int, columns: int) -> list[int]:
    flags, shift, top, centre, priors, ridge = data[:6]
    width, at = varint(data, 6)
    origin, at = varint(data, at)
    variance, at = varint(data, at)
    transposed = flags & 1
    if transposed:
        rows, columns = columns, rows
    items = walk(
        Bits(data[at:]), rows * columns, width or columns, shift, unzigzag(origin), top, centre,
        flags >> 1 & 1, flags >> 2 & 1, 100 * ridge, variance, (flags >> 3) + 12,
        1 << (priors >> 4), 1 << (priors & 15),
    )  # fmt: skip
    if transposed:
        return [items[j * columns + i] for i in range(columns) for j in range(rows)]
    return items


def walk(
    bits: Bits, n_items: int, width: int, shift: int, origin: int, top: int, centre: int,
    open_low: int, open_high: int, ridge: int, variance: int, learn: int, prior: int,
    mean_prior: int,
) -> list[int]:  # fmt: skip
    n_rows = -(-n_items // width)
    mean, column_sigma, error_sigma = [0] * width, [0] * width, [0] * width
    inverse, expected_energy, sums = [0] * width, [0] * width, [0] * width
    squares = [variance * prior >> 16] * width
    errors = [variance * prior >> 8] * width
    last_error, level = [0] * width, [0] * width
    lower: list[list[int]] = [[0] * width for _ in range(width)]
    whole_rows: list[list[int]] = []
    next_factor = 64
    all_energy = energy_spread = 0
    per_column = n_rows >= 16 and width * 2 * (top + 1) <= 1 << 22
    fraction, neighbours, by_budget, column, low_bits, escapes = (Counters() for _ in range(6))
    weights = [list(FIRST_WEIGHTS) for _ in range(48)]
    items: list[int] = []
    for i in range(n_rows):
        n = min(width, n_items - i * width)
        if i < 64 or i % 8 == 0:
            for j in range(n):
                error = max((errors[j] << 8) // (i + prior), 1)
                error_sigma[j], inverse[j] = sigma_index(error), 2**32 // error
                centred = (sums[j] << 8) // (i + mean_prior)
                mean[j] = centred + 8 >> 4
                spread = (squares[j] << 16) // (i + prior) - centred * centred
                column_sigma[j] = sigma_index(max(spread, 1))
                expected_energy[j] = (squares[j] << 8) // (i + prior)
        shifted = [0] * width
        expected = sum(expected_energy[:n])
        budget = slack = expected
        if i >= 4:
            budget = (all_energy << 8) // i
            deviation = min(energy_spread // i, 1 << 22)
            slack = deviation * deviation * 51456 // max(expected // n, 1)
        slack = clip(slack, 16, 1 << 44)
        row_energy, row_errors, row_count, row_sigma, left, second_left = 0, 1024, 4, 0, 0, 0
        row: list[int] = []
        for j in range(n):
            guess = level[j] + shifted[j] + 2048 >> 12 if ridge else mean[j]
            guess = clip(guess, -16 * centre, 16 * (top - centre))
            start = guess + 8 >> 4
            if j % 8 == 0:
                row_sigma = sigma_index((row_errors << 8) // row_count) - 48
            ratio = (max(budget + slack, 64) << 16) // max(expected + slack, 1)
            left_sigma = sigma_index(max(ratio, 1)) - 48
            sigma = error_sigma[j]
            sigmas = (
                column_sigma[j], clip(sigma + row_sigma, 0, 111), clip(sigma + left_sigma, 0, 111)
            )  # fmt: skip
            place = 7 - sum(n - j >= bound for bound in (2, 3, 5, 9, 17, 33, 65))
            near = (left + second_left) ** 2 * inverse[j] >> 19
            above = last_error[j] * inverse[j] >> 19
            about = bisect_right(LEFT, min(near, 1023)) * 4 + bisect_right(ABOVE, min(above, 1023))
            contexts = (
                (sigma >> 2, guess + 8 & 15),
                (about, sigma >> 2),
                (place, clip(column_sigma[j] + left_sigma, 0, 111) >> 2),
            )
            t, n_steps, upwards = start, 0, start + centre <= 0
            first = not upwards
            while True:
                if not first and (t + centre >= top if upwards else t + centre <= 0):
                    break
                if first:
                    way, x, x_mean = 0, 16 * t - guess - 8, 16 * t - mean[j] - 8
                elif upwards:
                    way, x, x_mean = min(1 + n_steps, 23), 16 * t - guess, 16 * t - mean[j]
                else:
                    way, x, x_mean = 24 + min(n_steps, 23), guess - 16 * t, mean[j] - 16 * t
                table = BEGIN if first else GO_ON
                x, x_mean = clip(x, -384, 384) + 384, clip(x_mean, -384, 384) + 384
                s = [table[sigmas[0]][x_mean], table[sigmas[1]][x], table[sigmas[2]][x]]
                in_column = (j, 0 if first or upwards else 1, t)
                s.append(fraction.logit((*contexts[0], way), s[2]))
                s.append(neighbours.logit((*contexts[1], way), s[2]))
                s.append(column.logit(in_column, s[2]) if per_column else 0)
                s.append(by_budget.logit((*contexts[2], way), s[2]))
                w = weights[way]
                dot = sum(a * b for a, b in zip(w, s, strict=True)) >> 16
                p = SQUASH[clip(dot, -2047, 2047) + 2048]
                bit = bits.bit(p)
                missed = 65536 * bit - p
                weights[way] = [
                    a + (b * missed + (1 << learn - 1) >> learn) for a, b in zip(w, s, strict=True)
                ]
                fraction.count((*contexts[0], way), p, bit, 600)
                neighbours.count((*contexts[1], way), p, bit, 600)
                if per_column:
                    column.count(in_column, p, bit, 600)
                by_budget.count((*contexts[2], way), p, bit, 600)
                if first:
                    first, upwards = False, bool(bit)
                    t -= 1 - bit
                elif bit:
                    t += 1 if upwards else -1
                    n_steps += 1
                else:
                    break
            whole = t + centre + origin
            if open_high and t + centre == top:
                whole += excess(bits, escapes, 0)
            elif open_low and t + centre == 0:
                whole -= excess(bits, escapes, 1)
            context, node = min(n_steps, 23) + (0 if upwards else 24), 1
            for place in range(shift - 1, -1, -1):
                bit = low_bits.plain_bit(bits, (context, min(node, 32 + place)))
                whole, node = 2 * whole + bit, 2 * node + bit
            items.append(whole)
            error = clip(16 * t - guess, -2047, 2047)
            if ridge:
                for k in range(j + 1, min(j // 256 * 256 + 256, n)):
                    shifted[k] += lower[j][k] * error
            row.append(t)
            row_energy += t * t
            budget -= t * t << 8
            expected -= expected_energy[j]
            sums[j] += t
            squares[j] += t * t
            errors[j] += error * error
            last_error[j] = error * error
            second_left, left = left, abs(error)
            row_errors += min(error * error * inverse[j] >> 16, 1 << 14)
            row_count += 1
        if i:
            energy_spread += abs(row_energy - all_energy // i)
        all_energy += row_energy
        if ridge and n == width:
            whole_rows.append(row)
            if i + 1 == next_factor and i + 1 < n_rows:
                next_factor += next_factor // 2
                factor(whole_rows, ridge * (variance / 65536), i + 1 + mean_prior, lower)
                level = [
                    math.floor(sum(r[k] for r in whole_rows) / (i + 1 + mean_prior) * 65536 + 0.5)
                    for k in range(width)
                ]
    bits.finish()
    return items


def excess(bits: Bits, escapes: Counters, side: int) -> int:
    n_bits = 1
    while n_bits < 34 and escapes.plain_bit(bits, (side, n_bits)):
        n_bits += 1
    number = 1
    for _ in range(n_bits - 1):
        number = 2 * number + bits.bit(32768)
    return number - 1


def factor(rows: list[list[int]], ridge: float, total: float, lower: list[list[int]]) -> None:
    """Python's floats are binary64; every operation below is one rounding."""
    width = len(rows[0])
    for first in range(0, width, 256):
        size = min(256, width - first)
        sums = [float(sum(r[first + k] for r in rows)) for k in range(size)]
        a: list[list[float]] = []
        for i in range(size):
            share = sums[i] / total
            row = [0.0] * size
            for k in range(i, size):
                row[k] = float(sum(r[first + i] * r[first + k] for r in rows)) - share * sums[k]
            row[i] += ridge
            for j in range(i):
                f = a[j][i] / a[j][j]
                for k in range(i, size):
                    row[k] -= f * a[j][k]
            a.append(row)
            for k in range(i + 1, size):
                scaled = math.floor(row[k] / row[i] * 4096 + 0.5)
                lower[first + i][first + k] = clip(scaled, -4095, 4095)
