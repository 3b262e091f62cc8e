"""The two passes of attention's softmax, 16 scores at a time, in LLVM's terms.

As loops they would have remainders, which are slow: a window's slots are few and any number.
LLVM makes of these vectors what the machine has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pgolf_codec.lm.elementwise import EXP2_CURVE, EXP2_SLOPE, SCORE_SHIFT

LANES = 16

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_V16, _V32 = ir.VectorType(_I16, LANES), ir.VectorType(_I32, LANES)


def _all(value: int) -> Any:
    return ir.Constant(_V32, [value] * LANES)


def _splat(b: Any, value: Any) -> Any:
    first = b.insert_element(ir.Constant(_V32, ir.Undefined), value, _I32(0))
    return b.shuffle_vector(first, ir.Constant(_V32, ir.Undefined), _all(0))


def _at(b: Any, pointer: Any, chunk: Any, kind: Any) -> Any:
    return b.bitcast(b.gep(pointer, [b.mul(chunk, _I64(LANES))]), kind.as_pointer())


def _larger(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed(">", x, y), x, y)


def _each_chunk(b: Any, n_chunks: Any, start: Any, step: Any) -> Any:
    """Fold ``step(chunk, accumulator)`` over chunks 0 .. n_chunks, at least one."""
    before, loop, done = b.block, b.append_basic_block("chunks"), b.append_basic_block("done")
    b.branch(loop)
    b.position_at_end(loop)
    chunk, acc = b.phi(_I64), b.phi(_V32)
    folded = step(chunk, acc)
    following = b.add(chunk, _I64(1))
    chunk.add_incoming(_I64(0), before)
    chunk.add_incoming(following, b.block)
    acc.add_incoming(start, before)
    acc.add_incoming(folded, b.block)
    b.cbranch(b.icmp_signed("<", following, n_chunks), loop, done)
    b.position_at_end(done)
    return folded


def _reduced(b: Any, name: str, vector: Any) -> Any:
    kind = ir.FunctionType(_I32, [_V32])
    f = b.module.declare_intrinsic(f"llvm.vector.reduce.{name}.v16i32", fnty=kind)
    return b.call(f, [vector])


@intrinsic
def round_scores(_context: Any, scores: Any, n_chunks: Any) -> Any:
    """Round 16 n_chunks scores at ``scores`` to exponents, in place; returns the largest."""

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        scores, n_chunks = arguments

        def step(chunk: Any, best: Any) -> Any:
            at = _at(b, scores, chunk, _V32)
            raised = b.add(b.load(at, align=4), _all(1 << (SCORE_SHIFT - 1)))
            z = b.ashr(raised, _all(SCORE_SHIFT))
            b.store(z, at, align=4)
            return _larger(b, best, z)

        return _reduced(b, "smax", _each_chunk(b, n_chunks, _all(-(1 << 31)), step))

    return types.int32(scores, types.int64), generate


@intrinsic
def powers(_context: Any, z: Any, n_chunks: Any, best: Any, shift: Any, out: Any) -> Any:
    """2**16 * 2**((z - best) / 1024) >> shift of 16 n_chunks exponents; returns the sum."""

    def generate(_context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
        z, n_chunks, best, shift, out = arguments
        top, least = _splat(b, best), _splat(b, shift)

        def step(chunk: Any, total: Any) -> Any:
            below = b.sub(top, b.load(_at(b, z, chunk, _V32), align=4))
            f = b.and_(below, _all(1023))
            slope = b.sub(_all(EXP2_SLOPE), b.lshr(b.mul(f, _all(EXP2_CURVE)), _all(10)))
            e = b.sub(_all(1 << 16), b.lshr(b.mul(f, slope), _all(10)))
            by = b.add(b.lshr(below, _all(10)), least)
            by = b.select(b.icmp_unsigned("<", by, _all(31)), by, _all(31))
            w = b.lshr(e, by)
            b.store(b.trunc(w, _V16), _at(b, out, chunk, _V16), align=2)
            return b.add(total, w)

        return _reduced(b, "add", _each_chunk(b, n_chunks, _all(0), step))

    return types.int32(z, types.int64, types.int32, types.int32, out), generate
