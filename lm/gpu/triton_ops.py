"""A layer's elementwise work in four kernels for the GPU; the same integers as torch_ops.

Between two matrix products torch_ops makes a dozen passes over memory; here it is one or
two, and attention reads each key and value once, as int8.  Integers only, int64 where
docs/NUMERICS.md needs it, but for the square root of the norm, which is corrected on
integers.  The soft cap is not here: a compiler that fuses must not see floats.

Activations are written as the bytes and factors that the next product wants
(:class:`pgolf_codec.lm.gpu.torch_ops.Bytes`); for the head as two int8 halves, low bytes of
all rows, then high bytes (:class:`pgolf_codec.lm.gpu.torch_ops.WideMatrix`).
With ``TRITON_INTERPRET=1`` all of it runs on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from pgolf_codec.lm.gpu.torch_ops import Bytes, Matrix
from pgolf_codec.lm.integers.numerics import RESIDUAL_LIMIT

COLUMNS = 1024
"""Columns that a program looks at in one turn, where it need not see all."""
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
def _rms(x, n):
    """r of n numbers, int64; the rest of x is 0."""
    mean = (tl.sum(x * x) << 8) // n
    root = tl.sqrt(mean.to(tl.float64)).to(tl.int64)
    root = tl.where(root * root > mean, root - 1, root)
    root = tl.where((root + 1) * (root + 1) <= mean, root + 1, root)
    return tl.maximum(root, 1)


@triton.jit
def _normed(x, r):
    inverse = tl.full((), 1099511627776, tl.int64) // r  # 2**40
    return _clamp((x * inverse + 67108864) >> 27, 32767)


@triton.jit
def _mixed(x, y, first, second, limit):
    return _clamp((x * first + y * second + 134217728) >> 28, limit)


@triton.jit
def _product(sums, factors, width, row, c, inside):
    """Products by bytes in int64 from the sums of bytes."""
    a = tl.load(sums + row * width + c, mask=inside, other=0).to(tl.int64)
    return (a * tl.load(factors + row) + 2048) >> 12


@triton.jit
def _residual(
    x_at, x0_at, sums, factors, multipliers, kept_at, skip, mix_x, mix_x0, columns, q_at,
    new_factors, rows, sums_width, q_width, limit,
    D: tl.constexpr, BLOCK: tl.constexpr, LIMIT: tl.constexpr,
    ADD: tl.constexpr, KEEP: tl.constexpr, SKIP: tl.constexpr, MIX: tl.constexpr,
    HALVES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One row: x = sat(x + sigma(product)), if ADD; that is stored, too, if KEEP; what was stored
    before is added, if SKIP, or x itself, if it is stored here; x = mix of x and x0, if MIX.

    Then its bytes, normalised by their factor; or, if HALVES, both bytes of its norm, whose
    columns are scaled, if COLUMNS.
    """
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < D
    x = tl.load(x_at + row * D + c, mask=inside, other=0).to(tl.int64)
    if ADD:
        a = _product(sums, factors, sums_width, row, c, inside)
        x = _clamp(x + _scale(a, tl.load(multipliers + c, mask=inside, other=0)), LIMIT)
    if KEEP:
        tl.store(kept_at + row * D + c, x.to(tl.int32), mask=inside)
    if SKIP:
        before = x if KEEP else tl.load(kept_at + row * D + c, mask=inside, other=0).to(tl.int64)
        x = _mixed(x, before, 268435456, tl.load(skip + c, mask=inside, other=0), LIMIT)
    if MIX:
        x0 = tl.load(x0_at + row * D + c, mask=inside, other=0).to(tl.int64)
        first = tl.load(mix_x + c, mask=inside, other=0)
        x = _mixed(x, x0, first, tl.load(mix_x0 + c, mask=inside, other=0), LIMIT)
    x = tl.where(inside, x, 0)
    tl.store(x_at + row * D + c, x.to(tl.int32), mask=inside)
    r = _rms(x, D)
    if HALVES:
        y = _normed(x, r)
        if COLUMNS:
            y = _clamp(_scale(y, tl.load(columns + c, mask=inside, other=0)), limit)
        tl.store(q_at + row * q_width + c, ((y & 255) - 128).to(tl.int8), mask=inside)
        tl.store(q_at + (rows + row) * q_width + c, (y >> 8).to(tl.int8), mask=inside)
    else:
        largest = tl.max(tl.maximum(x, -x))
        inverse = tl.full((), 2130706432, tl.int64) // tl.maximum(largest, 1)  # 127 * 2**24
        q = (x * inverse + 8388608) >> 24
        tl.store(q_at + row * q_width + c, q.to(tl.int8), mask=inside)
        tl.store(new_factors + row, ((largest << 25) // (r * 127)).to(tl.int32))


@triton.jit
def _to_bytes(activations, q_at, new_factors, q_width, N: tl.constexpr, BLOCK: tl.constexpr):
    """One row of int16, not to be normalised; all of it fits int32."""
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, N, BLOCK):
        c = start + tl.arange(0, BLOCK)
        x = tl.load(activations + row * N + c, mask=c < N, other=0).to(tl.int32)
        largest = tl.maximum(largest, tl.maximum(x, -x))
    most = tl.max(largest)
    inverse = tl.full((), 2130706432, tl.int32) // tl.maximum(most, 1)  # 127 * 2**24
    for start in range(0, N, BLOCK):
        c = start + tl.arange(0, BLOCK)
        x = tl.load(activations + row * N + c, mask=c < N, other=0).to(tl.int32)
        q = (x * inverse + 8388608) >> 24
        tl.store(q_at + row * q_width + c, q.to(tl.int8), mask=c < N)
    tl.store(new_factors + row, (most << 12) // 127)  # of 2**25 / (127 * 2**13)


@triton.jit
def _activation(
    sums, factors, multipliers, units, sums_width, shift, half, limit,
    F: tl.constexpr, BLOCK: tl.constexpr, LEAKY: tl.constexpr,
):  # fmt: skip
    """Some columns of one row: LeakyReLU(1/2) squared, or ReLU."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < F
    a = _product(sums, factors, sums_width, row, c, inside)
    u = _clamp(_scale(a, tl.load(multipliers + c, mask=inside, other=0)), 32767)
    u = tl.where(u < 0, u >> 1, u) if LEAKY else tl.maximum(u, 0)
    u = tl.minimum((u * u + half) >> shift, limit)
    tl.store(units + row * F + c, u.to(tl.int16), mask=inside)


@triton.jit
def _head_vector(
    sums, factors, multipliers, width, row, first, position, phases, cosine,
    K: tl.constexpr, KB: tl.constexpr, HALF: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """A query or a key: scaled, normalised, rotated; int32 (KB) of 8 bits, 0 beyond K."""
    c = tl.arange(0, KB)
    inside = c < K
    rotated = c < 2 * HALF
    # Where the other number of a rotated pair is; the others are their own.
    pair = tl.where(rotated, tl.where(c < HALF, c + HALF, c - HALF), c)
    x = _product(sums, factors, width, row, first + c, inside)
    x = _clamp(_scale(x, tl.load(multipliers + first + c, mask=inside, other=0)), LIMIT)
    x = tl.where(inside, x, 0)
    p = _product(sums, factors, width, row, first + pair, inside)
    p = _clamp(_scale(p, tl.load(multipliers + first + pair, mask=inside, other=0)), LIMIT)
    r = _rms(x, K)
    y, p = _normed(x, r), _normed(p, r)
    phase = tl.load(phases + tl.where(c < HALF, c, c - HALF), mask=rotated, other=0)
    angle = (position * phase) & 65535
    cos = tl.load(cosine + angle)
    sin = tl.load(cosine + ((angle - 16384) & 65535))
    turned = (y * cos + tl.where(c < HALF, -p, p) * sin + 8192) >> 14
    return _clamp((tl.where(rotated, turned, y) + 16) >> 5, 127).to(tl.int32)


@triton.jit
def _share(d):
    """The weight of int64 d >= 0 below the largest score; that of 0 is 255."""
    f = d & 1023
    power = 65536 - ((f * (44014 - ((f * 11246) >> 10))) >> 10)
    i = tl.minimum(d >> 10, 15)
    return (((power * 255) >> (i + 15)) + 1) >> 1


@triton.jit
def _attention(
    sums, factors, multipliers, positions, phases, cosine, gain, keys, values, scores,
    added, gate_sums, gate_multipliers, gate_bias, sigmoid,
    outputs, sums_width, gate_width, window, slots_a_row, bits, limit,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, K: tl.constexpr, KB: tl.constexpr,
    HALF: tl.constexpr, LIMIT: tl.constexpr, SLOTS: tl.constexpr,
    ADDED: tl.constexpr, EXCLUSIVE: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    """One head of one row.

    If ADDED, ``added`` joins the value; if EXCLUSIVE, the output loses its part along the
    value; if GATED, it is multiplied by the sigmoid of the head's gate.

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
    q = _head_vector(sums, factors, multipliers, sums_width, row, head * K, position,
                     phases, cosine, K, KB, HALF, LIMIT)  # fmt: skip
    key = _head_vector(sums, factors, multipliers, sums_width, row, (HEADS + group) * K,
                       position, phases, cosine, K, KB, HALF, LIMIT)  # fmt: skip
    first = (HEADS + GROUPS + group) * K
    v = _product(sums, factors, sums_width, row, first + c, inside)
    v = _scale(v, tl.load(multipliers + first + c, mask=inside, other=0))
    if ADDED:
        more = tl.load(added + (row * GROUPS + group) * K + c, mask=inside, other=0)
        v = _clamp(v, LIMIT) + more.to(tl.int64)
    v = _clamp(v, 127)
    v = tl.where(inside, v, 0).to(tl.int32)
    ring = (row * GROUPS + group) * window * K
    if head % (HEADS // GROUPS) == 0:
        tl.store(keys + ring + slot * K + c, key.to(tl.int8), mask=inside)
        tl.store(values + ring + slot * K + c, v.to(tl.int8), mask=inside)
    g = tl.load(gain + head)
    newest = (tl.sum(q * key).to(tl.int64) * g + 131072) >> 18
    best = newest
    row_scores = scores + (row * HEADS + head) * slots_a_row
    for start in range(0, count, SLOTS):
        j = start + tl.arange(0, SLOTS)
        there = (j < count) & (j != slot)
        both = there[:, None] & inside[None, :]
        k = tl.load(keys + ring + j[:, None] * K + c[None, :], mask=both, other=0).to(tl.int32)
        z = (tl.sum(k * q[None, :], 1).to(tl.int64) * g + 131072) >> 18
        tl.store(row_scores + j, z.to(tl.int32), mask=there)
        best = tl.maximum(best, tl.max(tl.where(there, z, newest)))
    tl.debug_barrier()  # scores of other threads of this program
    newest_w = _share(best - newest)
    total = newest_w
    o = newest_w.to(tl.int32) * v
    for start in range(0, count, SLOTS):
        j = start + tl.arange(0, SLOTS)
        there = (j < count) & (j != slot)
        z = tl.load(row_scores + j, mask=there, other=0).to(tl.int64)
        w = tl.where(there, _share(tl.where(there, best - z, 0)), 0)
        total += tl.sum(w)
        both = there[:, None] & inside[None, :]
        vs = tl.load(values + ring + j[:, None] * K + c[None, :], mask=both, other=0).to(tl.int32)
        o += tl.sum(w.to(tl.int32)[:, None] * vs, 0)
    inverse = (tl.full((), 4294967296, tl.int64) << bits) // total
    mean = (o.to(tl.int64) * inverse + 2147483648) >> 32
    if EXCLUSIVE:
        size = tl.maximum(tl.sum(v * v), 1).to(tl.int64)
        part = tl.sum(mean * v) * v * (tl.full((), 4294967296, tl.int64) // size)
        mean = _clamp(mean - ((part + 2147483648) >> 32), limit)
    if GATED:
        z = _product(gate_sums, factors, gate_width, row, head, head < HEADS)
        z = _scale(z, tl.load(gate_multipliers + head)) + tl.load(gate_bias + head)
        half = tl.load(sigmoid + tl.minimum(tl.maximum(z, -z), 8191))
        mean = (mean * tl.where(z < 0, 16384 - half, half) + 8192) >> 14
    tl.store(outputs + (row * HEADS + head) * K + c, mean.to(tl.int16), mask=inside)


@dataclass(frozen=True, slots=True)
class Product:
    """A product by bytes that is not put together yet."""

    sums: Tensor
    """(rows, N padded) int32."""
    factors: Tensor
    """(rows) int32."""
    multipliers: Tensor
    """(N) int64."""

    @classmethod
    def of(cls, matrix: Matrix, x: Bytes) -> Product:
        return cls(matrix.sums(x.q), x.factors, matrix.multipliers)


@dataclass(frozen=True, slots=True)
class Gate:
    """What heads are gated by: a product by the bytes that ``qkv`` is multiplied with."""

    sums: Tensor
    """(rows, H padded) int32."""
    multipliers: Tensor
    """(H) int64."""
    bias: Tensor
    """(H) int64."""
    sigmoid: Tensor
    """Its table, int64."""


def _block(n: int) -> int:
    return max(16, int(triton.next_power_of_2(n)))


def residual(
    x: Tensor,
    x0: Tensor,
    into: Bytes | Tensor,
    *,
    added: Product | None = None,
    kept: Tensor | None = None,
    skipped: tuple[Tensor, Tensor] | None = None,
    mixed: tuple[Tensor, Tensor] | None = None,
    columns: Tensor | None = None,
    limit: int = 0,
) -> None:
    """x (rows, D) int32 in place: plus sigma of a product, which goes into ``kept`` (rows, D);
    plus what was kept before times factors (D) of ``skipped``; then mixed with x0.

    Its bytes with those factors that normalise go ``into`` bytes, or its norm, times
    ``columns`` (D) and within ``limit``, into halves (2, rows, K padded).
    Of ``kept`` and ``skipped`` in one call, both are of the same tensor.
    """
    rows, d = x.shape
    product = added or Product(x, x, x)  # not read
    kept_at, skip = skipped or (x if kept is None else kept, x)
    mix_x, mix_x0 = mixed or (x0, x0)
    q, factors = into if isinstance(into, Bytes) else (into, x)
    _residual[(rows,)](
        x, x0, product.sums, product.factors, product.multipliers, kept_at, skip, mix_x, mix_x0,
        x if columns is None else columns, q, factors, rows, product.sums.shape[1], q.shape[-1],
        limit, D=d, BLOCK=_block(d), LIMIT=RESIDUAL_LIMIT, ADD=added is not None,
        KEEP=kept is not None, SKIP=skipped is not None, MIX=mixed is not None,
        HALVES=isinstance(into, Tensor), COLUMNS=columns is not None,
    )  # fmt: skip


def to_bytes(x: Tensor, into: Bytes) -> None:
    """x (rows, N) int16 as bytes, not normalised."""
    rows, n = x.shape
    block = min(COLUMNS, _block(n))
    _to_bytes[(rows,)](x, into.q, into.factors, into.q.shape[1], N=n, BLOCK=block)


def activation(product: Product, shift: int, limit: int, units: Tensor, *, leaky: bool) -> None:
    """The hidden units (rows, F) int16 from the product with ``up``."""
    rows, f = units.shape
    block = min(COLUMNS, _block(f))
    _activation[(rows, triton.cdiv(f, block))](
        product.sums, product.factors, product.multipliers, units, product.sums.shape[1],
        shift, (1 << shift) >> 1, limit, F=f, BLOCK=block, LEAKY=leaky,
    )  # fmt: skip


def attention(
    product: Product,
    positions: Tensor,
    phases: Tensor,
    cosine: Tensor,
    gain: Tensor,
    keys: Tensor,
    values: Tensor,
    scores: Tensor,
    bits: int,
    outputs: Tensor,
    *,
    limit: int,
    exclusive: bool = False,
    added: Tensor | None = None,
    gate: Gate | None = None,
) -> None:
    """All heads from the product with ``qkv``; rings (rows, G, W, K) int8 get the newest.

    ``gain`` is (H) int64, ``scores`` (rows, H, at least W) int32 scratch, ``outputs``
    (rows, H K) int16 with ``bits`` more fraction bits than values; ``limit`` is theirs.
    ``added`` (rows, G, K) int32 joins the values.
    """
    rows, groups, window, d_head = keys.shape
    heads = gain.numel()
    gates = gate or Gate(product.sums, gain, gain, gain)  # not read
    _attention[(rows, heads)](
        product.sums, product.factors, product.multipliers, positions, phases, cosine, gain,
        keys, values, scores, product.sums if added is None else added, gates.sums,
        gates.multipliers, gates.bias, gates.sigmoid, outputs, product.sums.shape[1],
        gates.sums.shape[1], window, scores.shape[2], bits, limit,
        HEADS=heads, GROUPS=groups, K=d_head, KB=_block(d_head), HALF=phases.numel(),
        LIMIT=RESIDUAL_LIMIT, SLOTS=SLOTS, ADDED=added is not None, EXCLUSIVE=exclusive,
        GATED=gate is not None,
    )  # fmt: skip
