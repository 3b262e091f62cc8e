"""Decoders of our own coders in plain Python, written from docs/WEIGHTS.md.

They share nothing with the package but the numbers of the documents; slow, and meant to be.
"""

from __future__ import annotations

import ctypes
import math
import operator
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
    predicted = unit >= 8
    unit -= 8 * predicted
    centre = point = shade_bits = 0
    offsets: list[int] = []
    weights: list[list[int]] = []
    if predicted:
        centre, point, shade_bits = (head.number(10) for _ in range(3))
        offsets = [2 ** (point - 1) + head.number(11) for _ in range(columns)]
        weights = [[head.number(12) for _ in range(j)] for j in range(columns)]
    classes = []
    for size in (rows, columns):
        n_classes = head.number(5) + 1
        classes.append(head.labels(size) if n_classes > 1 else [0] * size)
    across = head.number(6)
    tables: list[list[int]] = []
    for t in range((max(classes[0]) + max(classes[1]) + 1) * 2**shade_bits):
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

    def symbol(number: int) -> int:
        table, lane = bounds[number], len(symbols) & 1
        at = states[lane] & 2**20 - 1
        s = bisect_right(table, at) - 1
        symbols.append(s)
        states[lane] = (states[lane] >> 20) * (table[s + 1] - table[s]) + at - table[s]
        if states[lane] < 2**32:
            states[lane] = states[lane] << 32 | next(words)
        return s

    found = [[0] * columns for _ in range(rows)]
    outside = []
    if predicted:
        seen = [[0] * columns for _ in range(rows)]
        for top in range(0, rows, 512):
            for j in range(columns):
                for i in range(top, min(top + 512, rows)):
                    guess = offsets[j] + sum(map(operator.mul, weights[j], seen[i]))
                    guess = (guess + 2**15) % 2**16 - 2**15
                    shade = (guess >> point - shade_bits) % 2**shade_bits
                    s = symbol((classes[0][i] + classes[1][j]) * 2**shade_bits + shade)
                    item = low + s + (guess >> point)
                    if s == n_levels:
                        outside.append((i, j))
                    elif abs(item) <= 127:
                        seen[i][j] = item
                    found[i][j] = item + centre
    else:
        for i in range(rows):
            for j in range(columns):
                s = symbol(classes[0][i] + classes[1][j])
                if s == n_levels:
                    outside.append((i, j))
                found[i][j] = low + s
    assert len(outside) == len(escapes)
    for (i, j), item in zip(sorted(outside), escapes, strict=True):
        found[i][j] = item + centre
    assert states == [2**32, 2**32]
    assert next(words, None) is None
    return [item for row in found for item in row]


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


PRECISION = [(EXP2[128 * d & 1023] >> (128 * d >> 10) >> 8) * 1477 // 2048 << 6 for d in range(112)]


def tails(sigma: int) -> list[int]:
    density = [exp2((2 * i + 1) ** 2 * PRECISION[sigma] >> 22) for i in range(400)]
    sums, total = [0], 0
    for d in density[::-1] + density:
        total += d
        sums.append(total)
    return sums[::-1]


_TAILS = [tails(i) for i in range(112)]
BEGIN = [[logit((t[x] << 16) // max(t[0], 1)) for x in range(16, 785)] for t in _TAILS]
GO_ON = [[logit((t[x + 8] << 16) // max(t[x - 8], 1)) for x in range(16, 785)] for t in _TAILS]
RATE = [65536 * 5 // (5 * n + 6) for n in range(1024)]
_EIGHTHS = [EXP2[1024 - (128 * k - 64)] for k in range(1, 9)]
EIGHTHS = [bisect_right(_EIGHTHS, (2 * f + 257) << 21) for f in range(128)]
FIRST_WEIGHTS = (7500, 45000, 10000, 3000)


def clip(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


def sigma_index(variance: int) -> int:
    v = clip(variance, 1, 2**32 - 1)
    top = v.bit_length() - 1
    return clip(48 + 8 * (top - 16) + EIGHTHS[(v << 7 >> top) & 127], 0, 111)


class Counters:
    """Probabilities that learn; those that have seen nothing have none."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, ...], tuple[int, int]] = {}

    def logit(self, cell: tuple[int, ...], otherwise: int) -> int:
        return STRETCH[self.cells[cell][0] >> 10] if cell in self.cells else otherwise

    def count(self, cell: tuple[int, ...], p: int, bit: int, limit: int) -> None:
        q, n = self.cells.get(cell, (p << 6, 1))
        self.cells[cell] = (q + ((4194303 * bit - q) * RATE[n] >> 16), min(n + 1, limit))

    def plain_bit(self, bits: Bits, cell: tuple[int, ...]) -> int:
        p = clip(self.cells.get(cell, (1 << 21, 0))[0] >> 6, 32, 65504)
        bit = bits.bit(p)
        self.count(cell, p, bit, 255)
        return bit


def cm(data: bytes, rows: int, columns: int) -> list[int]:
    version, flags, shift, top, centre, priors, ridge, factors = data[:8]
    assert version in (2, 3)
    back = 1 << data[8] if version == 3 else 0
    width, at = varint(data, 9 if back else 8)
    origin, at = varint(data, at)
    variance, at = varint(data, at)
    transposed = flags & 1
    if transposed:
        rows, columns = columns, rows
    items = walk(
        Bits(data[at:]), rows * columns, width or columns, shift, unzigzag(origin), top, centre,
        flags >> 1 & 1, flags >> 2 & 1, 100 * ridge, variance, (flags >> 3) + 12,
        1 << (priors >> 4), 1 << (priors & 15), 16 * (factors >> 4) + 16, factors & 15,
        back,
    )  # fmt: skip
    if transposed:
        return [items[j * columns + i] for i in range(columns) for j in range(rows)]
    return items


def walk(
    bits: Bits, n_items: int, width: int, shift: int, origin: int, top: int, centre: int,
    open_low: int, open_high: int, ridge: int, variance: int, learn: int, prior: int,
    mean_prior: int, group: int, growth: int, back: int,
) -> list[int]:  # fmt: skip
    n_rows = -(-n_items // width)
    mean, column_sigma, error_sigma = [0] * width, [0] * width, [0] * width
    inverse, energies, sums, level = [0] * width, [0] * width, [0] * width, [0] * width
    squares = [variance * prior >> 16] * width
    errors = [variance * prior >> 8] * width
    lower: list[list[int]] = [[0] * width for _ in range(width)]
    whole_rows: list[list[int]] = []
    next_factor = 64
    all_energy = energy_spread = row_weight = 0
    seen = prior
    per_column = n_rows >= 16 and width * 2 * (top + 1) <= 1 << 22
    by_sigma, by_column, low_bits, escapes = (Counters() for _ in range(4))
    weights = [list(FIRST_WEIGHTS) for _ in range(48)]
    others = OtherRows(min(back, n_rows))
    items: list[int] = []
    for i in range(n_rows):
        n = min(width, n_items - i * width)
        if i < 64 or i % 8 == 0:
            if i >= 256:
                seen -= seen >> 5
                errors = [e - (e >> 5) for e in errors]
            for j in range(width):
                error = max((errors[j] << 8) // seen, 1)
                error_sigma[j], inverse[j] = sigma_index(error), 2**32 // error
                centred = (sums[j] << 8) // (i + mean_prior)
                mean[j] = centred + 8 >> 4
                column_sigma[j] = sigma_index((squares[j] << 16) // (i + prior) - centred**2)
                energies[j] = (squares[j] << 8) // (i + prior)
        shifted = [0] * width
        expected, expected_squares = sum(energies[:n]), sum(e * e >> 8 for e in energies[:n])
        budget = noise = 0
        if i >= 4:
            budget = (all_energy << 8) // i
            noise = min(energy_spread // i, 1 << 22) ** 2 * 402
        row_sigma = row_factor = factor = 0
        row_errors = group_errors = 1024
        row: list[int] = []
        others.begin(i)
        for j in range(n):
            guess = level[j] + shifted[j] + 2048 >> 12 if ridge else mean[j]
            linear = guess = clip(guess, -16 * centre, 16 * (top - centre))
            if back and i >= 64 and j and j % 32 == 0:
                others.look()
            if others.near:
                guess += others.told(error_sigma[j])
                guess = clip(guess, -16 * centre, 16 * (top - centre))
            start = guess + 8 >> 4
            row_energy, row_sum = sum(t * t for t in row), sum(row)
            left_over = budget + (row_sum**2 << 8) // n - (row_energy << 8)
            if j % 8 == 0:
                if j:
                    found = (row_errors - group_errors) * (exp2(128 * (factor + 64)) >> 6) >> 16
                    row_weight += 3 * (min(found, 1 << 14) - 2048) * row_sigma >> 6
                    row_weight = clip(row_weight, -(1 << 17), 1 << 17)
                    if others.near and j % 32:
                        rest = clip(factor - others.nearer, -64, 64)
                        found = (row_errors - group_errors) * (exp2(128 * (rest + 64)) >> 6) >> 16
                        others.count(found)
                    group_errors = row_errors
                row_sigma = sigma_index((row_errors << 8) // (4 + j)) - 48
                factor = row_factor = (row_weight * row_sigma >> 16) + others.nearer
                if i >= 4:
                    beyond = clip(left_over - expected, -(1 << 36), 1 << 36)
                    room = 2 * expected_squares + noise + 256
                    shrunk = 256 - 2 * (beyond * (expected // (n - j)) // room)
                    factor -= sigma_index(clip(shrunk, 26, 1 << 16) << 8) - 48
                factor = clip(factor, -64, 64)
            in_tail = i >= 4 and n - j <= 16
            sigma_1 = clip(error_sigma[j] + (row_factor if in_tail else factor), 0, 111)
            rest, rest_squares = expected - energies[j], expected_squares - (energies[j] ** 2 >> 8)
            below: list[int] = []
            if in_tail:
                room = 2 * max(rest_squares, 0) + noise + 256
                below = distribution(guess, sigma_1, left_over - rest, room, top, centre)
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
                s = [table[column_sigma[j]][clip(x_mean, -384, 384) + 384]]
                if in_tail:
                    at, total = t + centre, below[top + 1]
                    if first:
                        part, of = total - below[at], total
                    elif upwards:
                        part, of = total - below[at + 1], total - below[at]
                    else:
                        part, of = below[at], below[at + 1]
                    s.append(STRETCH[min((part << 12) // of, 4095)])
                else:
                    s.append(table[sigma_1][clip(x, -384, 384) + 384])
                in_sigma, in_column = (error_sigma[j] >> 2, way), (j, int(first or upwards), t)
                s.append(by_sigma.logit(in_sigma, s[1]))
                s.append(by_column.logit(in_column, s[1]) if per_column else 0)
                w = weights[way]
                dot = sum(a * b for a, b in zip(w, s, strict=True)) >> 16
                p = SQUASH[clip(dot, -2047, 2047) + 2048]
                bit = bits.bit(p)
                missed = 65536 * bit - p
                weights[way] = [
                    a + (b * missed + (1 << learn - 1) >> learn) for a, b in zip(w, s, strict=True)
                ]
                by_sigma.count(in_sigma, p, bit, 300)
                if per_column:
                    by_column.count(in_column, p, bit, 300)
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
            context, node = min(abs(t - start), 23) + (0 if upwards else 24), 1
            for place in range(shift - 1, -1, -1):
                bit = low_bits.plain_bit(bits, (context, min(node, 32 + place)))
                whole, node = 2 * whole + bit, 2 * node + bit
            items.append(whole)
            error = clip(16 * t - guess, -2047, 2047)
            if ridge:
                of_linear = clip(16 * t - linear, -2047, 2047)
                for k in range(j + 1, min(j // group * group + group, n)):
                    shifted[k] += lower[j][k] * of_linear
                others.keep(of_linear, error_sigma[j])
            row.append(t)
            expected, expected_squares = rest, rest_squares
            sums[j] += t
            squares[j] += t * t
            errors[j] += error * error
            row_errors += min(error * error * inverse[j] >> 16, 1 << 14)
        row_energy = sum(t * t for t in row) - sum(row) ** 2 // n
        if i:
            energy_spread += abs(row_energy - all_energy // i)
        all_energy += row_energy
        seen += 1
        if ridge and n == width:
            whole_rows.append(row)
            if i + 1 == next_factor and i + 1 < n_rows:
                next_factor += next_factor // growth
                compute_factors(
                    whole_rows, ridge * (variance / 65536), i + 1 + mean_prior, group, lower
                )
                level = [
                    math.floor(sum(r[k] for r in whole_rows) / (i + 1 + mean_prior) * 65536 + 0.5)
                    for k in range(width)
                ]
    bits.finish()
    return items


class OtherRows:
    """The rows before, by their places: what those that are most alike tell of this one."""

    def __init__(self, n_places: int) -> None:
        self.n_places = n_places
        self.kept: list[list[int]] = [[] for _ in range(n_places)]
        self.roots: list[list[int]] = [[] for _ in range(n_places)]
        self.learned = [[0, 1024, 64 << 8, 64] for _ in range(16)]

    def begin(self, i: int) -> None:
        self.place = i % self.n_places if self.n_places else 0
        self.candidates = [r for r in range(min(i, self.n_places)) if r != self.place]
        self.row: list[int] = []
        self.own_roots: list[int] = []
        self.near: list[tuple[int, int]] = []
        self.nearer = self.last = 0
        if self.n_places:
            self.kept[self.place], self.roots[self.place] = self.row, self.own_roots

    def look(self) -> None:
        j = len(self.row)
        scores = [
            (
                -sum(a * b for a, b in zip(self.row, self.kept[r], strict=False))
                * root[j // 32 - 1],
                r,
            )
            for r in self.candidates
            if (root := self.roots[r])
        ]
        best = [(-score, r) for score, r in sorted(scores)[:4] if score < 0]
        root = math.isqrt(2**32 // max(sum(z * z for z in self.row), 1))
        self.own_roots.append(root)
        self.near, self.likeness, self.nearer = [], 0, 0
        if best:
            highest = best[0][0]
            parts = [((score << 8) // highest) ** 2 for score, _ in best]
            self.near = [
                ((p << 12) // sum(parts), r) for p, (_, r) in zip(parts, best, strict=True)
            ]
            self.likeness = min(highest * root >> 28, 15)
            products, squares, errors, n = self.learned[self.likeness]
            self.gain = clip((products << 8) // squares, 0, 512)
            self.nearer = sigma_index((errors << 8) // n) - 48

    def told(self, sigma: int) -> int:
        j = len(self.row)
        self.last = sum(share * self.kept[r][j] for share, r in self.near) >> 6
        unit = exp2(64 * (112 - sigma)) >> 15
        return self.gain * self.last * unit + (1 << 21) >> 22

    def count(self, found: int) -> None:
        self.learned[self.likeness][2] += min(found, 1 << 14)
        self.learned[self.likeness][3] += 8

    def keep(self, error: int, sigma: int) -> None:
        z = clip(error * exp2(64 * sigma) + (1 << 29) >> 30, -7, 7)
        self.row.append(z)
        if self.near:
            self.learned[self.likeness][0] += z * self.last
            self.learned[self.likeness][1] += self.last**2 >> 6


def distribution(guess: int, sigma: int, goal: int, room: int, top: int, centre: int) -> list[int]:
    share = (739 << 32) // room
    exponents = []
    for t in range(-centre, top - centre + 1):
        left = min(abs(goal - (t * t << 8)) >> 4, 1 << 30)
        exponents.append(
            ((16 * t - guess) ** 2 * PRECISION[sigma] >> 20)
            + (min(left * left, room << 6) * share >> 32)
        )
    below = [0]
    for e in exponents:
        below.append(below[-1] + 1 + exp2(e - min(exponents)))
    return below


def excess(bits: Bits, escapes: Counters, side: int) -> int:
    n_bits = 1
    while n_bits < 34 and escapes.plain_bit(bits, (side, n_bits)):
        n_bits += 1
    number = 1
    for _ in range(n_bits - 1):
        number = 2 * number + bits.bit(32768)
    return number - 1


def single(x: float) -> float:
    """Rounded to binary32.  Of one operation in binary64 that is the operation in binary32."""
    return ctypes.c_float(x).value


def compute_factors(
    rows: list[list[int]], ridge: float, total: float, group: int, lower: list[list[int]]
) -> None:
    width = len(rows[0])
    for first in range(0, width, group):
        size = min(group, width - first)
        sums = [float(sum(r[first + k] for r in rows)) for k in range(size)]
        a: list[list[float]] = []
        for i in range(size):
            share = sums[i] / total
            row = [0.0] * size
            for k in range(i, size):
                product = float(sum(r[first + i] * r[first + k] for r in rows))
                row[k] = single(product - share * sums[k])
            row[i] = single(row[i] + ridge)
            for j in range(i):
                f = single(a[j][i] / a[j][j])
                for k in range(i, size):
                    row[k] = single(row[k] - single(f * a[j][k]))
            a.append(row)
            for k in range(i + 1, size):
                scaled = math.floor(single(single(row[k] / row[i]) * 4096 + 0.5))
                lower[first + i][first + k] = clip(scaled, -4095, 4095)
