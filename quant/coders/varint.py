"""Unsigned integers in 7-bit groups, least first; the top bit says that more follow."""

from __future__ import annotations

from pgolf_codec.errors import CorruptError, TruncatedError

_MAX_GROUPS = 6
"""42 bits: more than any size here needs."""


def write_varint(out: bytearray, value: int) -> None:
    if not 0 <= value < 1 << 7 * _MAX_GROUPS:
        raise ValueError(f"{value} has no varint")
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Value, and where the next byte is."""
    value = 0
    for group in range(_MAX_GROUPS):
        if at + group >= len(data):
            raise TruncatedError("coded integers: end within a number")
        value |= (data[at + group] & 127) << 7 * group
        if data[at + group] < 128:
            return value, at + group + 1
    raise CorruptError("coded integers: a number has no end")


def zigzag(value: int) -> int:
    """0, -1, 1, -2 ... as 0, 1, 2, 3 ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    return value >> 1 if value & 1 == 0 else -(value + 1 >> 1)
