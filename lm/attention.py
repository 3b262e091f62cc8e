"""Attention of the integer graph (docs/NUMERICS.md, "A layer", 2 to 4).

A layer's keys and values lie in a *strip*: slot = position - origin.  When it is full,
the window's last slots move to its start.  So the slots that a query sees are always
contiguous, and several positions of one stream are attended to by one product.
"""

from __future__ import annotations

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.lm import layout
from pgolf_codec.lm.elementwise import RESIDUAL_LIMIT, clamp, normalize, scaled
from pgolf_codec.lm.layout import (
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
)
from pgolf_codec.lm.products import times_keys, times_values
from pgolf_codec.lm.tiles import address, put32
from pgolf_codec.lm.vectors import powers, round_scores

key_block_bytes, padded = jit(layout.key_block_bytes), jit(layout.padded)


@jit
def set_angles(h: Heads, position: int, cos: I32, sin: I32) -> None:
    for i in range(h.phases.size):
        angle = (position * h.phases[i]) & 65535
        cos[i] = h.cosine[angle]
        sin[i] = h.cosine[(angle - 16384) & 65535]


@jit
def _rotated(acc: I32, m: I32, cos: I32, sin: I32, tmp: I32, out: I16) -> None:
    """Scale, normalise and rotate one head's query or key."""
    for c in range(tmp.size):
        v = scaled(acc[c], m[c])
        tmp[c] = np.int32(min(max(v, -RESIDUAL_LIMIT), RESIDUAL_LIMIT))
    normalize(tmp, out)
    half = cos.size
    first, second = out[:half], out[half : 2 * half]
    for i in range(half):
        u, w = np.int32(first[i]), np.int32(second[i])
        # below 2**15.5 * 2**14 after rotation: no overflow
        first[i] = np.int16(np.int32(u * cos[i] - w * sin[i] + 8192) >> np.int32(14))
        second[i] = np.int16(np.int32(u * sin[i] + w * cos[i] + 8192) >> np.int32(14))


@jit
def _store_key(strip: I8, start: int, slot: int, key: I16) -> None:
    """Round a key to 4 fraction bits and put it into its slot."""
    block, column = start + (slot >> 5) * key_block_bytes(key.size), slot & 31
    if QUADS:  # (bias, step, half of the columns, 4 positions, column, position of 4)
        total, at = 0, block + 4 * COLUMNS + (column >> 4) * TILE + (column & 15) * 4
        for c in range(key.size):
            k = np.int8(clamp((np.int32(key[c]) + 16) >> 5, 127))
            strip[at + (c >> 6) * 2 * TILE + ((c & 63) >> 2) * TILE_BYTES + (c & 3)] = k
            total += k
        put32(strip, block + 4 * column, -128 * total)
    else:  # (pair, column, position of 2)
        at = block + column * 2
        for c in range(key.size):
            k = np.int8(clamp((np.int32(key[c]) + 16) >> 5, 127))
            strip[at + (c >> 1) * 2 * COLUMNS + (c & 1)] = k


@jit
def _store_value(strip: I8, start: int, slots: int, slot: int, acc: I32, m: I32) -> None:
    block = COLUMNS * slots
    if QUADS:
        start += (slot >> 6) * 2 * TILE + ((slot & 63) >> 2) * TILE_BYTES + (slot & 3)
        for c in range(acc.size):
            v = np.int8(clamp(scaled(acc[c], m[c]), 127))
            strip[start + (c >> 5) * block + ((c & 31) >> 4) * TILE + (c & 15) * 4] = v
    else:
        start += (slot >> 1) * 2 * COLUMNS + (slot & 1)
        for c in range(acc.size):
            v = np.int8(clamp(scaled(acc[c], m[c]), 127))
            strip[start + (c >> 5) * block + (c & 31) * 2] = v


@jit
def _make_room(h: Heads, s: Strips, lane: int, layer: int, position: int) -> None:
    """See to it that the strip has slots for POSITIONS positions from ``position`` on."""
    slots, origin = h.slots[layer], s.origin[lane, layer]
    if position + POSITIONS <= origin + slots:
        return
    start = max(0, position - h.windows[layer] + 1) // SLOTS * SLOTS
    by, used = start - origin, (position - start + SLOTS - 1) // SLOTS * SLOTS
    s.origin[lane, layer] = start
    block, width = key_block_bytes(h.d_head), padded(h.d_head)
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
def _softmax(z: I32, low: int, high: int, shift: int, out: I16) -> int:
    """``out`` (slots) about proportional to exp of the products z; returns its sum.

    Only z[low:high] count, the others' weights are 0.
    """
    first, last = low & -16, (high + 15) & -16
    for j in range(first):
        out[j] = 0
    for j in range(last, out.size):
        out[j] = 0
    nothing = np.int32(-(1 << 31))
    for j in range(first, low):
        z[j] = nothing
    for j in range(high, last):
        z[j] = nothing
    chunks = (last - first) >> 4
    best = round_scores(address(z, first), chunks)
    weights = address(out, first)
    return int(powers(address(z, first), chunks, best, np.int32(shift), weights))


@jit
def attend(
    h: Heads, s: Strips, layer: int, lane: int, position: int, first: int, count: int, acc: I32,
    b: Room,
) -> None:  # fmt: skip
    """Rows first .. first + count of ``acc`` (rows, queries, keys and values) into b.attended.

    They are positions from ``position`` on of one stream.
    """
    for j in range(0, count, POSITIONS):
        some = min(POSITIONS, count - j)
        _make_room(h, s, lane, layer, position + j)
        for g in range(h.n_kv_heads):
            _attend_group(h, s, layer, lane, g, position + j, first + j, some, acc, b)


@jit
def _attend_group(
    h: Heads, s: Strips, layer: int, lane: int, g: int, position: int, first: int, count: int,
    acc: I32, b: Room,
) -> None:  # fmt: skip
    kd, share, m = h.d_head, h.n_heads // h.n_kv_heads, h.qkv_m[layer]
    slots, window, origin = h.slots[layer], h.windows[layer], s.origin[lane, layer]
    width, block = padded(kd), key_block_bytes(kd)
    keys, values = s.keys[lane, g], s.values[lane, g]
    key_start, value_start = h.first_slot[layer] // COLUMNS * block, h.first_slot[layer] * width
    q_at, k_at = g * share * kd, (h.n_heads + g) * kd
    v_at = (h.n_heads + h.n_kv_heads + g) * kd
    for j in range(count):
        row, cos, sin = acc[first + j], b.cos[first + j], b.sin[first + j]
        for i in range(share):
            at, q = q_at + i * kd, b.q[j * share + i]
            _rotated(row[at : at + kd], m[at : at + kd], cos, sin, b.head, q)
            gain = np.int64(h.gain[layer, g * share + i])
            for c in range(kd):
                q[c] = np.int16(clamp((np.int64(q[c]) * gain + (1 << 16)) >> 17, 32767))
        _rotated(row[k_at : k_at + kd], m[k_at : k_at + kd], cos, sin, b.head, b.key)
        slot = position + j - origin
        _store_key(keys, key_start, slot, b.key)
        _store_value(
            values, value_start, slots, slot, row[v_at : v_at + kd], m[v_at : v_at + kd]
        )
    seen = max(0, position - window + 1)
    start = seen // SLOTS * SLOTS
    column = (seen - start) // COLUMNS * COLUMNS
    used, rows = position + count - start, count * share
    times_keys(
        b.q, rows, keys, key_start + (start + column - origin) // COLUMNS * block, block,
        (used - column + COLUMNS - 1) // COLUMNS, b.scratch, b.scores, column,
    )  # fmt: skip
    used = (used + SLOTS - 1) // SLOTS * SLOTS
    for j in range(count):
        low, high = max(0, position + j - window + 1) - start, position + j + 1 - start
        for i in range(share):
            r = j * share + i
            shares = b.shares[r, :used]
            b.totals[r] = _softmax(b.scores[r], low, high, h.weight_shift[layer], shares)
    times_values(
        b.shares, rows, used, values, value_start + (start - origin) * COLUMNS, COLUMNS * slots,
        width // COLUMNS, b.scratch, b.sums,
    )  # fmt: skip
    for j in range(count):
        for i in range(share):
            r, at = j * share + i, q_at + i * kd
            inverse = np.int32((np.int64(1) << (32 + h.output_bits)) // b.totals[r])
            sums, out = b.sums[r], b.attended[first + j, at : at + kd]
            for c in range(kd):
                out[c] = np.int16(scaled(sums[c], inverse))
