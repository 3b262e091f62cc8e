"""A layer's elementwise work in four kernels for the GPU; the same integers as torch_ops.

Between two matrix products torch_ops makes a dozen passes over memory; here it is one,
and attention reads each key and value once, as int16.  Integers only, int64 where
docs/NUMERICS.md needs it, but for the square root of the norm, which is corrected on
integers.  The soft cap is not here: a compiler that fuses must not see floats.

Activations are written as the two int8 halves that the next product wants
(:class:`pgolf_codec.lm.torch_ops.Matrix`): low bytes of all rows, then high bytes.
With ``TRITON_INTERPRET=1`` all of it runs on the processor.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pgolf_codec.lm.torch_ops import RESIDUAL_LIMIT, Matrix

COLUMNS = 1024
"""Columns of a program of the activation."""
SLOTS = 64
"""Keys that a program of the attention looks at in one turn."""


@triton.jit
def _clamp(v, limit):
    return tl.minimum(tl.maximum(v, -limit), limit)


@triton.jit
def _scale(a, m):
    """sigma of int64."""
    return (a * m + 2147483648) >> 32


@triton.jit
def _inverse_rms(x, n):
    """2**40 / r of the norm of n numbers, int64; the rest of x is 0."""
    mean = (tl.sum(x * x) << 8) // n
    root = tl.sqrt(mean.to(tl.float64)).to(tl.int64)
    root = tl.where(root * root > mean, root - 1, root)
    root = tl.where((root + 1) * (root + 1) <= mean, root + 1, root)
    return tl.full((), 1099511627776, tl.int64) // tl.maximum(root, 1)


@triton.jit
def _normed(x, inverse):
    return _clamp((x * inverse + 67108864) >> 27, 32767)


@triton.jit
def _product(sums, offsets, rows, width, row, c, inside):
    """Products in int64 from the sums of both halves."""
    low = tl.load(sums + row * width + c, mask=inside, other=0).to(tl.int64)
    high = tl.load(sums + (rows + row) * width + c, mask=inside, other=0).to(tl.int64)
    return high * 256 + low + tl.load(offsets + c, mask=inside, other=0)


@triton.jit
def _store_halves(halves, rows, width, row, c, inside, y):
    tl.store(halves + row * width + c, ((y & 255) - 128).to(tl.int8), mask=inside)
    tl.store(halves + (rows + row) * width + c, (y >> 8).to(tl.int8), mask=inside)


@triton.jit
def _residual(
    x_at, x0_at, sums, offsets, multipliers, mix_x, mix_x0, halves, rows, sums_width, halves_width,
    D: tl.constexpr, BLOCK: tl.constexpr, LIMIT: tl.constexpr,
    ADD: tl.constexpr, MIX: tl.constexpr,
):  # fmt: skip
    """One row: x = sat(x + sigma(product)), if ADD; x = mix of x and x0, if MIX; norm."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < D
    x = tl.load(x_at + row * D + c, mask=inside, other=0).to(tl.int64)
    if ADD:
        a = _product(sums, offsets, rows, sums_width, row, c, inside)
        x = _clamp(x + _scale(a, tl.load(multipliers + c, mask=inside, other=0)), LIMIT)
    if MIX:
        x0 = tl.load(x0_at + row * D + c, mask=inside, other=0).to(tl.int64)
        a = x * tl.load(mix_x + c, mask=inside, other=0)
        a += x0 * tl.load(mix_x0 + c, mask=inside, other=0)
        x = _clamp((a + 2147483648) >> 32, LIMIT)
    x = tl.where(inside, x, 0)
    tl.store(x_at + row * D + c, x.to(tl.int32), mask=inside)
    y = _normed(x, _inverse_rms(x, D))
    _store_halves(halves, rows, halves_width, row, c, inside, y)


@triton.jit
def _activation(
    sums, offsets, multipliers, halves, rows, sums_width, halves_width, shift, half, limit,
    F: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some columns of one row: LeakyReLU(1/2) squared."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < F
    a = _product(sums, offsets, rows, sums_width, row, c, inside)
    u = _clamp(_scale(a, tl.load(multipliers + c, mask=inside, other=0)), 32767)
    u = tl.where(u < 0, u >> 1, u)
    u = tl.minimum((u * u + half) >> shift, limit)
    _store_halves(halves, rows, halves_width, row, c, inside, u)


@triton.jit
def _head_vector(
    sums, offsets, multipliers, rows, width, row, first, position, phases, cosine,
    K: tl.constexpr, KB: tl.constexpr, HALF: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """A query or a key: scaled, normalised, rotated; int32 (KB), 0 beyond K."""
    c = tl.arange(0, KB)
    inside = c < K
    rotated = c < 2 * HALF
    # Where the other number of a rotated pair is; the others are their own.
    pair = tl.where(rotated, tl.where(c < HALF, c + HALF, c - HALF), c)
    x = _product(sums, offsets, rows, width, row, first + c, inside)
    x = _clamp(_scale(x, tl.load(multipliers + first + c, mask=inside, other=0)), LIMIT)
    x = tl.where(inside, x, 0)
    p = _product(sums, offsets, rows, width, row, first + pair, inside)
    p = _clamp(_scale(p, tl.load(multipliers + first + pair, mask=inside, other=0)), LIMIT)
    inverse = _inverse_rms(x, K)
    y, p = _normed(x, inverse), _normed(p, inverse)
    phase = tl.load(phases + tl.where(c < HALF, c, c - HALF), mask=rotated, other=0)
    angle = (position * phase) & 65535
    cos = tl.load(cosine + angle)
    sin = tl.load(cosine + ((angle - 16384) & 65535))
    turned = (y * cos + tl.where(c < HALF, -p, p) * sin + 8192) >> 14
    return tl.where(rotated, turned, y).to(tl.int32)


@triton.jit
def _power(below, exp2, shift):
    steps = tl.minimum((below >> 10) + shift, 31)
    return tl.load(exp2 + (below & 1023)).to(tl.int64) >> steps


@triton.jit
def _attention(
    sums, offsets, multipliers, positions, phases, cosine, exp2, gain, keys, values, scores,
    halves, rows, sums_width, halves_width, value_limit, window, slots_a_row,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, K: tl.constexpr, KB: tl.constexpr,
    HALF: tl.constexpr, LIMIT: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One head of one row.

    The newest key and value are taken from registers: only then it does not matter
    whether the ring, which this head's group writes them to, has them already.
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    group = head // (HEADS // GROUPS)
    position = tl.load(positions + row)
    slot = position % window
    count = tl.minimum(position + 1, window)
    c = tl.arange(0, KB)
    inside = c < K
    q = _head_vector(sums, offsets, multipliers, rows, sums_width, row, head * K, position,
                     phases, cosine, K, KB, HALF, LIMIT)  # fmt: skip
    key = _head_vector(sums, offsets, multipliers, rows, sums_width, row, (HEADS + group) * K,
                       position, phases, cosine, K, KB, HALF, LIMIT)  # fmt: skip
    first = (HEADS + GROUPS + group) * K
    v = _product(sums, offsets, rows, sums_width, row, first + c, inside)
    v = _clamp(_scale(v, tl.load(multipliers + first + c, mask=inside, other=0)), value_limit)
    v = tl.where(inside, v, 0).to(tl.int32)
    ring = (row * GROUPS + group) * window * K
    if head % (HEADS // GROUPS) == 0:
        tl.store(keys + ring + slot * K + c, key.to(tl.int16), mask=inside)
        tl.store(values + ring + slot * K + c, v.to(tl.int16), mask=inside)
    g = tl.load(gain + head)
    newest = (tl.sum(q * key).to(tl.int64) * g + 134217728) >> 28
    best = newest
    row_scores = scores + (row * HEADS + head) * slots_a_row
    for start in range(0, count, SLOTS):
        j = start + tl.arange(0, SLOTS)
        there = (j < count) & (j != slot)
        both = there[:, None] & inside[None, :]
        k = tl.load(keys + ring + j[:, None] * K + c[None, :], mask=both, other=0).to(tl.int32)
        z = (tl.sum(k * q[None, :], 1).to(tl.int64) * g + 134217728) >> 28
        tl.store(row_scores + j, z.to(tl.int32), mask=there)
        best = tl.maximum(best, tl.max(tl.where(there, z, newest)))
    tl.debug_barrier()  # scores of other threads of this program
    newest_w = _power(best - newest, exp2, 14)
    total = newest_w
    for start in range(0, count, SLOTS):
        j = start + tl.arange(0, SLOTS)
        there = (j < count) & (j != slot)
        z = tl.load(row_scores + j, mask=there, other=0).to(tl.int64)
        w = _power(tl.where(there, best - z, 0), exp2, 14)
        total += tl.sum(tl.where(there, w, 0))
    unit = tl.full((), 2147418112, tl.int64) // total  # 32767 * 2**16
    newest_p = (newest_w * unit + 32768) >> 16
    shares = newest_p
    o = newest_p.to(tl.int32) * v
    for start in range(0, count, SLOTS):
        j = start + tl.arange(0, SLOTS)
        there = (j < count) & (j != slot)
        z = tl.load(row_scores + j, mask=there, other=0).to(tl.int64)
        w = _power(tl.where(there, best - z, 0), exp2, 14)
        p = tl.where(there, (w * unit + 32768) >> 16, 0)
        shares += tl.sum(p)
        both = there[:, None] & inside[None, :]
        vs = tl.load(values + ring + j[:, None] * K + c[None, :], mask=both, other=0).to(tl.int32)
        o += tl.sum(p.to(tl.int32)[:, None] * vs, 0)
    inverse = tl.full((), 4294967296, tl.int64) // shares
    mean = (o.to(tl.int64) * inverse + 2147483648) >> 32
    _store_halves(halves, rows, halves_width, row, head * K + c, inside, mean)


def _block(n: int) -> int:
    return max(16, int(triton.next_power_of_2(n)))


def residual(
    x: Tensor,
    x0: Tensor,
    halves: Tensor,
    *,
    added: tuple[Tensor, Matrix] | None = None,
    mixed: tuple[Tensor, Tensor] | None = None,
) -> None:
    """x (rows, D) int32 in place: plus sigma of a product's sums, then mixed with x0;
    its norm goes into ``halves`` (2, rows, K padded)."""
    rows, d = x.shape
    sums, matrix = added or (x, None)
    multipliers = offsets = x0
    if matrix is not None:
        offsets, multipliers = matrix.offsets, matrix.multipliers
    mix_x, mix_x0 = mixed or (x0, x0)
    _residual[(rows,)](
        x, x0, sums, offsets, multipliers, mix_x, mix_x0, halves, rows, sums.shape[1],
        halves.shape[2], D=d, BLOCK=_block(d), LIMIT=RESIDUAL_LIMIT,
        ADD=matrix is not None, MIX=mixed is not None,
    )  # fmt: skip


def activation(sums: Tensor, matrix: Matrix, shift: int, limit: int, halves: Tensor) -> None:
    """The hidden units from the sums of ``up``, into ``halves``."""
    rows = halves.shape[1]
    block = min(COLUMNS, _block(matrix.n))
    _activation[(rows, triton.cdiv(matrix.n, block))](
        sums, matrix.offsets, matrix.multipliers, halves, rows, sums.shape[1], halves.shape[2],
        shift, (1 << shift) >> 1, limit, F=matrix.n, BLOCK=block,
    )  # fmt: skip


def attention(
    sums: Tensor,
    matrix: Matrix,
    positions: Tensor,
    phases: Tensor,
    cosine: Tensor,
    exp2: Tensor,
    gain: Tensor,
    keys: Tensor,
    values: Tensor,
    scores: Tensor,
    value_limit: int,
    halves: Tensor,
) -> None:
    """All heads from the sums of ``qkv``; rings (rows, G, W, K) int16 get the newest.

    ``gain`` is (H) int64, ``scores`` (rows, H, at least W) int32 scratch; the outputs go
    into ``halves``.
    """
    rows, groups, window, d_head = keys.shape
    heads = gain.numel()
    _attention[(rows, heads)](
        sums, matrix.offsets, matrix.multipliers, positions, phases, cosine, exp2, gain,
        keys, values, scores, halves, rows, sums.shape[1], halves.shape[2], value_limit, window,
        scores.shape[2], HEADS=heads, GROUPS=groups, K=d_head, KB=_block(d_head),
        HALF=phases.numel(), LIMIT=RESIDUAL_LIMIT, SLOTS=SLOTS,
    )  # fmt: skip
