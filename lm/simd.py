"""Exact int16 x int16 -> int32 matrix products for numba, at the machine's width.

Numba's plain loops reach 20 GFLOP/s here, so the inner tile is written in LLVM's
terms: ``vpdpwssd`` where there is AVX-512 VNNI, ``pmaddwd`` at 256 or 128 bits on
other x86-64, plain vector arithmetic elsewhere.  All compute the same integers:
products summed pairwise in 32 bits, exact as long as the whole sum fits
(docs/NUMERICS.md, "Accumulators").  None of these instructions saturates there.

Weights are packed (N/32, K/2, 32, 2): for each pair of inner positions, the 32
columns of a block lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import config, types
from numba.extending import intrinsic
from numpy.typing import NDArray

COLUMNS = 32
"""Columns of one packed block; N is padded to a multiple of it."""


@dataclass(frozen=True, slots=True)
class Isa:
    """How the tile is built: ``lanes`` int32 lanes a vector, ``rows`` rows a tile."""

    name: str
    lanes: int
    rows: int


_VNNI = Isa("avx512vnni", 16, 8)
_AVX2 = Isa("avx2", 8, 2)
_SSE2 = Isa("sse2", 4, 1)
_PORTABLE = Isa("portable", 4, 1)

_AVX2_CPUS = {"haswell", "broadwell", "skylake", "znver1", "znver2", "znver3", "x86-64-v3"}


def detect() -> Isa:
    """The instruction set that numba compiles for.

    It follows ``NUMBA_CPU_NAME``, by which numba keys its disk cache, so that a
    cached kernel is never one for another machine.
    """
    if not binding.get_default_triple().startswith("x86_64"):
        return _PORTABLE
    if config.CPU_NAME:
        return _AVX2 if config.CPU_NAME in _AVX2_CPUS else _SSE2
    features = binding.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512bw"):
        return _VNNI
    return _AVX2 if features.get("avx2") else _SSE2


ISA = detect()


def pack(weights: NDArray[np.int8]) -> NDArray[np.int16]:
    """(N, K) to (ceil(N/32), ceil(K/2), 32, 2), padded with zeros."""
    n, k = weights.shape
    padded = np.zeros((-(-n // COLUMNS) * COLUMNS, k + k % 2), np.int16)
    padded[:n, :k] = weights
    blocks = padded.reshape(-1, COLUMNS, padded.shape[1] // 2, 2)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))


def _multiply_add(builder: Any, acc: Any, a: Any, b: Any, isa: Isa) -> Any:
    """acc[i] + a[2i] b[2i] + a[2i+1] b[2i+1]; acc is <lanes x i32>, a and b <2 lanes x i16>."""
    module, lanes = builder.module, isa.lanes
    v32, v16 = acc.type, a.type
    if isa is _VNNI:
        kind = ir.FunctionType(v32, [v32, v32, v32])
        f = module.declare_intrinsic("llvm.x86.avx512.vpdpwssd.512", fnty=kind)
        return builder.call(f, [acc, builder.bitcast(a, v32), builder.bitcast(b, v32)])
    if isa is not _PORTABLE:
        name = {_AVX2: "llvm.x86.avx2.pmadd.wd", _SSE2: "llvm.x86.sse2.pmadd.wd"}[isa]
        f = module.declare_intrinsic(name, fnty=ir.FunctionType(v32, [v16, v16]))
        return builder.add(acc, builder.call(f, [a, b]))
    undefined = ir.Constant(v16, ir.Undefined)
    for odd in (0, 1):
        pick = ir.Constant(v32, [2 * i + odd for i in range(lanes)])
        halves = [builder.sext(builder.shuffle_vector(x, undefined, pick), v32) for x in (a, b)]
        acc = builder.add(acc, builder.mul(*halves))
    return acc


def _tile(rows: int, isa: Isa) -> Callable[..., None]:
    """A numba intrinsic: ``rows`` rows times one packed block of 32 columns."""
    lanes, vectors = isa.lanes, COLUMNS // isa.lanes
    i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
    v32, v16 = ir.VectorType(i32, lanes), ir.VectorType(i16, 2 * lanes)

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        x, x_stride, w, pairs, out, out_stride = arguments
        before = b.block
        loop, done = b.append_basic_block("pairs"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(i64)
        k.add_incoming(i64(0), before)
        accs = [[b.phi(v32) for _ in range(vectors)] for _ in range(rows)]
        block = b.gep(w, [b.mul(k, i64(2 * COLUMNS))])
        columns = [
            b.load(b.bitcast(b.gep(block, [i64(v * 2 * lanes)]), v16.as_pointer()), align=2)
            for v in range(vectors)
        ]
        sums = []
        for r in range(rows):
            at = b.gep(x, [b.add(b.mul(x_stride, i64(r)), b.mul(k, i64(2)))])
            pair = b.load(b.bitcast(at, i32.as_pointer()), align=2)
            none = ir.Constant(v32, ir.Undefined)
            splat = b.shuffle_vector(
                b.insert_element(none, pair, i32(0)), none, ir.Constant(v32, [0] * lanes)
            )
            operand = b.bitcast(splat, v16)
            sums.append(
                [_multiply_add(b, accs[r][v], operand, columns[v], isa) for v in range(vectors)]
            )
        following = b.add(k, i64(1))
        k.add_incoming(following, b.block)
        for r in range(rows):
            for v in range(vectors):
                accs[r][v].add_incoming(ir.Constant(v32, [0] * lanes), before)
                accs[r][v].add_incoming(sums[r][v], b.block)
        b.cbranch(b.icmp_signed("<", following, pairs), loop, done)
        b.position_at_end(done)
        for r in range(rows):
            for v in range(vectors):
                at = b.gep(out, [b.add(b.mul(out_stride, i64(r)), i64(v * lanes))])
                b.store(sums[r][v], b.bitcast(at, v32.as_pointer()), align=4)
        return ir.Constant(i32, 0)

    def tile(_context: Any, x: Any, xs: Any, w: Any, pairs: Any, out: Any, os: Any) -> Any:
        p16, p32 = types.CPointer(types.int16), types.CPointer(types.int32)
        n = types.int64
        return types.int32(p16, n, p16, n, p32, n), generate

    made: Callable[..., None] = intrinsic(tile)
    return made


@intrinsic
def _address(_context: Any, array: Any, index: Any) -> Any:
    """Pointer to the flat element ``index`` of a contiguous array."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, arguments[0]).data
        return b.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate


_tile_many = _tile(ISA.rows, ISA)
_tile_two = _tile(2, ISA)
_tile_one = _tile(1, ISA)
_ROWS = ISA.rows


@numba.njit(cache=True, nogil=True)
def matmul(
    x: NDArray[np.int16], packed: NDArray[np.int16], out: NDArray[np.int32], n_rows: int
) -> None:
    """out[:n_rows] = x[:n_rows] @ weights.T.

    ``x`` (R, K) and ``out`` (R, N) are C-contiguous, N and K as padded by :func:`pack`.
    """
    k, n = x.shape[1], out.shape[1]
    for j in range(packed.shape[0]):
        w = _address(packed, j * k * COLUMNS)
        r = 0
        while r + _ROWS <= n_rows:
            _tile_many(_address(x, r * k), k, w, k // 2, _address(out, r * n + j * COLUMNS), n)
            r += _ROWS
        while r + 2 <= n_rows:
            _tile_two(_address(x, r * k), k, w, k // 2, _address(out, r * n + j * COLUMNS), n)
            r += 2
        if r < n_rows:
            _tile_one(_address(x, r * k), k, w, k // 2, _address(out, r * n + j * COLUMNS), n)


@numba.njit(cache=True, nogil=True)
def product(
    x: NDArray[np.int16],
    n_rows: int,
    packed: NDArray[np.int16],
    start: int,
    block_stride: int,
    pairs: int,
    n_blocks: int,
    out: NDArray[np.int32],
) -> None:
    """out[:n_rows, :32 n_blocks] = x[:n_rows, :2 pairs] @ weights.T, for a part of a packed array.

    Block j of the weights starts at flat element ``start + j * block_stride``.
    """
    k, n = x.shape[1], out.shape[1]
    for j in range(n_blocks):
        w = _address(packed, start + j * block_stride)
        r = 0
        while r + 2 <= n_rows:
            _tile_two(_address(x, r * k), k, w, pairs, _address(out, r * n + j * COLUMNS), n)
            r += 2
        if r < n_rows:
            _tile_one(_address(x, r * k), k, w, pairs, _address(out, r * n + j * COLUMNS), n)
