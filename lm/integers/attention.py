"""Attention of the integer graph (docs/NUMERICS.md, "A layer", 2 to 4).

A layer's keys and values lie in a *strip*: slot = position - origin.  When it is full,
the window's last slots move to its start.  So the slots that a query sees are always
contiguous, and several positions of one stream are attended to by one product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.lm.integers.elementwise import clamp, normalize
from pgolf_codec.lm.integers.layout import (
    COLUMNS,
    I8,
    I16,
    I32,
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
from pgolf_codec.lm.integers.numerics import INT8_MAX, RESIDUAL_LIMIT
from pgolf_codec.lm.integers.products import times_keys, times_values
from pgolf_codec.lm.integers.tiles import address, put32
from pgolf_codec.lm.integers.vectors import (
    clear,
    powers,
    rotate,
    round_scores,
    scale,
    shortened,
    weigh,
)

_block_bytes, _padded = jit(key_block_bytes), jit(padded)


@jit
def set_angles(h: Heads, position: int, cos: I32, sin: I32) -> None:
    for i in range(h.phases.size):
        angle = (position * h.phases[i]) & 65535
        cos[i] = h.cosine[angle]
        sin[i] = h.cosine[(angle - 16384) & 65535]


@jit
def _store_key(strip: I8, start: int, slot: int, key: Any) -> None:
    block, column = start + (slot >> 5) * _block_bytes(key.size), slot & 31
    if QUADS:  # (bias, step, half of the columns, 4 positions, column, position of 4)
        total, at = np.int32(0), block + 4 * COLUMNS + (column >> 4) * TILE + (column & 15) * 4
        for c in range(key.size):
            strip[at + (c >> 6) * 2 * TILE + ((c & 63) >> 2) * TILE_BYTES + (c & 3)] = key[c]
            total += np.int32(key[c])
        put32(strip, block + 4 * column, -128 * total)
    else:  # (pair, column, position of 2)
        at = block + column * 2
        for c in range(0, key.size, 2):
            strip[at], strip[at + 1] = key[c], key[c + 1]
            at += 2 * COLUMNS


@jit
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
    if position + POSITIONS <= origin + slots:
        return
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


@jit
def attend(
    h: Heads, s: Strips, layer: int, lane: int, position: int, first: int, count: int, acc: I32,
    factors: I32, b: Room,
) -> None:  # fmt: skip
    """Rows first .. first + count of ``acc`` (rows, queries, keys and values) into b.attended.

    They are positions from ``position`` on of one stream.
    """
    for j in range(0, count, POSITIONS):
        some = min(POSITIONS, count - j)
        _make_room(h, s, lane, layer, position + j)
        for g in range(h.n_kv_heads):
            _attend_group(h, s, layer, lane, g, position + j, first + j, some, acc, factors, b)


@jit
def _number(rows: Any, row: int, column: int) -> Any:
    """Pointer to one number of an array (rows, columns)."""
    return address(rows, row * rows.shape[1] + column)


@jit
def _attend_group(
    h: Heads, s: Strips, layer: int, lane: int, g: int, position: int, first: int, count: int,
    acc: I32, factors: I32, b: Room,
) -> None:  # fmt: skip
    kd, share = h.d_head, h.n_heads // h.n_kv_heads
    slots, window, origin = h.slots[layer], h.windows[layer], s.origin[lane, layer]
    width, block = _padded(kd), _block_bytes(kd)
    keys, values = s.keys[lane, g], s.values[lane, g]
    key_start, value_start = h.first_slot[layer] // COLUMNS * block, h.first_slot[layer] * width
    q_at, k_at = g * share * kd, (h.n_heads + g) * kd
    v_at = (h.n_heads + h.n_kv_heads + g) * kd
    head, normed, half = b.head, b.normed, h.phases.size
    to, y = address(head, 0), address(normed, 0)
    for j in range(count):
        row, slot = first + j, position + j - origin
        cos, sin = address(b.cos, row * half), address(b.sin, row * half)
        for i in range(share + 1):  # queries, then the key
            at = q_at + i * kd if i < share else k_at
            m = _number(h.qkv_m, layer, at)
            total = scale(_number(acc, row, at), factors[row], m, RESIDUAL_LIMIT, to, kd)
            normalize(head, total, normed)
            rotate(y, address(normed, half), cos, sin, half)
            shortened(y, _number(b.q, j * share + i, 0) if i < share else address(b.key, 0), kd)
        _store_key(keys, key_start, slot, b.key)
        m = _number(h.qkv_m, layer, v_at)
        if h.added[layer]:
            scale(_number(acc, row, v_at), factors[row], m, RESIDUAL_LIMIT, to, kd)
            for c in range(kd):
                head[c] = clamp(head[c] + b.added[row, g * kd + c], INT8_MAX)
        else:
            scale(_number(acc, row, v_at), factors[row], m, INT8_MAX, to, kd)
        for c in range(kd):
            b.own[j, c] = head[c]
        _store_value(values, value_start, slots, slot, head)
    seen = max(0, position - window + 1)
    start = seen // SLOTS * SLOTS
    column = (seen - start) // COLUMNS * COLUMNS
    used, rows = position + count - start, count * share
    times_keys(
        b.q, rows, keys, key_start + (start + column - origin) // COLUMNS * block, block,
        (used - column + COLUMNS - 1) // COLUMNS, b.scores, column,
    )  # fmt: skip
    used = (used + SLOTS - 1) // SLOTS * SLOTS
    for j in range(count):
        low, high = max(0, position + j - window + 1) - start, position + j + 1 - start
        for i in range(share):
            r = j * share + i
            gain, shares = h.gain[layer, g * share + i], b.shares[r, :used]
            b.totals[r] = _softmax(b.scores[r], low, high, gain, shares)
    times_values(
        b.shares, rows, used, values, value_start + (start - origin) * COLUMNS, COLUMNS * slots,
        width // COLUMNS, b.sums,
    )  # fmt: skip
    for j in range(count):
        for i in range(share):
            r, at = j * share + i, q_at + i * kd
            inverse = (np.int64(1) << (32 + h.output_bits)) // b.totals[r]
            out = address(b.attended, (first + j) * b.attended.shape[1] + at)
            weigh(address(b.sums, r * width), inverse, out, kd)
        if h.exclusive[layer]:
            for i in range(share):
                at = q_at + i * kd
                _leave_out(b.attended[first + j, at : at + kd], b.own[j], h.output_limit)


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
