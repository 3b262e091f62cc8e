"""An order of documents in log2(n!) bits, rounded up to a byte; none for the natural order.

The digits of the factorial number system: digit i says which of those still left comes
next.  For n = 50,000 that is 88,545 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgolf_codec.errors import CorruptError


def encode(order: Sequence[int]) -> bytes:
    """``order`` is a permutation of 0 .. n − 1."""
    left = list(range(len(order)))
    if list(order) == left:
        return b""
    value = 0
    for index in order:
        at = left.index(index)
        value = value * len(left) + at
        del left[at]
    return value.to_bytes(n_bytes(len(order)), "big")


def decode(data: bytes, n: int) -> list[int]:
    """Raises :class:`CorruptError` for what :func:`encode` does not write."""
    if not data:
        return list(range(n))
    if len(data) != n_bytes(n):
        raise CorruptError(f"an order of {n} documents in {len(data)} bytes")
    value = int.from_bytes(data, "big")
    digits = []
    for base in range(1, n + 1):
        value, digit = divmod(value, base)
        digits.append(digit)
    if value:
        raise CorruptError("not an order of documents")
    left = list(range(n))
    return [left.pop(digit) for digit in reversed(digits)]


def n_bytes(n: int) -> int:
    """⌈log2(n!) / 8⌉."""
    factorial = 1
    for i in range(2, n + 1):
        factorial *= i
    return -(-(factorial - 1).bit_length() // 8)
