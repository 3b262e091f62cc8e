"""The coder ``trellis`` in plain Python, written from docs/WEIGHTS.md."""

from __future__ import annotations

import struct
from functools import cache

EXP2 = [round(2 ** (30 - i / 1024)) for i in range(1024)]
CODES = {
    0: (0, 0), 2: (5, 2), 3: (11, 4), 4: (19, 4), 5: (37, 8), 6: (67, 20),
    7: (157, 86), 8: (333, 242),
}  # fmt: skip


@cache
def weights(q: int) -> list[int]:
    m = (9 + 2 * (q % 4)) << q // 4
    found = []
    for x in range(256):
        normal = min(x * x * 470 * 2**22 // m**2, 30720)
        laplace = min(x * 1477 * 2**11 // m, 30720)
        f, g = (EXP2[e % 1024] >> (e >> 10) for e in (normal, laplace))
        found.append(7 * f + g)
    return found


@cache
def prior(q: int, parity: int, decision: tuple[int, ...]) -> int:
    """Of a zero, 28 bits: () is it not zero; (l,) is it longer; (l, prefix) the next bit."""
    w = weights(q)

    def total(first: int, end: int) -> int:
        return sum(w[2 * v - parity] for v in range(first, min(end, 128)))

    if decision == ():
        zeros, ones = w[0], 2 * total(1, 128)
    elif len(decision) == 1:
        (length,) = decision
        zeros, ones = total(1 << length, 2 << length), total(2 << length, 128)
    else:
        length, prefix = decision
        below = length - prefix.bit_length()
        zeros = total(2 * prefix << below, 2 * prefix + 1 << below)
        ones = total(2 * prefix + 1 << below, 2 * prefix + 2 << below)
    return min(max(((zeros + 1) << 16) // (zeros + ones + 2), 64), 65472) << 12


class Bits:
    def __init__(self, data: bytes) -> None:
        self.data, self.read, self.code, self.range = data, 0, 0, 2**32 - 1
        self.cells: dict[object, tuple[int, int]] = {}
        for _ in range(4):
            self.shift()

    def shift(self) -> None:
        byte = self.data[self.read] if self.read < len(self.data) else 0
        self.code, self.read = self.code << 8 | byte, self.read + 1

    def bit(self, cell: object, start: int) -> int:
        p, n = self.cells.get(cell, (start, 16))
        bound = (self.range >> 16) * (p >> 12)
        bit = int(self.code >= bound)
        if bit:
            self.code, self.range = self.code - bound, self.range - bound
        else:
            self.range = bound
        while self.range < 2**24:
            self.range <<= 8
            self.shift()
        aim = (64 if bit else 65472) << 12
        self.cells[cell] = (p + ((aim - p) * (2**20 // n) >> 20), min(n + 1, 1000))
        return bit


def index(bits: Bits, q: int, parity: int) -> int:
    """The item, with the parity where there is one."""
    if parity == 0 and not bits.bit((q, 0), prior(q, 0, ())):
        return 0
    negative = bits.bit("sign", 2**27)
    length = 0
    while length < 6 and bits.bit((q, parity, length), prior(q, parity, (length,))):
        length += 1
    v = 1
    for _ in range(length):
        v = 2 * v + bits.bit((q, parity, length, v), prior(q, parity, (length, v)))
    return -v if negative else v


def class_of(mean: int) -> int:
    if mean >= 4096:
        return min(class_of(min(mean >> 8, 4095)) + 32, 63)
    octave = mean.bit_length() - 1
    return 4 * octave + ((mean << 2 >> octave) & 3)


def decode(data: bytes, rows: int, columns: int) -> list[int]:
    bits, log2 = Bits(data[1:]), data[0] & 127
    h0, h1 = CODES[log2]
    x = [[0] * columns for _ in range(rows)]
    sums, share, typical, total = [0] * rows, [4096] * rows, 1024, 0
    for c in range(columns):
        state, seen, shares, column = 0, 16384 * typical, 16384, 0
        for r in range(rows):
            if r % 4 == 0:
                mean = seen // shares
            parity = state % 2
            value = index(bits, class_of(max(1, mean * share[r] >> 12)), parity)
            if log2:
                value = 2 * value - (parity if value > 0 else -parity)
                bit = (value - parity) // 2 % 2
                state = state // 2 ^ bit * (h1 // 2) ^ parity * (h0 // 2)
            assert abs(value) <= 127
            x[r][c] = value
            size = abs(value) if log2 else 2 * abs(value)
            column, sums[r], seen, shares = (
                column + size, sums[r] + size, seen + size * 2**20, shares + share[r]
            )  # fmt: skip
        total += (column << 20) // max(1, shares - 16384)
        typical = max(1, total // (c + 1))
        if c < 16 or c % 4 == 0:
            for r in range(rows):
                relative = (sums[r] * 2**20 + 16384 * typical) // (total + 4 * typical)
                share[r] = min(max(relative, 64), 2**18)
    items = [value for row in x for value in row]
    rest = data[1 + bits.read :]
    if data[0] & 128:
        escapes = iter(struct.unpack(f"<{len(rest) // 4}i", rest))
        items = [next(escapes) if value == 127 else value for value in items]
        assert next(escapes, None) is None
    else:
        assert not rest
    return items
