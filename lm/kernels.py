"""The integer graph: every operation between token ids and symbol weights.

``docs/NUMERICS.md`` is the specification; the names here are its names.  All
arithmetic is on integers with exact results, so the order of sums, the batch and
the instruction set do not matter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.frequencies import interval
from pgolf_codec.lm.simd import matmul, product
from pgolf_codec.lm.tables import exp2_table

I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]

RESIDUAL_LIMIT = (1 << 21) - 1
NORM_FRAC = 9
HEAD_FRAC = 10
LOGIT_FRAC = 10
LOGIT_LIMIT = (1 << 17) - 1
HEAD_ROWS = 64
"""Rows whose logits exist at one time."""

# Module constants are read-only memory to the compiler, which may then gather from
# them in vector loops.
EXP2 = exp2_table()
HALF = np.int64(1 << 31)
P0, P1, P2 = np.float32(135135), np.float32(17325), np.float32(378)
Q1, Q2, Q3 = np.float32(62370), np.float32(3150), np.float32(28)
ONE = np.float32(1)

jit = numba.njit(cache=True, nogil=True, error_model="numpy")


class Params(NamedTuple):
    """The model as the kernels read it; matrices packed by :func:`simd.pack`."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    vocab_size: int
    value_limit: int
    hidden_limit: int
    bigram_limit: int
    residual_frac: int
    embedding: I8  # (V, D)
    head: I16
    head_m: I64  # (V padded)
    smear_m: I64  # (D)
    bigram: I8  # (buckets, Db), or (0, 0)
    bigram_m: I64  # (Db)
    proj: I16
    proj_m: I64
    mix_m: I64  # (L, 2, D)
    qkv: I16  # (L, packed)
    qkv_m: I64  # (L, padded)
    gain: I64  # (L, H)
    wo: I16
    wo_m: I64
    up: I16
    up_m: I64
    down: I16
    down_m: I64
    square_shift: I64  # (L)
    windows: I64  # (L)
    slots: I64  # (L) windows rounded up to 32
    ring_start: I64  # (L) first slot of a layer's ring
    phases: I64  # (R / 2)
    cosine: I32
    cap: F32  # (2) 1 / (1024 softcap), 1024 log2(e) softcap


class State(NamedTuple):
    """What n streams remember."""

    position: I64  # (n)
    last_id: I32  # (n)
    last_embedding: I16  # (n, D)
    keys: I16  # (n, G, slots * K): a ring a layer, packed for products over K
    values: I16  # (n, G, slots * K padded): a ring a layer, packed for products over slots
    n_slots: int


class Buffers(NamedTuple):
    """Scratch for up to ``rows`` rows."""

    x0: I32  # (rows, D)
    x: I32
    y: I16  # (rows, D)
    bigram: I16  # (rows, Db)
    acc_d: I32  # (rows, D padded)
    acc_qkv: I32
    acc_up: I32
    q: I16  # (H / G, K)
    key: I16  # (K)
    attended: I16  # (rows, H * K)
    hidden: I16  # (rows, F)
    head_row: I32  # (K)
    scores: I32  # (H / G, most slots)
    shares: I16  # (H / G, most slots)
    sums: I32  # (H / G, K padded)
    totals: I64  # (H / G)
    logits: I32  # (HEAD_ROWS, V padded)
    weights: U32  # (V)


@jit
def isqrt(v: int) -> int:
    """floor(sqrt(v)), 0 <= v < 2**62."""
    r = int(math.sqrt(v))
    while r * r > v:
        r -= 1
    while (r + 1) * (r + 1) <= v:
        r += 1
    return r


@jit
def clamp(v: int, limit: int) -> int:
    return min(max(v, -limit), limit)


@jit
def scaled(acc: int, m: int) -> int:
    """acc * m / 2**32, rounded half up."""
    return int((np.int64(acc) * m + (1 << 31)) >> 32)


@jit
def normalize(x: I32, out: I16, limit: int) -> None:
    """out = x / rms(x) in units of 2**-9; |x| < 2**21."""
    total = np.int64(0)
    for i in range(x.size):
        total += np.int64(x[i]) * np.int64(x[i])
    root = max(np.int64(1), isqrt((total << 8) // x.size))
    inverse = (np.int64(1) << 40) // root
    for i in range(x.size):
        out[i] = clamp((np.int64(x[i]) * inverse + (1 << 26)) >> 27, limit)


@jit
def embed(p: Params, s: State, ids: I32, b: Buffers) -> None:
    """Fill x0 of the rows of ids (n, t), stream-major."""
    n, t = ids.shape
    d = p.embedding.shape[1]
    up = p.residual_frac - NORM_FRAC
    for i in range(n):
        for j in range(t):
            r = i * t + j
            token = ids[i, j]
            for c in range(d):
                b.x[r, c] = np.int32(p.embedding[token, c]) << 8
            normalize(b.x[r], b.y[r], 32767)
            for c in range(d):
                e = np.int64(b.y[r, c])
                e = e << up if up >= 0 else e >> -up
                b.x0[r, c] = clamp(e + scaled(s.last_embedding[i, c], p.smear_m[c]), RESIDUAL_LIMIT)
                s.last_embedding[i, c] = b.y[r, c]
            if p.bigram.shape[0] > 0:
                pair = np.int64(s.last_id[i]) * 40503 + np.int64(token) * 30011
                row = (pair & 0x7FFFFFFF) % p.bigram.shape[0]
                for c in range(p.bigram.shape[1]):
                    v = scaled(p.bigram[row, c], p.bigram_m[c])
                    b.bigram[r, c] = clamp(v, p.bigram_limit)
            s.last_id[i] = token
    if p.bigram.shape[0] > 0:
        matmul(b.bigram, p.proj, b.acc_d, n * t)
        add_scaled(b.x0, b.acc_d, p.proj_m, n * t)


@jit
def add_scaled(x: I32, acc: I32, m: I64, rows: int) -> None:
    for r in range(rows):
        for c in range(x.shape[1]):
            x[r, c] = clamp(np.int64(x[r, c]) + scaled(acc[r, c], m[c]), RESIDUAL_LIMIT)


@jit
def mix(x: I32, x0: I32, m: I64, rows: int) -> None:
    for r in range(rows):
        for c in range(x.shape[1]):
            a = np.int64(x[r, c]) * m[0, c] + np.int64(x0[r, c]) * m[1, c]
            x[r, c] = clamp((a + (1 << 31)) >> 32, RESIDUAL_LIMIT)


@jit
def head_vector(p: Params, acc: I32, m: I64, position: int, tmp: I32, out: I16) -> None:
    """Scale, normalise and rotate one head's query or key."""
    for c in range(tmp.size):
        tmp[c] = clamp(scaled(acc[c], m[c]), RESIDUAL_LIMIT)
    normalize(tmp, out, 32767)
    half = p.phases.size
    for i in range(half):
        angle = (position * p.phases[i]) & 65535
        cos = np.int64(p.cosine[angle])
        sin = np.int64(p.cosine[(angle - 16384) & 65535])
        u, w = np.int64(out[i]), np.int64(out[half + i])
        out[i] = (u * cos - w * sin + 8192) >> 14
        out[half + i] = (u * sin + w * cos + 8192) >> 14


@jit
def store_key(ring: I16, start: int, slot: int, key: I16) -> None:
    """Column ``slot`` of keys packed for a product over their dimensions."""
    at = start + (slot >> 5) * (32 * key.size) + (slot & 31) * 2
    for c in range(0, key.size, 2):
        ring[at] = key[c]
        ring[at + 1] = key[c + 1]
        at += 64


@jit
def softmax(scores: I32, count: int, gain: int, out: I16, used: int) -> int:
    """out[:count] proportional to exp of the scores, sum about 2**15, returned; out[:used] 0."""
    best = np.int64(-(1 << 62))
    for j in range(count):
        z = (np.int64(scores[j]) * gain + (1 << 27)) >> 28
        scores[j] = z
        best = max(best, z)
    total = np.int64(0)
    for j in range(count):
        below = np.uint64(best - scores[j])
        shift = min(np.uint64(14) + (below >> np.uint64(10)), np.uint64(31))
        scores[j] = EXP2[below & np.uint64(1023)] >> shift
        total += scores[j]
    unit = (np.int64(32767) << 16) // total
    total = np.int64(0)
    for j in range(count):
        share = (np.int64(scores[j]) * unit + 32768) >> 16
        out[j] = share
        total += share
    for j in range(count, used):
        out[j] = 0
    return int(total)


@jit
def attention(p: Params, s: State, layer: int, n: int, t: int, b: Buffers) -> None:
    """Queries, keys and values of all rows, each stream in order of time."""
    kd, heads, groups = p.d_head, p.n_heads, p.n_kv_heads
    share = heads // groups
    window, slots = p.windows[layer], p.slots[layer]
    padded = s.values.shape[2] // s.n_slots
    key_start, value_start = p.ring_start[layer] * kd, p.ring_start[layer] * padded
    m = p.qkv_m[layer]
    for i in range(n):
        for j in range(t):
            r = i * t + j
            position = s.position[i] + j
            slot = position % window
            count = min(position + 1, window)
            used = min(slots, (count + 31) // 32 * 32)
            for g in range(groups):
                for h in range(share):
                    c = slice((g * share + h) * kd, (g * share + h + 1) * kd)
                    head_vector(p, b.acc_qkv[r, c], m[c], position, b.head_row, b.q[h])
                c = slice((heads + g) * kd, (heads + g + 1) * kd)
                head_vector(p, b.acc_qkv[r, c], m[c], position, b.head_row, b.key)
                store_key(s.keys[i, g], key_start, slot, b.key)
                first = (heads + groups + g) * kd
                ring = s.values[i, g]
                for c2 in range(kd):
                    v = clamp(scaled(b.acc_qkv[r, first + c2], m[first + c2]), p.value_limit)
                    at = value_start + (c2 >> 5) * (32 * slots) + (slot >> 1) * 64 + (c2 & 31) * 2
                    ring[at + (slot & 1)] = v
                product(b.q, share, s.keys[i, g], key_start, 32 * kd, kd // 2, used // 32, b.scores)
                for h in range(share):
                    b.totals[h] = softmax(
                        b.scores[h], count, p.gain[layer, g * share + h], b.shares[h], used
                    )
                product(
                    b.shares, share, ring, value_start, 32 * slots, used // 2, padded // 32, b.sums
                )
                for h in range(share):
                    inverse = (np.int64(1) << 32) // b.totals[h]
                    first = (g * share + h) * kd
                    for c2 in range(kd):
                        mean = (np.int64(b.sums[h, c2]) * inverse + (1 << 31)) >> 32
                        b.attended[r, first + c2] = mean


@jit
def activate(acc: I32, m: I64, shift: int, limit: int, out: I16, rows: int) -> None:
    """LeakyReLU(1/2) squared."""
    half = (np.int64(1) << shift) >> 1
    for r in range(rows):
        for c in range(out.shape[1]):
            u = clamp(scaled(acc[r, c], m[c]), 32767)
            if u < 0:
                u >>= 1
            out[r, c] = min((u * u + half) >> shift, limit)


@jit
def forward(p: Params, s: State, ids: I32, b: Buffers) -> None:
    """Advance n streams by t ids each, (n, t); the final states are rows of b.y."""
    n, t = ids.shape
    rows = n * t
    embed(p, s, ids, b)
    for r in range(rows):
        b.x[r] = b.x0[r]
    for layer in range(p.windows.size):
        mix(b.x, b.x0, p.mix_m[layer], rows)
        for r in range(rows):
            normalize(b.x[r], b.y[r], 32767)
        matmul(b.y, p.qkv[layer], b.acc_qkv, rows)
        attention(p, s, layer, n, t, b)
        matmul(b.attended, p.wo[layer], b.acc_d, rows)
        add_scaled(b.x, b.acc_d, p.wo_m[layer], rows)
        for r in range(rows):
            normalize(b.x[r], b.y[r], 32767)
        matmul(b.y, p.up[layer], b.acc_up, rows)
        activate(b.acc_up, p.up_m[layer], p.square_shift[layer], p.hidden_limit, b.hidden, rows)
        matmul(b.hidden, p.down[layer], b.acc_d, rows)
        add_scaled(b.x, b.acc_d, p.down_m[layer], rows)
    for r in range(rows):
        normalize(b.x[r], b.y[r], 32767)
    for i in range(n):
        s.position[i] += t


@jit
def symbol_weights(m: I64, cap: F32, logits: I32, out: U32) -> None:
    """Capped softmax of one row of head products, largest weight 2**24.

    The cap is the only place with floats: a Pade approximant of tanh, elementwise
    float32 in this order, no contraction.
    """
    inverse, scale = cap[0], cap[1]
    for i in range(out.size):
        z = (np.int64(logits[i]) * m[i] + HALF) >> 32
        x = np.float32(np.int32(min(max(z, -LOGIT_LIMIT), LOGIT_LIMIT))) * inverse
        y = x * x
        above = x * (P0 + y * (P1 + y * (P2 + y)))
        below = P0 + y * (Q1 + y * (Q2 + y * Q3))
        logits[i] = np.int32(min(max(above / below, -ONE), ONE) * scale)
    best = np.int32(-(1 << 30))
    for i in range(out.size):
        best = max(best, logits[i])
    for i in range(out.size):
        under = np.uint32(best - logits[i])
        shift = min(np.uint32(6) + (under >> np.uint32(10)), np.uint32(31))
        out[i] = np.uint32(EXP2[under & np.uint32(1023)]) >> shift


@jit
def step(p: Params, s: State, ids: I32, b: Buffers, out: U32) -> None:
    """Advance n streams by one id, (n, 1); ``out`` (n, V) are the next weights."""
    forward(p, s, ids, b)
    n = ids.shape[0]
    for first in range(0, n, HEAD_ROWS):
        rows = min(HEAD_ROWS, n - first)
        matmul(b.y[first : first + rows], p.head, b.logits, rows)
        for r in range(rows):
            symbol_weights(p.head_m, p.cap, b.logits[r], out[first + r])


@jit
def score(p: Params, s: State, ids: I32, targets: I32, b: Buffers, cum: U32, freq: U32) -> None:
    """Advance n streams by t ids; intervals (n, t) of the targets that follow each."""
    forward(p, s, ids, b)
    n, t = ids.shape
    for first in range(0, n * t, HEAD_ROWS):
        rows = min(HEAD_ROWS, n * t - first)
        matmul(b.y[first : first + rows], p.head, b.logits, rows)
        for r in range(rows):
            symbol_weights(p.head_m, p.cap, b.logits[r], b.weights)
            i, j = (first + r) // t, (first + r) % t
            c, f = interval(b.weights, targets[i, j])
            cum[i, j] = c
            freq[i, j] = f
