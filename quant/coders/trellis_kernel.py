"""The kernels of :mod:`~pgolf_codec.quant.coders.trellis`, which says what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.trellis import (
    AHEAD,
    CLASS_TABLE,
    FINE,
    LEAST,
    LENGTH,
    LONGEST,
    MANTISSA,
    MAX_COUNT,
    MAX_WEIGHT,
    N_CLASSES,
    ONE,
    PRIOR_WEIGHT,
    SET,
)

TOP = 1 << 24
_int64: Any = np.int64  # numba knows it as a plain integer

# Arrays: data (bytes,) uint8; x (columns, rows) int8; follow (states, 2) int64;
# p, n (places,) int32: probabilities and counts, the sign's last; sums, share (rows,) int64;
# class_of (4096,), rates (1001,) int64.


@jit
def decode(
    data: Any,
    x: Any,
    follow: Any,
    p: Any,
    n: Any,
    sums: Any,
    share: Any,
    class_of: Any,
    rates: Any,
) -> int:
    """Bytes of the stream, or -1 if a value is no weight."""
    n_columns, n_rows = x.shape
    spacing = 2 if follow.shape[0] > 1 else 1
    at_sign = p.size - 1
    code, span, position = _int64(0), _int64((1 << 32) - 1), _int64(0)
    while position < 4:
        code, position = _shifted(code, position, data)
    typical, total = _int64(4 << 8), _int64(0)
    for c in range(n_columns):
        state = _int64(0)
        seen, shares, column = PRIOR_WEIGHT * ONE * typical, _int64(PRIOR_WEIGHT * ONE), _int64(0)
        mean = _int64(0)
        for r in range(n_rows):
            if r % AHEAD == 0:
                mean = seen // shares
            parity = state & 1
            base = (2 * _class(mean, share[r], class_of) + parity) * SET
            v, negative = _int64(1), _int64(0)
            if parity == 0:
                v, code, span, position = _get(code, span, position, data, p, n, base, rates)
            if v:
                negative, code, span, position = _get(
                    code, span, position, data, p, n, at_sign, rates
                )
                length = _int64(0)
                while length < LONGEST:
                    longer, code, span, position = _get(
                        code, span, position, data, p, n, base + LENGTH + length, rates
                    )
                    if longer == 0:
                        break
                    length += 1
                first = base + MANTISSA + (1 << length)
                for _ in range(length):
                    bit, code, span, position = _get(
                        code, span, position, data, p, n, first + v, rates
                    )
                    v = 2 * v + bit
            value = spacing * v - parity if v else _int64(0)
            if value > MAX_WEIGHT:
                return -1
            x[c, r] = -value if negative else value
            if spacing == 2:
                state = follow[state, ((-value if negative else value) - parity) >> 1 & 1]
            size = value * 2 // spacing
            column += size
            sums[r] += size
            seen += size << 20
            shares += share[r]
        total += (column << 20) // max(1, shares - PRIOR_WEIGHT * ONE)
        typical = _next_column(c, total, sums, share)
    return int(position)


@jit
def encode(
    data: Any,
    x: Any,
    follow: Any,
    p: Any,
    n: Any,
    sums: Any,
    share: Any,
    class_of: Any,
    rates: Any,
) -> int:
    """Bytes of the stream; ``data`` must have room for 2 a weight and 64."""
    n_columns, n_rows = x.shape
    spacing = 2 if follow.shape[0] > 1 else 1
    at_sign = p.size - 1
    # low, range, next byte; the byte on top waits, with the 255s behind it, for a carry.
    to = (_int64(0), _int64((1 << 32) - 1), _int64(0), _int64(0), _int64(0))
    typical, total = _int64(4 << 8), _int64(0)
    for c in range(n_columns):
        state = _int64(0)
        seen, shares, column = PRIOR_WEIGHT * ONE * typical, _int64(PRIOR_WEIGHT * ONE), _int64(0)
        mean = _int64(0)
        for r in range(n_rows):
            if r % AHEAD == 0:
                mean = seen // shares
            parity = state & 1
            base = (2 * _class(mean, share[r], class_of) + parity) * SET
            value = _int64(x[c, r])
            v = (abs(value) + parity) // spacing
            if parity == 0:
                to = _put(to, data, p, n, base, rates, 1 if v else 0)
            if v:
                to = _put(to, data, p, n, at_sign, rates, 1 if value < 0 else 0)
                length = _int64(0)
                while length < LONGEST:
                    longer = 1 if v >> (length + 1) else 0
                    to = _put(to, data, p, n, base + LENGTH + length, rates, longer)
                    if longer == 0:
                        break
                    length += 1
                first = base + MANTISSA + (1 << length)
                for left in range(length - 1, -1, -1):
                    at = first + (v >> (left + 1))
                    to = _put(to, data, p, n, at, rates, v >> left & 1)
            if spacing == 2:
                state = follow[state, (value - parity) >> 1 & 1]
            size = abs(value) * 2 // spacing
            column += size
            sums[r] += size
            seen += size << 20
            shares += share[r]
        total += (column << 20) // max(1, shares - PRIOR_WEIGHT * ONE)
        typical = _next_column(c, total, sums, share)
    for _ in range(5):
        to = _shift_out(to, data)
    return int(to[2])


@jit
def _class(mean: int, share: int, class_of: Any) -> int:
    """Of the |x| to expect: the column's mean times the row's share."""
    expected = max(1, mean * share >> 12)
    if expected < CLASS_TABLE:
        return int(class_of[expected])
    return int(min(class_of[min(expected >> 8, CLASS_TABLE - 1)] + 32, N_CLASSES - 1))


@jit
def _next_column(c: int, total: int, sums: Any, share: Any) -> int:
    """Behind column ``c``: the mean |x| of all so far, in 2**-8; sets the rows' shares."""
    typical = max(1, total // (c + 1))
    if c < 16 or c % AHEAD == 0:
        for r in range(sums.size):
            relative = ((sums[r] << 20) + PRIOR_WEIGHT * ONE * typical) // (
                total + PRIOR_WEIGHT * typical
            )
            share[r] = min(max(relative, ONE >> 6), ONE << 6)
    return int(typical)


@jit
def _adapt(p: Any, n: Any, at: int, bit: int, rates: Any) -> None:
    aim = LEAST << FINE if bit else (65536 - LEAST) << FINE
    before = _int64(p[at])
    p[at] = before + (((aim - before) * rates[n[at]]) >> 20)
    if n[at] < MAX_COUNT:
        n[at] += 1


@jit
def _get(
    code: int, span: int, position: int, data: Any, p: Any, n: Any, at: int, rates: Any
) -> tuple[int, int, int, int]:
    """A bit; ``code`` is the stream's place in the range ``span``."""
    bound = (span >> 16) * (_int64(p[at]) >> FINE)
    bit = _int64(1) if code >= bound else _int64(0)
    if bit:
        code -= bound
        span -= bound
    else:
        span = bound
    while span < TOP:
        span <<= 8
        code, position = _shifted(code, position, data)
    _adapt(p, n, at, bit, rates)
    return bit, code, span, position


@jit
def _shifted(code: int, position: int, data: Any) -> tuple[int, int]:
    """One byte more; zeros behind the end."""
    byte = _int64(data[position]) if position < data.size else _int64(0)
    return code << 8 | byte, position + 1


@jit
def _put(to: Any, data: Any, p: Any, n: Any, at: int, rates: Any, bit: int) -> Any:
    low, span, position, waiting, n_waiting = to
    bound = (span >> 16) * (_int64(p[at]) >> FINE)
    if bit:
        low += bound
        span -= bound
    else:
        span = bound
    to = (low, span, position, waiting, n_waiting)
    while to[1] < TOP:
        to = _shift_out(to, data)
    _adapt(p, n, at, bit, rates)
    return to


@jit
def _shift_out(to: Any, data: Any) -> Any:
    low, span, position, waiting, n_waiting = to
    if n_waiting == 0 or low < 0xFF000000 or low >= 1 << 32:
        for i in range(n_waiting):
            data[position] = ((255 if i else waiting) + (low >> 32)) & 255
            position += 1
        waiting, n_waiting = (low >> 24) & 255, _int64(0)
    return (low & 0xFFFFFF) << 8, span << 8, position, waiting, n_waiting + 1
