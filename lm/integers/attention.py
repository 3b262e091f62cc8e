"""Attention of the integer graph (docs/NUMERICS.md, "A layer", 2 to 4).

A layer's keys and values lie in a *strip*: slot = position - origin.  When it is full,
the window's last slots move to its start.  So the slots that a query sees are always
contiguous, and several positions of one stream are attended to by one product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf_codec.codec.jit import inlined, jit
from pgolf_codec.codec.vectors import address
from pgolf_codec.lm.integers.elementwise import clamp, inverse_root
from pgolf_codec.lm.integers.layout import (
    COLUMNS,
    I8,
    I16,
    I32,
    I64,
    POSITIONS,
    QUADS,
    SLOTS,
    TILE,
    TILE_BYTES,
    Heads,
    Room,
    Strips,
    key_block_bytes,
    padded,
)
from pgolf_codec.lm.integers.numerics import INT8_MAX, INT16_MAX, NORM_SHIFT, RESIDUAL_LIMIT
from pgolf_codec.lm.integers.products import times_keys, times_values
from pgolf_codec.lm.integers.tiles import address32, copy32, moved, put32
from pgolf_codec.lm.integers.vectors import (
    clear,
    interleave,
    normalized_bytes,
    powers,
    rotated_bytes,
    round_scores,
    scale,
    weigh,
)

_block_bytes, _padded = jit(key_block_bytes), jit(padded)


@jit
def set_angles(h: Heads, position: int, cos: I32, sin: I32) -> None:
    for i in range(h.phases.size):
        angle = (position * h.phases[i]) & 65535
        cos[i] = h.cosine[angle]
        sin[i] = h.cosine[(angle - 16384) & 65535]


@inlined
def _store_key(strip: I8, start: int, slot: int, key: Any) -> None:
    block, column = start + (slot >> 5) * _block_bytes(key.size), slot & 31
    if QUADS:  # (bias, step, half of the columns, 4 positions, column, position of 4)
        total, at = np.int32(0), block + 4 * COLUMNS + (column >> 4) * TILE + (column & 15) * 4
        for c in range(key.size):
            total += np.int32(key[c])
        put32(strip, block + 4 * column, -128 * total)
        whole = key.size & -4
        for c in range(0, whole, 4):
            to = at + (c >> 6) * 2 * TILE + ((c & 63) >> 2) * TILE_BYTES
            copy32(strip, to, address(key, c))
        to = at + (whole >> 6) * 2 * TILE + ((whole & 63) >> 2) * TILE_BYTES
        for c in range(whole, key.size):
            strip[to + c - whole] = key[c]
    else:  # (pair, column, position of 2)
        at = block + column * 2
        for c in range(0, key.size, 2):
            strip[at], strip[at + 1] = key[c], key[c + 1]
            at += 2 * COLUMNS


@inlined
def _store_values(strip: I8, start: int, slots: int, slot: int, values: I32, count: int) -> None:
    """The first rows of ``values`` (rows, K) into slots from ``slot`` on."""
    j, n = 0, values.shape[1]
    while j < count:
        if QUADS and (slot + j) & 3 == 0 and j + 4 <= count:
            at = start + ((slot + j) >> 6) * 2 * TILE + (((slot + j) & 63) >> 2) * TILE_BYTES
            for c in range(0, n, 16):
                rows = (
                    address(values, j * n + c), address(values, (j + 1) * n + c),
                    address(values, (j + 2) * n + c), address(values, (j + 3) * n + c),
                )  # fmt: skip
                to = at + (c >> 5) * COLUMNS * slots + ((c & 31) >> 4) * TILE
                interleave(*rows, address32(strip, to), min(16, n - c))
            j += 4
        else:
            _store_value(strip, start, slots, slot + j, values[j])
            j += 1


@inlined
def _store_value(strip: I8, start: int, slots: int, slot: int, value: I32) -> None:
    block = COLUMNS * slots
    if QUADS:
        at = start + (slot >> 6) * 2 * TILE + ((slot & 63) >> 2) * TILE_BYTES + (slot & 3)
        for c in range(value.size):
            strip[at + (c >> 5) * block + ((c & 31) >> 4) * TILE + (c & 15) * 4] = value[c]
    else:
        at = start + (slot >> 1) * 2 * COLUMNS + (slot & 1)
        for c in range(value.size):
            strip[at + (c >> 5) * block + (c & 31) * 2] = value[c]


@jit
def _make_room(h: Heads, s: Strips, lane: int, layer: int, position: int) -> None:
    """See to it that the strip has slots for POSITIONS positions from ``position`` on."""
    slots, origin = h.slots[layer], s.origin[lane, layer]
    start = max(0, position - h.windows[layer] + 1) // SLOTS * SLOTS
    by, used = start - origin, (position - start + SLOTS - 1) // SLOTS * SLOTS
    s.origin[lane, layer] = start
    block, width = _block_bytes(h.d_head), _padded(h.d_head)
    first = h.first_slot[layer]
    for g in range(h.n_kv_heads):
        keys, values = s.keys[lane, g], s.values[lane, g]
        at = first // COLUMNS * block
        _shift(keys, at, used // COLUMNS * block, by // COLUMNS * block)
        for c in range(0, width, COLUMNS):
            _shift(values, first * width + c * slots, used * COLUMNS, by * COLUMNS)


@jit
def _shift(strip: I8, at: int, size: int, by: int) -> None:
    """strip[at:][:size] = strip[at + by:][:size], in parts that don't overlap."""
    for first in range(at, at + size, by):
        last = min(first + by, at + size)
        to, source = strip[first:last], strip[first + by : last + by]
        for i in range(to.size):
            to[i] = source[i]


@jit
def _softmax(z: I32, low: int, high: int, gain: int, out: Any) -> int:
    """``out`` (slots) about proportional to exp of the products z; returns its sum.

    Only z[low:high] count, the others' weights are 0.
    """
    first, last = low & -16, (high + 15) & -16
    clear(address(out, 0), first)
    clear(address(out, last), out.size - last)
    best = round_scores(address(z, first), gain, low - first, high - first, last - first)
    return int(powers(address(z, first), best, address(out, first), last - first))


@inlined
def attend(
    h: Heads, s: Strips, layer: int, positions: I64, lane: int, n: int, t: int, acc: I32,
    factors: I32, b: Room,
) -> None:  # fmt: skip
    """What rows of ``acc`` (n * t, queries, keys and values) attend to, into b.attended.

    They are t positions, from ``positions[lane + i]`` on, of each of n streams from ``lane`` on.
    Single positions of many streams are taken in together: most of that is waiting.
    """
    at_once = POSITIONS if t == 1 else 1
    for i in range(0, n, at_once):
        lanes = min(at_once, n - i)
        for j in range(0, t, POSITIONS):
            first, some = i * t + j, min(POSITIONS, t - j)
            for k in range(lane + i, lane + i + lanes):
                if positions[k] + j + POSITIONS > s.origin[k, layer] + h.slots[layer]:
                    _make_room(h, s, k, layer, positions[k] + j)
            for g in range(h.n_kv_heads):
                _take_in(h, layer, g, first, lanes * some, acc, factors, b)
                for k in range(lanes):
                    at = positions[lane + i + k] + j
                    _attend_group(h, s, layer, lane + i + k, g, at, first + k, k, some, b)


@jit
def _number(rows: Any, row: int, column: int) -> Any:
    """Pointer to one number of an array (rows, columns)."""
    return address(rows, row * rows.shape[1] + column)


@inlined
def _take_in(
    h: Heads, layer: int, g: int, first: int, count: int, acc: I32, factors: I32, b: Room
) -> None:
    """b.q, b.key and b.own: queries, keys and values of a group of heads at some positions."""
    kd, share = h.d_head, h.n_heads // h.n_kv_heads
    q_at, k_at = g * share * kd, (h.n_heads + g) * kd
    v_at, half = k_at + h.n_kv_heads * kd, h.phases.size
    for j in range(count):
        row = first + j
        for i in range(share + 1):  # queries, then the key
            at, r = q_at + i * kd if i < share else k_at, j * (share + 1) + i
            m, to = _number(h.qkv_m, layer, at), _number(b.head, r, 0)
            b.inverse[r] = scale(_number(acc, row, at), factors[row], m, RESIDUAL_LIMIT, to, kd)
        m, value = _number(h.qkv_m, layer, v_at), b.own[j]
        if h.added[layer]:
            to = address(value, 0)
            scale(_number(acc, row, v_at), factors[row], m, RESIDUAL_LIMIT, to, kd)
            for c in range(kd):
                value[c] = clamp(value[c] + b.added[row, g * kd + c], INT8_MAX)
        else:
            scale(_number(acc, row, v_at), factors[row], m, INT8_MAX, address(value, 0), kd)
    for r in range(count * (share + 1)):  # divisions, side by side
        b.inverse[r] = inverse_root(b.inverse[r], kd)
    for j in range(count):
        cos, sin = address(b.cos, (first + j) * half), address(b.sin, (first + j) * half)
        for i in range(share + 1):
            r = j * (share + 1) + i
            x, inverse = address(b.head, r * kd), _narrow(b.head[r], b.inverse[r])
            out = _number(b.q, j * share + i, 0) if i < share else _number(b.key, j, 0)
            y, out_y = moved(x, half), moved(out, half)
            rotated_bytes(x, y, inverse, cos, sin, out, out_y, half)
            normalized_bytes(moved(y, half), inverse, moved(out_y, half), kd - 2 * half)


@jit
def _narrow(x: I32, inverse: int) -> int:
    """``inverse`` if it has 32 bits; else x is normalised here, and has the factor of one."""
    if inverse < 1 << 31:
        return inverse
    for i in range(x.size):
        v = (np.int64(x[i]) * inverse + (1 << (NORM_SHIFT - 1))) >> NORM_SHIFT
        x[i] = clamp(v, INT16_MAX)
    return 1 << NORM_SHIFT


@inlined
def _attend_group(
    h: Heads, s: Strips, layer: int, lane: int, g: int, position: int, row: int, place: int,
    count: int, b: Room,
) -> None:  # fmt: skip
    """Positions from ``position`` on, which were taken in from ``place`` on, into rows of
    b.attended from ``row`` on."""
    kd, share = h.d_head, h.n_heads // h.n_kv_heads
    slots, window, origin = h.slots[layer], h.windows[layer], s.origin[lane, layer]
    width, block = _padded(kd), _block_bytes(kd)
    keys, values = s.keys[lane, g], s.values[lane, g]
    key_start, value_start = h.first_slot[layer] // COLUMNS * block, h.first_slot[layer] * width
    for j in range(count):
        _store_key(keys, key_start, position + j - origin, b.key[place + j])
    _store_values(values, value_start, slots, position - origin, b.own[place:], count)
    seen = max(0, position - window + 1)
    start = seen // SLOTS * SLOTS
    column = (seen - start) // COLUMNS * COLUMNS
    used, rows = position + count - start, count * share
    times_keys(
        b.q[place * share :], rows, keys,
        key_start + (start + column - origin) // COLUMNS * block, block,
        (used - column + COLUMNS - 1) // COLUMNS, h.n_kv_heads * keys.size, b.scores, column,
    )  # fmt: skip
    whole = (used + SLOTS - 1) // SLOTS * SLOTS
    for j in range(count):
        low, high = max(0, position + j - window + 1) - start, position + j + 1 - start
        for i in range(share):
            r = j * share + i
            gain, shares = h.gain[layer, g * share + i], b.shares[r, :whole]
            b.totals[r] = _softmax(b.scores[r], low, high, gain, shares)
    times_values(
        b.shares, rows, seen - start, used, values, value_start + (start - origin) * COLUMNS,
        COLUMNS * slots, width // COLUMNS, h.n_kv_heads * values.size, b.sums,
    )  # fmt: skip
    for j in range(count):
        for i in range(share):
            r, at = j * share + i, (g * share + i) * kd
            inverse = (np.int64(1) << (32 + h.output_bits)) // b.totals[r]
            out = address(b.attended, (row + j) * b.attended.shape[1] + at)
            weigh(address(b.sums, r * width), inverse, out, kd)
        if h.exclusive[layer]:
            for i in range(share):
                at = (g * share + i) * kd
                _leave_out(b.attended[row + j, at : at + kd], b.own[place + j], h.output_limit)


@jit
def _leave_out(o: I16, v: I32, limit: int) -> None:
    """Take from o (K) its part along v (K)."""
    along, size = np.int64(0), np.int64(0)
    for c in range(v.size):
        along += np.int64(o[c]) * v[c]
        size += np.int64(v[c]) * v[c]
    inverse = np.int64((1 << 32) // max(int(size), 1))
    for c in range(v.size):
        part = (along * v[c] * inverse + (np.int64(1) << 31)) >> 32
        o[c] = clamp(o[c] - part, limit)
