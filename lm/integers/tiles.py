"""The inner loops of exact products, in LLVM's terms.

Numba's plain loops reach 20 GFLOP/s here; these tiles reach what the machine has.  They
compute the same integers, exact as long as the whole sum fits 32 bits
(docs/NUMERICS.md, "Accumulators"); none of these instructions saturates there.

*Pairs*: products of 16 bits, summed pairwise: ``vpdpwssd`` where there is AVX-512 VNNI,
``pmaddwd`` at 256 or 128 bits on other x86-64, plain vector arithmetic elsewhere.

*Quads*: products of bytes, summed by fours: AMX for 32 rows, 32 columns and 64 positions at
a time, ``vpdpbusd`` for a few rows, which wants one operand without a sign: 128 is added to
it, and a sum over the weights taken off.  An int16 is 256 h + l - 32768 with unsigned bytes h
and l, so two products of bytes make one product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pgolf_codec.lm.integers.layout import COLUMNS, TILE, TILE_BYTES, TILE_ROWS

UNROLLED = 4
"""Quads that one turn of a loop over one or two rows of bytes takes; of 16 that lie in a row."""
AHEAD_BYTES = 4096
"""How far ahead of the products memory is asked for: a page, where the hardware stops."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """How a tile of pairs is built: ``lanes`` int32 lanes a vector, ``rows`` rows at most."""

    intrinsic: str
    lanes: int
    rows: int


VECTORS = {
    "avx512vnni": Vectors("llvm.x86.avx512.vpdpwssd.512", 16, 8),
    "avx2": Vectors("llvm.x86.avx2.pmadd.wd", 8, 2),
    "sse2": Vectors("llvm.x86.sse2.pmadd.wd", 4, 1),
    "portable": Vectors("", 4, 1),
}
VECTORS["amx"] = VECTORS["avx512vnni"]

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_VOID = ir.VoidType()


@intrinsic
def address32(_context: Any, array: Any, index: Any) -> Any:
    """As :func:`address`, of the int32 that lie there."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, arguments[0]).data
        return b.bitcast(b.gep(data, [arguments[1]]), _I32.as_pointer())

    return types.CPointer(types.int32)(array, types.int64), generate


@intrinsic
def moved(_context: Any, pointer: Any, by: Any) -> Any:
    """``pointer`` so many elements further."""

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        return b.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), generate


@intrinsic
def put32(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Store an int32 at the flat byte ``index`` of an array of bytes."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, arguments[0]).data
        at = b.bitcast(b.gep(data, [arguments[1]]), _I32.as_pointer())
        b.store(b.trunc(arguments[2], _I32), at, align=4)
        return ir.Constant(_I32, 0)

    return types.int32(array, types.int64, types.int64), generate


@intrinsic
def copy32(_context: Any, array: Any, index: Any, source: Any) -> Any:
    """Copy the four bytes at ``source`` to the flat byte ``index`` of an array of bytes."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, arguments[0]).data
        at, four = b.gep(data, [arguments[1]]), _I32.as_pointer()
        b.store(b.load(b.bitcast(arguments[2], four), align=1), b.bitcast(at, four), align=1)
        return ir.Constant(_I32, 0)

    return types.int32(array, types.int64, source), generate


def pair_tile(rows: int, v: Vectors) -> Callable[..., None]:
    """A numba intrinsic: ``rows`` rows times one packed block of columns.

    Its arguments are pointer and row stride of x (int16), pointer to the block (int8,
    (pairs, COLUMNS, 2)), the number of pairs, pointer and row stride of the result (int32).
    """
    lanes, vectors = v.lanes, COLUMNS // v.lanes
    v32, v16 = ir.VectorType(_I32, lanes), ir.VectorType(_I16, 2 * lanes)

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        x, x_stride, w, pairs, out, out_stride = arguments
        stored = ir.VectorType(_I8, 2 * lanes)
        before = b.block
        loop, done = b.append_basic_block("pairs"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(_I64)
        k.add_incoming(_I64(0), before)
        accs = [[b.phi(v32) for _ in range(vectors)] for _ in range(rows)]
        block = b.gep(w, [b.mul(k, _I64(2 * COLUMNS))])
        if rows <= 2:  # memory is what is waited for
            ahead = b.gep(block, [_I64(AHEAD_BYTES)])
            _prefetch(b, ahead)
        columns = []
        for i in range(vectors):
            at = b.bitcast(b.gep(block, [_I64(i * 2 * lanes)]), stored.as_pointer())
            column = b.load(at, align=1)
            columns.append(b.sext(column, v16))
        sums = []
        for r in range(rows):
            at = b.gep(x, [b.add(b.mul(x_stride, _I64(r)), b.mul(k, _I64(2)))])
            pair = b.load(b.bitcast(at, _I32.as_pointer()), align=2)
            operand = b.bitcast(_splat(b, pair, lanes), v16)
            sums.append(
                [_multiply_add(b, accs[r][i], operand, columns[i], v) for i in range(vectors)]
            )
        following = b.add(k, _I64(1))
        k.add_incoming(following, b.block)
        for r in range(rows):
            for i in range(vectors):
                accs[r][i].add_incoming(ir.Constant(v32, [0] * lanes), before)
                accs[r][i].add_incoming(sums[r][i], b.block)
        b.cbranch(b.icmp_signed("<", following, pairs), loop, done)
        b.position_at_end(done)
        for r in range(rows):
            for i in range(vectors):
                at = b.gep(out, [b.add(b.mul(out_stride, _I64(r)), _I64(i * lanes))])
                b.store(sums[r][i], b.bitcast(at, v32.as_pointer()), align=4)
        return ir.Constant(_I32, 0)

    def tile(_context: Any, x: Any, xs: Any, w: Any, pairs: Any, out: Any, os: Any) -> Any:
        n = types.int64
        x_pointer, out_pointer = types.CPointer(types.int16), types.CPointer(types.int32)
        return types.int32(x_pointer, n, w, n, out_pointer, n), generate

    made: Callable[..., None] = intrinsic(tile)
    return made


def _splat(b: Any, value: Any, lanes: int) -> Any:
    none = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = b.insert_element(none, value, _I32(0))
    return b.shuffle_vector(first, none, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _multiply_add(b: Any, acc: Any, x: Any, w: Any, v: Vectors) -> Any:
    """acc[i] + x[2i] w[2i] + x[2i+1] w[2i+1]; acc is <lanes x i32>, x and w <2 lanes x i16>."""
    v32, v16 = acc.type, x.type
    if v.intrinsic.endswith("vpdpwssd.512"):
        kind = ir.FunctionType(v32, [v32, v32, v32])
        f = b.module.declare_intrinsic(v.intrinsic, fnty=kind)
        return b.call(f, [acc, b.bitcast(x, v32), b.bitcast(w, v32)])
    if v.intrinsic:
        f = b.module.declare_intrinsic(v.intrinsic, fnty=ir.FunctionType(v32, [v16, v16]))
        return b.add(acc, b.call(f, [x, w]))
    undefined = ir.Constant(v16, ir.Undefined)
    for odd in (0, 1):
        pick = ir.Constant(v32, [2 * i + odd for i in range(v.lanes)])
        halves = [b.sext(b.shuffle_vector(a, undefined, pick), v32) for a in (x, w)]
        acc = b.add(acc, b.mul(*halves))
    return acc


def _tile_configurations() -> NDArray[np.uint8]:
    """(17, 64): for ``rows`` rows, tiles 0-3 hold sums, 4 and 5 rows, 6 and 7 columns."""
    table = np.zeros((TILE_ROWS + 1, 64), np.uint8)
    table[:, 0] = 1  # palette
    table[:, 16:32:2] = TILE_BYTES
    for rows in range(TILE_ROWS + 1):
        table[rows, 48:54] = max(rows, 1)
    table[:, 54:56] = TILE_ROWS
    table.setflags(write=False)
    return table


CONFIGURATIONS = _tile_configurations()


def _amx(b: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(_VOID, [a.type for a in arguments])
    b.call(b.module.declare_intrinsic(f"llvm.x86.{name}", fnty=kind), arguments)


def _prefetch(b: Any, pointer: Any) -> None:
    """Ask for a line, into the first cache."""
    kind = ir.FunctionType(_VOID, [pointer.type, _I32, _I32, _I32])
    f = b.module.declare_intrinsic("llvm.prefetch", [pointer.type], fnty=kind)
    b.call(f, [pointer, _I32(0), _I32(3), _I32(1)])


@intrinsic
def begin_tiles(_context: Any, configuration: Any) -> Any:
    """Configure this thread's tiles from 64 bytes."""

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        _amx(b, "ldtilecfg", b.bitcast(arguments[0], _I8.as_pointer()))
        return ir.Constant(_I32, 0)

    return types.int32(configuration), generate


@intrinsic
def end_tiles(_context: Any) -> Any:
    def generate(_context: Any, b: Any, _signature: Any, _arguments: Any) -> Any:
        _amx(b, "tilerelease")
        return ir.Constant(_I32, 0)

    return types.int32(), generate


def amx_tile(x_tiles: int, signed: bool) -> Callable[..., None]:
    """A numba intrinsic: one or two tiles of up to 16 rows of bytes times one packed block.

    Its arguments are pointer to x (int8), its strides from row to row, from tile to tile and
    from step to step, pointer to the block (steps, 2, 16, 64), number of steps, pointer to
    the result (int32), its strides from row to row, from tile to tile and from the first 16
    columns to the others.  Strides are in elements.
    """
    name = "tdpbssd" if signed else "tdpbusd"

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        x, x_row, x_tile, x_step, w, steps, out, out_row, out_tile, out_half = arguments
        for t in range(2 * x_tiles):
            _amx(b, "tilezero", _I8(t))
        before = b.block
        loop, store = b.append_basic_block("steps"), b.append_basic_block("store")
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(_I64)
        k.add_incoming(_I64(0), before)
        for half in (0, 1):
            at = b.add(b.mul(k, _I64(2 * TILE)), _I64(half * TILE))
            _amx(b, "tileloadd64", _I8(6 + half), b.gep(w, [at]), _I64(TILE_BYTES))
        for tile in range(x_tiles):
            at = b.add(b.mul(k, x_step), b.mul(x_tile, _I64(tile)))
            _amx(b, "tileloadd64", _I8(4 + tile), b.gep(x, [at]), x_row)
            for half in (0, 1):
                _amx(b, name, _I8(2 * tile + half), _I8(4 + tile), _I8(6 + half))
        following = b.add(k, _I64(1))
        k.add_incoming(following, loop)
        b.cbranch(b.icmp_signed("<", following, steps), loop, store)
        b.position_at_end(store)
        for tile in range(x_tiles):
            for half in (0, 1):
                at = b.add(b.mul(out_tile, _I64(tile)), b.mul(out_half, _I64(half)))
                to = _bytes(b, b.gep(out, [at]))
                _amx(b, "tilestored64", _I8(2 * tile + half), to, b.mul(out_row, _I64(4)))
        return ir.Constant(_I32, 0)

    def tile(
        _context: Any, x: Any, x_row: Any, x_tile: Any, x_step: Any, w: Any, steps: Any, out: Any,
        out_row: Any, out_tile: Any, out_half: Any,
    ) -> Any:  # fmt: skip
        n = types.int64
        out = types.CPointer(types.int32)
        return types.int32(x, n, n, n, w, n, out, n, n, n), generate

    made: Callable[..., None] = intrinsic(tile)
    return made


@intrinsic
def join(_context: Any, sums: Any, row: Any, bias: Any, out: Any) -> Any:
    """One row of sums of high and of low bytes into COLUMNS int32 at ``out``.

    ``sums`` are (half of the columns, high or low, 16, 16).
    """

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        sums, row, bias, out = arguments
        for half in (0, 1):
            first = b.add(b.mul(row, _I64(16)), _I64(half * 512))
            high, low = (_load16(b, sums, b.add(first, _I64(256 * i))) for i in (0, 1))
            _store16(b, _joined(b, high, low, _load16(b, bias, _I64(16 * half))), out, 16 * half)
        return ir.Constant(_I32, 0)

    return types.int32(sums, types.int64, bias, out), generate


def quad_tile(rows: int, signed: bool, blocks: int = 1) -> Callable[..., None]:
    """A numba intrinsic: ``rows`` rows of bytes times packed blocks; at most 8 sums of these.

    Its arguments are pointer and row stride of x (int8, or uint8 if not ``signed``), the quads
    from which on and up to which it counts (of the 16 of a step, by fours), pointer to the first
    block and its stride to the next, how far ahead memory is to be asked for, pointer to the
    block's ``bias`` (see :func:`wide_quad_tile`; what is added if ``signed``) and its stride,
    pointer and row stride of the result (int32).
    """
    v32, v8 = ir.VectorType(_I32, 16), ir.VectorType(_I8, 64)
    parts = [(block, half) for block in range(blocks) for half in (0, 1)]
    unrolled = UNROLLED if rows <= 2 else 1

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        x, x_stride, first, last, w, w_stride, ahead, bias, bias_stride, out, out_stride = arguments
        dot = b.module.declare_intrinsic(
            "llvm.x86.avx512.vpdpbusd.512", fnty=ir.FunctionType(v32, [v32, v8, v8])
        )
        before = b.block
        loop, done = b.append_basic_block("quads"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(_I64)
        k.add_incoming(first, before)
        accs = [[b.phi(v32) for _ in parts] for _ in range(rows)]
        step, quad = b.lshr(k, _I64(4)), b.and_(k, _I64(15))
        w_at = b.add(b.mul(step, _I64(2 * TILE)), b.mul(quad, _I64(TILE_BYTES)))
        sums = accs
        for q in range(unrolled):
            columns = []
            for block, half in parts:
                at = b.add(w_at, b.mul(w_stride, _I64(block)))
                found = b.gep(w, [b.add(at, _I64(half * TILE + q * TILE_BYTES))])
                if rows <= 2:  # memory is what is waited for
                    _prefetch(b, b.gep(found, [ahead]))
                columns.append(b.load(b.bitcast(found, v8.as_pointer()), align=1))
            added = []
            for r in range(rows):
                at = b.add(b.mul(x_stride, _I64(r)), b.mul(k, _I64(4)))
                found = b.gep(x, [b.add(at, _I64(4 * q))])
                four = b.load(b.bitcast(found, _I32.as_pointer()), align=1)
                if signed:  # 128 more, without a sign
                    four = b.xor(four, _I32(0x80808080))
                operand = b.bitcast(_splat(b, four, 16), v8)
                pairs = zip(sums[r], columns, strict=True)
                added.append([b.call(dot, [acc, operand, column]) for acc, column in pairs])
            sums = added
        following = b.add(k, _I64(unrolled))
        k.add_incoming(following, loop)
        for r in range(rows):
            for i in range(len(parts)):
                accs[r][i].add_incoming(ir.Constant(v32, [0] * 16), before)
                accs[r][i].add_incoming(sums[r][i], loop)
        b.cbranch(b.icmp_signed("<", following, last), loop, done)
        b.position_at_end(done)
        for i, (block, half) in enumerate(parts):
            at = b.add(b.mul(bias_stride, _I64(block)), _I64(16 * half))
            offset = _load16(b, bias, at) if signed else None
            for r in range(rows):
                found = b.add(sums[r][i], offset) if signed else sums[r][i]
                to = b.gep(out, [b.mul(out_stride, _I64(r))])
                _store16(b, found, to, COLUMNS * block + 16 * half)
        return ir.Constant(_I32, 0)

    def tile(
        _context: Any, x: Any, xs: Any, first: Any, last: Any, w: Any, ws: Any, ahead: Any,
        bias: Any, bs: Any, out: Any, stride: Any,
    ) -> Any:  # fmt: skip
        n = types.int64
        return types.int32(x, n, n, n, w, n, n, bias, n, out, n), generate

    made: Callable[..., None] = intrinsic(tile)
    return made


def wide_quad_tile(rows: int) -> Callable[..., None]:
    """A numba intrinsic: ``rows`` rows of int16, at most 4, times one packed block.

    ``x`` points to the first row's high bytes, (steps, high or low, 16 rows, 64); ``bias``
    (COLUMNS,) int32 are -128 times the sums of the block's columns.
    """
    v32, v8 = ir.VectorType(_I32, 16), ir.VectorType(_I8, 64)

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        x, w, steps, bias, out, out_stride = arguments
        x, w = _bytes(b, x), _bytes(b, w)
        dot = b.module.declare_intrinsic(
            "llvm.x86.avx512.vpdpbusd.512", fnty=ir.FunctionType(v32, [v32, v8, v8])
        )
        before = b.block
        loop, done = b.append_basic_block("quads"), b.append_basic_block("done")
        last = b.mul(steps, _I64(16))
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(_I64)
        k.add_incoming(_I64(0), before)
        accs = [[b.phi(v32) for _ in range(4)] for _ in range(rows)]
        step, quad = b.lshr(k, _I64(4)), b.and_(k, _I64(15))
        x_at = b.add(b.mul(step, _I64(2 * TILE)), b.mul(quad, _I64(4)))
        w_at = b.add(b.mul(step, _I64(2 * TILE)), b.mul(quad, _I64(TILE_BYTES)))
        if rows <= 2:
            for half in (0, 1):
                ahead = b.add(w_at, _I64(half * TILE + AHEAD_BYTES))
                _prefetch(b, b.gep(w, [ahead]))
        columns = [
            b.load(b.bitcast(b.gep(w, [b.add(w_at, _I64(half * TILE))]), v8.as_pointer()), align=1)
            for half in (0, 1)
        ]
        sums = []
        for r in range(rows):
            found = []
            for byte in (0, 1):
                at = b.gep(x, [b.add(x_at, _I64(r * TILE_BYTES + byte * TILE))])
                four = b.load(b.bitcast(at, _I32.as_pointer()), align=1)
                operand = b.bitcast(_splat(b, four, 16), v8)
                found += [
                    b.call(dot, [accs[r][2 * byte + half], operand, columns[half]])
                    for half in (0, 1)
                ]
            sums.append(found)
        following = b.add(k, _I64(1))
        k.add_incoming(following, loop)
        for r in range(rows):
            for i in range(4):
                accs[r][i].add_incoming(ir.Constant(v32, [0] * 16), before)
                accs[r][i].add_incoming(sums[r][i], loop)
        b.cbranch(b.icmp_signed("<", following, last), loop, done)
        b.position_at_end(done)
        for r in range(rows):
            to = b.gep(out, [b.mul(out_stride, _I64(r))])
            for half in (0, 1):
                correction = _load16(b, bias, _I64(16 * half))
                _store16(b, _joined(b, sums[r][half], sums[r][2 + half], correction), to, 16 * half)
        return ir.Constant(_I32, 0)

    def tile(_context: Any, x: Any, w: Any, steps: Any, bias: Any, out: Any, stride: Any) -> Any:
        return types.int32(x, w, types.int64, bias, out, types.int64), generate

    made: Callable[..., None] = intrinsic(tile)
    return made


def _bytes(b: Any, pointer: Any) -> Any:
    return b.bitcast(pointer, _I8.as_pointer())


def _load16(b: Any, base: Any, offset: Any) -> Any:
    kind = ir.VectorType(_I32, 16)
    return b.load(b.bitcast(b.gep(base, [offset]), kind.as_pointer()), align=4)


def _store16(b: Any, value: Any, base: Any, offset: int) -> None:
    b.store(value, b.bitcast(b.gep(base, [_I64(offset)]), value.type.as_pointer()), align=4)


def _joined(b: Any, high: Any, low: Any, bias: Any) -> Any:
    """(high + bias) 256 + low, in 32 bits: parts may wrap, the whole does not."""
    return b.add(b.shl(b.add(high, bias), ir.Constant(high.type, [8] * 16)), low)
