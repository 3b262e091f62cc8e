"""The integer graph: every operation between token ids and symbol weights.

``docs/NUMERICS.md`` is the specification; the names here are its names.  All
arithmetic is on integers with exact results, so the order of sums, the batch and
the instruction set do not matter.  Attention is in :mod:`pgolf_codec.lm.integers.attention`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf_codec.codec.adaptation import State as Stage
from pgolf_codec.codec.adaptation_kernels import decode_adapted, learn, predict
from pgolf_codec.codec.coding_kernels import decode_symbol, interval
from pgolf_codec.codec.jit import jit
from pgolf_codec.codec.range_coder import State as Coder
from pgolf_codec.codec.vectors import address
from pgolf_codec.lm.integers.attention import attend, set_angles
from pgolf_codec.lm.integers.elementwise import (
    byte_factor,
    byte_scale,
    clamp,
    normalize,
    root_mean_square,
    scaled,
)
from pgolf_codec.lm.integers.layout import (
    F32,
    HEAD_ROWS,
    I16,
    I32,
    U32,
    Buffers,
    Params,
    State,
)
from pgolf_codec.lm.integers.numerics import (
    FACTOR_SHIFT,
    GATE_FRAC,
    NORM_FRAC,
    RESIDUAL_LIMIT,
    UNIT_RMS,
)
from pgolf_codec.lm.integers.products import matmul8, matmul16
from pgolf_codec.lm.integers.vectors import (
    add_scaled,
    bytes16,
    bytes32,
    cap,
    largest16,
    leaky_square,
    mix,
    squares,
    symbol_powers,
)


@jit
def embed(p: Params, s: State, lane: int, ids: I32, b: Buffers) -> None:
    """Fill x0 of the rows of ids (n, t), stream-major."""
    n, t = ids.shape
    d = p.embedding.shape[1]
    up = p.residual_frac - NORM_FRAC
    for i in range(n):
        before = s.last_embedding[lane + i]
        for j in range(t):
            r = i * t + j
            token = ids[i, j]
            x, x0, y = b.x[r], b.x0[r], b.y[r]
            for c in range(d):
                x[c] = np.int32(p.embedding[token, c]) * p.embedding_m[c]
            normalize(x, squares(address(x, 0), d), y)
            for c in range(d):
                e = np.int64(y[c])
                e = e << up if up >= 0 else e >> -up
                x0[c] = clamp(e + scaled(before[c], p.smear_m[c]), RESIDUAL_LIMIT)
                before[c] = y[c]
            if p.bigram.shape[0] > 0:
                pair = np.int64(s.last_id[lane + i]) * 40503 + np.int64(token) * 30011
                row = (pair & 0x7FFFFFFF) % p.bigram.shape[0]
                for c in range(p.bigram.shape[1]):
                    v = scaled(p.bigram[row, c], p.bigram_m[c])
                    b.bigram[r, c] = clamp(v, p.bigram_limit)
            for c in range(p.value.shape[1]):
                b.value[r, c] = clamp(scaled(p.value[token, c], p.value_m[c]), p.value_limit)
            s.last_id[lane + i] = token
            set_angles(p.heads, s.position[lane + i] + j, b.room.cos[r], b.room.sin[r])
    if p.bigram.shape[0] > 0:
        matmul16(b.bigram, p.proj, b.acc_d, n * t, b.scratch)
        for r in range(n * t):
            b.factors[r] = 1 << FACTOR_SHIFT
        add_scaled_rows(b.x0, b.acc_d, b.factors, p.proj_m, n * t)
    if p.value.shape[0] > 0:
        matmul16(b.value, p.value_proj, b.acc_value, n * t, b.scratch)


@jit
def add_scaled_rows(x: I32, acc: I32, factors: I32, m: I32, rows: int) -> None:
    for r in range(rows):
        add_scaled(address(x[r], 0), address(acc[r], 0), factors[r], address(m, 0), x.shape[1])


@jit
def to_bytes(x: I32, largest: int, total: int, out: Any) -> int:
    """A row of x as bytes; their factor, by which it is normalised."""
    bytes32(address(x, 0), byte_scale(largest), address(out, 0), x.size)
    return int(byte_factor(largest, root_mean_square(total, x.size)))


@jit
def add_and_normalize(
    x: I32, acc: I32, factors: I32, m: I32, out: Any, out_factors: I32, rows: int
) -> None:
    """As :func:`add_scaled_rows`, and the sums as bytes."""
    for r in range(rows):
        row, products = address(x[r], 0), address(acc[r], 0)
        largest, total = add_scaled(row, products, factors[r], address(m, 0), x.shape[1])
        out_factors[r] = to_bytes(x[r], largest, total, out[r])


@jit
def mix_and_normalize(
    x: I32, x0: I32, first: I32, second: I32, out: Any, factors: I32, rows: int
) -> None:
    """As :func:`mix_rows`, and what comes out as bytes."""
    a, b = address(first, 0), address(second, 0)
    for r in range(rows):
        largest, total = mix(address(x[r], 0), address(x0[r], 0), a, b, x.shape[1])
        factors[r] = to_bytes(x[r], largest, total, out[r])


@jit
def plain_bytes(x: I16, out: Any, factors: I32, rows: int) -> None:
    """Rows of x as bytes, and their factors."""
    for r in range(rows):
        row, n = address(x[r], 0), x.shape[1]
        largest = largest16(row, n)
        bytes16(row, byte_scale(largest), address(out[r], 0), n)
        factors[r] = byte_factor(largest, UNIT_RMS)


@jit
def mix_rows(x: I32, x0: I32, first: I32, second: I32, rows: int) -> None:
    for r in range(rows):
        mix(address(x[r], 0), address(x0[r], 0), address(first, 0), address(second, 0), x.shape[1])


@jit
def copy_rows(x: I32, out: I32, rows: int) -> None:
    for r in range(rows):
        for c in range(x.shape[1]):
            out[r, c] = x[r, c]


@jit
def add_to_values(acc: I32, m: I32, out: I32, rows: int) -> None:
    """What a layer adds to its values, of the products with the values' embedding."""
    for r in range(rows):
        for c in range(out.shape[1]):
            out[r, c] = clamp(scaled(acc[r, c], m[c]), RESIDUAL_LIMIT)


@jit
def gate_rows(acc: I32, factors: I32, m: I32, bias: I32, sigmoid: I32, out: I16, rows: int) -> None:
    """Multiply each head of ``out`` (rows, H * K) by the sigmoid of its gate."""
    width = out.shape[1] // m.size
    half = np.int64(1) << (GATE_FRAC - 1)
    for r in range(rows):
        for h in range(m.size):
            product = (np.int64(acc[r, h]) * factors[r] + (1 << (FACTOR_SHIFT - 1))) >> FACTOR_SHIFT
            z = scaled(product, m[h]) + np.int64(bias[h])
            gate = np.int64(sigmoid[min(abs(z), sigmoid.size - 1)])
            gate = gate if z >= 0 else (np.int64(1) << GATE_FRAC) - gate
            for c in range(h * width, (h + 1) * width):
                out[r, c] = (np.int64(out[r, c]) * gate + half) >> GATE_FRAC


@jit
def activate_rows(
    acc: I32, factors: I32, m: I32, shift: int, limit: int, kept: int, hidden: I16, out: Any,
    out_factors: I32, rows: int,
) -> None:  # fmt: skip
    """From products of bytes to hidden units as bytes."""
    n = hidden.shape[1]
    for r in range(rows):
        row = address(hidden[r], 0)
        products = address(acc[r], 0)
        largest = leaky_square(products, factors[r], address(m, 0), shift, limit, kept, row, n)
        bytes16(row, byte_scale(largest), address(out[r], 0), n)
        out_factors[r] = byte_factor(largest, UNIT_RMS)


@jit
def attention(p: Params, s: State, j: int, lane: int, n: int, t: int, b: Buffers) -> None:
    """Add to b.x what pass ``j`` attends to, from the bytes of its input to those of the MLP's."""
    layer, rows = p.order[j], n * t
    matmul8(b.y8, p.qkv[layer], b.acc_qkv, rows)
    if p.heads.added[j]:
        add_to_values(b.acc_value, p.added_m[layer], b.room.added, rows)
    attend(p.heads, s.strips, j, s.position, lane, n, t, b.acc_qkv, b.factors, b.room)
    if p.gate.shape[0] > 0:
        matmul8(b.y8, p.gate[layer], b.acc_gate, rows)
        gate_rows(
            b.acc_gate, b.factors, p.gate_m[layer], p.gate_bias[layer], p.sigmoid,
            b.room.attended, rows,
        )  # fmt: skip
    plain_bytes(b.room.attended, b.attended8, b.out_factors, rows)
    matmul8(b.attended8, p.wo[layer], b.acc_d, rows)
    if p.parallel[j]:  # the bytes stay those of the input
        add_scaled_rows(b.x, b.acc_d, b.out_factors, p.wo_m[layer], rows)
    else:
        add_and_normalize(b.x, b.acc_d, b.out_factors, p.wo_m[layer], b.y8, b.factors, rows)


@jit
def forward(p: Params, s: State, lane: int, ids: I32, b: Buffers) -> None:
    """Advance n streams, from ``lane`` on, by t ids each, (n, t); b.y are their final states."""
    n, t = ids.shape
    rows = n * t
    embed(p, s, lane, ids, b)
    copy_rows(b.x0, b.x, rows)
    n_skips = p.skip_m.shape[0]
    for j in range(p.order.size):
        layer = p.order[j]
        if n_skips <= j < 2 * n_skips:
            mix_rows(b.x, b.skips[2 * n_skips - 1 - j], p.one, p.skip_m[j - n_skips], rows)
        first, second = p.mix_m[layer, 0], p.mix_m[layer, 1]
        mix_and_normalize(b.x, b.x0, first, second, b.y8, b.factors, rows)
        attention(p, s, j, lane, n, t, b)
        matmul8(b.y8, p.up[layer], b.acc_up, rows)
        activate_rows(
            b.acc_up, b.factors, p.up_m[layer], p.square_shift[layer], p.hidden_limit, p.kept,
            b.hidden, b.hidden8, b.out_factors, rows,
        )  # fmt: skip
        matmul8(b.hidden8, p.down[layer], b.acc_d, rows)
        add_scaled_rows(b.x, b.acc_d, b.out_factors, p.down_m[layer], rows)
        if j < n_skips:
            copy_rows(b.x, b.skips[j], rows)
    for r in range(rows):
        normalize(b.x[r], squares(address(b.x[r], 0), b.x.shape[1]), b.y[r])
        for c in range(p.head_in_m.size):
            b.y[r, c] = clamp(scaled(b.y[r, c], p.head_in_m[c]), p.head_limit)
    for i in range(n):
        s.position[lane + i] += t


@jit
def symbol_weights(m: F32, top: F32, products: I32, out: U32) -> None:
    """Capped softmax of one row of head products, largest weight 2**24; changes ``products``."""
    n, logits = out.size, address(products, 0)
    best = cap(logits, address(m, 0), address(top, 0), n)
    symbol_powers(logits, best, address(out, 0), n)


@jit
def head(p: Params, first: int, rows: int, b: Buffers) -> None:
    """Logits of rows of the final states, before their scales."""
    matmul16(b.y[first : first + rows], p.head, b.logits, rows, b.scratch)


@jit
def run(
    p: Params, s: State, lane: int, ids: I32, targets: I32, b: Buffers, cum: U32, freq: U32,
    weights: U32, coder: Coder, decoded: I32, stage: Stage,
) -> int:  # fmt: skip
    """Advance n streams, from ``lane`` on, by ids (n, t); one of three:

    - ``targets`` (n, t) are the ids that follow: their intervals go into ``cum`` and ``freq``;
    - t is 1 and ``targets`` (n, 0): what follows goes into ``weights`` (n, V);
    - in addition ``decoded`` is (n, steps): the ids that follow are decoded and fed back, step
      by step; ``ids`` gets the last ones.

    If ``stage`` has streams, the weights by which is coded are those that it makes of them.

    Returns whether every stream is sound.  One entry, so that the graph is compiled once.
    """
    n, t = ids.shape
    sound, adapts = True, stage.position.size > 0
    for step in range(max(1, decoded.shape[1])):
        forward(p, s, lane, ids, b)
        for first in range(0, n * t, HEAD_ROWS):
            rows = min(HEAD_ROWS, n * t - first)
            head(p, first, rows, b)
            for r in range(rows):
                i, j = (first + r) // t, (first + r) % t
                if decoded.shape[1] > 0:  # a stream at a time, whose own memory is near then
                    symbol_weights(p.head_m, p.cap, b.logits[r], b.weights)
                    if adapts:
                        sound = decode_adapted(stage, i, b.weights, coder) and sound
                    else:
                        sound = decode_symbol(coder, i, b.weights) and sound
                    ids[i, 0] = decoded[i, step] = coder.symbols[i]
                elif targets.shape[1] == 0:
                    symbol_weights(p.head_m, p.cap, b.logits[r], weights[i])
                else:
                    symbol_weights(p.head_m, p.cap, b.logits[r], b.weights)
                    if adapts:
                        predict(stage, lane + i, b.weights)
                        cum[i, j], freq[i, j] = interval(stage.weights[lane + i], targets[i, j])
                        learn(stage, lane + i, targets[i, j])
                    else:
                        cum[i, j], freq[i, j] = interval(b.weights, targets[i, j])
    return int(sound)
