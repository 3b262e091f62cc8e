"""Attention of the integer graph (docs/NUMERICS.md, "A layer", 2 to 4).

A layer's keys and values lie in a *strip*: slot = position - origin.  When it is full,
the window's last slots move to its start.  So the slots that a query sees are always
contiguous, and several positions of one stream are attended to by one product.
"""

from __future__ import annotations

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.lm.elementwise import RESIDUAL_LIMIT, exponentials, normalize, scaled
from pgolf_codec.lm.layout import COLUMNS, I16, I32, POSITIONS, Heads, Room, Strips
from pgolf_codec.lm.products import product


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
def _store_key(strip: I16, start: int, slot: int, key: I16) -> None:
    at = start + (slot >> 5) * (32 * key.size) + (slot & 31) * 2
    for c in range(0, key.size, 2):
        strip[at] = key[c]
        strip[at + 1] = key[c + 1]
        at += 64


@jit
def _store_value(
    strip: I16, start: int, slots: int, slot: int, acc: I32, m: I32, limit: int
) -> None:
    start += (slot >> 1) * 64 + (slot & 1)
    for c in range(acc.size):
        v = min(max(scaled(acc[c], m[c]), -limit), limit)
        strip[start + (c >> 5) * (32 * slots) + (c & 31) * 2] = np.int16(v)


@jit
def _make_room(h: Heads, s: Strips, lane: int, layer: int, position: int) -> None:
    """See to it that the strip has slots for POSITIONS positions from ``position`` on."""
    slots, origin = h.slots[layer], s.origin[lane, layer]
    if position + POSITIONS <= origin + slots:
        return
    start = max(0, position - h.windows[layer] + 1) // COLUMNS * COLUMNS
    by, used = start - origin, (position - start + COLUMNS - 1) // COLUMNS * COLUMNS
    s.origin[lane, layer] = start
    padded = s.values.shape[2] // (s.keys.shape[2] // h.d_head)
    for g in range(h.n_kv_heads):
        _shift(s.keys[lane, g], h.first_slot[layer] * h.d_head, used * h.d_head, by * h.d_head)
        for block in range(padded // COLUMNS):
            at = h.first_slot[layer] * padded + block * COLUMNS * slots
            _shift(s.values[lane, g], at, used * COLUMNS, by * COLUMNS)


@jit
def _shift(strip: I16, at: int, size: int, by: int) -> None:
    """strip[at:][:size] = strip[at + by:][:size], in parts that don't overlap."""
    for first in range(at, at + size, by):
        last = min(first + by, at + size)
        to, source = strip[first:last], strip[first + by : last + by]
        for i in range(to.size):
            to[i] = source[i]


@jit
def _softmax(z: I32, low: int, high: int, gain: int, out: I16) -> int:
    """``out`` proportional to exp of the scores z, sum about 2**15, returned.

    Only z[low:high] count, the others' shares are 0.  Whole blocks of slots are computed,
    so that no loop has a remainder.
    """
    narrow, nothing = np.int32(gain), np.int32(-(1 << 31))
    for j in range(z.size):
        z[j] = np.int32((np.int64(z[j]) * np.int64(narrow) + (1 << 27)) >> 28)
    for j in range(low):
        z[j] = nothing
    for j in range(high, z.size):
        z[j] = nothing
    best = nothing
    for j in range(z.size):
        best = max(best, z[j])
    # One weight is 2**16, so that unit < 2**15 and w * unit < 2**31.
    unit = np.int32((np.int64(32767) << 16) // exponentials(z, best, 14))
    total = np.int32(0)
    for j in range(z.size):
        share = np.int32(np.uint32(z[j] * unit + 32768) >> np.uint32(16))
        out[j] = np.int16(share)
        total = np.int32(total + share)
    return int(total)


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
    padded = b.sums.shape[1]
    keys, values = s.keys[lane, g], s.values[lane, g]
    key_start, value_start = h.first_slot[layer] * kd, h.first_slot[layer] * padded
    q_at, k_at = g * share * kd, (h.n_heads + g) * kd
    v_at = (h.n_heads + h.n_kv_heads + g) * kd
    for j in range(count):
        row, cos, sin = acc[first + j], b.cos[first + j], b.sin[first + j]
        for i in range(share):
            at = q_at + i * kd
            _rotated(row[at : at + kd], m[at : at + kd], cos, sin, b.head, b.q[j * share + i])
        _rotated(row[k_at : k_at + kd], m[k_at : k_at + kd], cos, sin, b.head, b.key)
        slot = position + j - origin
        _store_key(keys, key_start, slot, b.key)
        value, value_m = row[v_at : v_at + kd], m[v_at : v_at + kd]
        _store_value(values, value_start, slots, slot, value, value_m, h.value_limit)
    start = max(0, position - window + 1) // COLUMNS * COLUMNS  # of a block of slots
    used = position + count - start
    rows, blocks = count * share, (used + COLUMNS - 1) // COLUMNS
    key_start += (start - origin) * kd
    product(b.q, rows, keys, key_start, COLUMNS * kd, kd // 2, blocks, b.scores)
    for j in range(count):
        low, high = max(0, position + j - window + 1) - start, position + j + 1 - start
        for i in range(share):
            r = j * share + i
            z, out = b.scores[r, : blocks * COLUMNS], b.shares[r, : blocks * COLUMNS]
            b.totals[r] = _softmax(z, low, high, h.gain[layer, g * share + i], out)
    value_start += (start - origin) * COLUMNS
    product(
        b.shares, rows, values, value_start, COLUMNS * slots, (used + 1) // 2, padded // COLUMNS,
        b.sums,
    )  # fmt: skip
    for j in range(count):
        for i in range(share):
            r, at = j * share + i, q_at + i * kd
            inverse = np.int32((np.int64(1) << 32) // b.totals[r])
            sums, out = b.sums[r], b.attended[first + j, at : at + kd]
            for c in range(kd):
                out[c] = np.int16(scaled(sums[c], inverse))
