"""Loops over rows of integers, 16 numbers at a time, in LLVM's terms.

Numba's own loops keep 64-bit products in twice the registers that they need.  Here a
product of two 32-bit numbers keeps 32 bits.  LLVM makes of these vectors what the machine
has.  Floats are added, multiplied and divided one by one, without contraction.

Arguments that are pointers point to the first of ``n`` numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pgolf_codec.lm.integers.layout import BYTE
from pgolf_codec.lm.integers.numerics import (
    BYTE_SHIFT,
    CAP_BOUND,
    EXP2_CURVE,
    EXP2_SLOPE,
    EXPONENT_FRAC,
    FACTOR_SHIFT,
    INT8_MAX,
    INT16_MAX,
    KEY_SHIFT,
    MIX_FRAC,
    NORM_SHIFT,
    PADE_ABOVE,
    PADE_BELOW,
    RESIDUAL_LIMIT,
    ROTATION_FRAC,
    SCORE_SHIFT,
    WEIGHT_FRAC,
)

LANES = 16
NOTHING = -(1 << 30)
"""An exponent below all others."""

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_LOW, _HIGH = (1 << 32) - 1, (1 << 64) - (1 << 32)


class _Turn:
    """``lanes`` numbers of each array, from ``first`` on; vectors are of int32 unless told."""

    def __init__(self, b: Any, first: Any, lanes: int) -> None:
        self.b, self.first, self.lanes = b, first, lanes

    def vector(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.lanes)

    def all(self, value: Any, kind: Any = _I32) -> Any:
        """Of a Python number, or of a value of the kind."""
        if not isinstance(value, ir.Value):
            return ir.Constant(self.vector(kind), [value] * self.lanes)
        nothing = ir.Constant(self.vector(kind), ir.Undefined)
        first = self.b.insert_element(nothing, value, _I32(0))
        return self.b.shuffle_vector(first, nothing, self.all(0))

    def count(self) -> Any:
        """0, 1, 2 and so on."""
        return ir.Constant(self.vector(_I32), list(range(self.lanes)))

    def load(self, pointer: Any) -> Any:
        """What is narrower is widened."""
        kind = pointer.type.pointee
        at = self.b.bitcast(self.b.gep(pointer, [self.first]), self.vector(kind).as_pointer())
        found = self.b.load(at, align=_bytes(kind))
        return self.b.sext(found, self.vector(_I32)) if _bytes(kind) < 4 else found

    def store(self, value: Any, pointer: Any) -> None:
        """Cut to what lies there."""
        kind = pointer.type.pointee
        at = self.b.bitcast(self.b.gep(pointer, [self.first]), self.vector(kind).as_pointer())
        if _bytes(kind) < 4:
            value = self.b.trunc(value, self.vector(kind))
        self.b.store(value, at, align=_bytes(kind))

    def larger(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.icmp_signed(">", x, y), x, y)

    def smaller(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def clamp(self, x: Any, limit: Any) -> Any:
        top = self.all(limit)
        return self.smaller(self.larger(x, self.b.neg(top)), top)

    def product(self, x: Any, y: Any, shift: int, more: tuple[Any, Any] | None = None) -> Any:
        """(x y + half) >> shift, or (x y + x' y' + half) >> shift, which must fit 32 bits."""
        b, half = self.b, 1 << (shift - 1)
        if self.lanes == 1:
            wide = self.vector(_I64)
            total = b.mul(b.sext(x, wide), b.sext(y, wide))
            if more:
                total = b.add(total, b.mul(b.sext(more[0], wide), b.sext(more[1], wide)))
            total = b.add(total, self.all(half, _I64))
            return b.trunc(b.ashr(total, self.all(shift, _I64)), self.vector(_I32))
        (x_even, x_odd), (y_even, y_odd) = self.halves(x), self.halves(y)
        even, odd = b.mul(x_even, y_even), b.mul(x_odd, y_odd)
        if more:
            (x_even, x_odd), (y_even, y_odd) = self.halves(more[0]), self.halves(more[1])
            even, odd = b.add(even, b.mul(x_even, y_even)), b.add(odd, b.mul(x_odd, y_odd))
        return self.whole(b.add(even, self.wide(half)), b.add(odd, self.wide(half)), shift)

    def product_of_product(self, x: Any, y: Any, shift: int, z: Any) -> Any:
        """The product of z with (x y + half) >> shift, as :meth:`product` with shift 32.

        Even and odd lanes stay apart between the two.
        """
        if self.lanes == 1:
            return self.product(self.product(x, y, shift), z, 32)
        b, found = self.b, []
        for some_x, some_y, some_z in zip(*map(self.halves, (x, y, z)), strict=True):
            first = b.add(b.mul(some_x, some_y), self.wide(1 << (shift - 1)))
            first = b.ashr(b.shl(b.ashr(first, self.wide(shift)), self.wide(32)), self.wide(32))
            found.append(b.add(b.mul(first, some_z), self.wide(1 << 31)))
        even, odd = found
        return self.whole(even, odd, 32)

    def wide(self, value: int) -> Any:
        """In pairs of lanes, as 64 bits."""
        kind = ir.VectorType(_I64, self.lanes // 2)
        return ir.Constant(kind, [value] * (self.lanes // 2))

    def halves(self, v: Any) -> tuple[Any, Any]:
        """Even and odd lanes, as 64 bits with a sign."""
        b, by = self.b, self.wide(32)
        pairs = b.bitcast(v, by.type)
        return b.ashr(b.shl(pairs, by), by), b.ashr(pairs, by)

    def whole(self, even: Any, odd: Any, shift: int) -> Any:
        """32 bits of each lane from ``shift`` on."""
        b = self.b
        low = b.and_(b.lshr(even, self.wide(shift)), self.wide(_LOW))
        high = b.shl(odd, self.wide(32 - shift)) if shift < 32 else odd
        return b.bitcast(b.or_(low, b.and_(high, self.wide(_HIGH))), self.vector(_I32))

    def square(self, x: Any) -> Any:
        """int64."""
        wide = self.b.sext(x, self.vector(_I64))
        return self.b.mul(wide, wide)

    def power(self, below: Any) -> Any:
        """E of ``below``: nearly 2**(16 - f / 1024), f being its last 10 bits."""
        b = self.b
        f = b.and_(below, self.all((1 << EXPONENT_FRAC) - 1))
        curve = b.lshr(b.mul(f, self.all(EXP2_CURVE)), self.all(EXPONENT_FRAC))
        fallen = b.mul(f, b.sub(self.all(EXP2_SLOPE), curve))
        return b.sub(self.all(1 << 16), b.lshr(fallen, self.all(EXPONENT_FRAC)))

    def octaves(self, below: Any, most: int) -> Any:
        return self.smaller(self.b.lshr(below, self.all(EXPONENT_FRAC)), self.all(most))


def _bytes(kind: Any) -> int:
    return 4 if kind == _F32 else int(kind.width) // 8


Body = Callable[[_Turn, list[Any], list[Any]], list[Any]]
"""From a turn, the arguments and what was folded so far (one vector each) to the latter."""


def _rows(b: Any, arguments: list[Any], folds: Sequence[Any], body: Body) -> list[Any]:
    """``body`` over n = arguments[-1] numbers.

    ``folds`` are (type of a number, start, name of LLVM's reduction); returns the reduced.
    """
    n, entry = arguments[-1], b.block
    whole = b.and_(n, _I64(-LANES))
    wide, middle, narrow, done = (
        b.append_basic_block(name) for name in ("wide", "middle", "narrow", "done")
    )

    def turns(lanes: int, block: Any, before: Any, start: Any, stop: Any, values: Any) -> Any:
        """A loop from ``start`` to ``stop``, not empty; what was folded."""
        b.position_at_end(block)
        first = b.phi(_I64)
        folded = [b.phi(value.type) for value in values]
        made = body(_Turn(b, first, lanes), arguments, list(folded))
        following = b.add(first, _I64(lanes))
        first.add_incoming(start, before)
        first.add_incoming(following, b.block)
        for phi, value, new in zip(folded, values, made, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(new, b.block)
        end = b.block
        return made, b.icmp_signed("<", following, stop), end

    starts = [ir.Constant(ir.VectorType(kind, LANES), [v] * LANES) for kind, v, _ in folds]
    b.cbranch(b.icmp_signed(">", whole, _I64(0)), wide, middle)
    made, again, wide_end = turns(LANES, wide, entry, _I64(0), whole, starts)
    b.cbranch(again, wide, middle)
    b.position_at_end(middle)
    reduced = []
    for (kind, _, name), start, new in zip(folds, starts, made, strict=True):
        vector = b.phi(start.type)
        vector.add_incoming(start, entry)
        vector.add_incoming(new, wide_end)
        bits = kind.width
        f = b.module.declare_intrinsic(
            f"llvm.vector.reduce.{name}.v{LANES}i{bits}", fnty=ir.FunctionType(kind, [vector.type])
        )
        reduced.append((kind, vector, f))
    single = [
        b.insert_element(
            ir.Constant(ir.VectorType(kind, 1), ir.Undefined), b.call(f, [vector]), _I32(0)
        )
        for kind, vector, f in reduced
    ]
    middle_end = b.block
    b.cbranch(b.icmp_signed("<", whole, n), narrow, done)
    rest, again, narrow_end = turns(1, narrow, middle_end, whole, n, single)
    b.cbranch(again, narrow, done)
    b.position_at_end(done)
    found = []
    for one, new in zip(single, rest, strict=True):
        vector = b.phi(one.type)
        vector.add_incoming(one, middle_end)
        vector.add_incoming(new, narrow_end)
        found.append(vector)
    return [b.extract_element(vector, _I32(0)) for vector in found]


_POINTERS = {
    "i8": types.CPointer(types.int8),
    "i16": types.CPointer(types.int16),
    "i32": types.CPointer(types.int32),
    "u32": types.CPointer(types.uint32),
    "f32": types.CPointer(types.float32),
}
_SCALARS = {"int32": types.int32, "int64": types.int64}


def _kernel(kinds: str, *folds: Any) -> Callable[[Body], Any]:
    """A numba intrinsic whose arguments are of these kinds, and n; it returns what is folded."""
    wanted = [(_POINTERS | _SCALARS)[kind] for kind in kinds.split()] + [types.int64]
    folded = [types.int64 if fold[0] == _I64 else types.int32 for fold in folds]
    result = types.Tuple(folded) if len(folded) > 1 else (*folded, types.int32)[0]

    def make(body: Body) -> Any:
        def generate(context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
            found = _rows(b, list(arguments), folds, body)
            if len(found) > 1:
                return context.make_tuple(b, result, found)
            return found[0] if found else ir.Constant(_I32, 0)

        def typing(_context: Any, *_arguments: Any) -> Any:
            return result(*wanted), generate

        names = ["context", *(f"a{i}" for i in range(len(wanted)))]
        parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typing.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(typing)

    return make


def _scaled(t: _Turn, acc: Any, factor: Any, m: Any) -> Any:
    """sigma of products of bytes."""
    return t.product_of_product(t.load(acc), t.all(factor), FACTOR_SHIFT, t.load(m))


_MEASURES = (_I32, 0, "smax"), (_I64, 0, "add")
"""The largest |x|, and the sum of squares: what a row must be known by to become bytes."""


def _measured(t: _Turn, x: Any, measures: list[Any]) -> list[Any]:
    largest, total = measures
    return [t.larger(largest, t.larger(x, t.b.neg(x))), t.b.add(total, t.square(x))]


@_kernel("i32 i32 int32 i32", *_MEASURES)
def add_scaled(t: _Turn, a: list[Any], measures: list[Any]) -> list[Any]:
    """x += sigma(acc factor, m), at most RESIDUAL_LIMIT: arguments x, acc, factor, m."""
    x, acc, factor, m = a[:4]
    found = t.clamp(t.b.add(t.load(x), _scaled(t, acc, factor, m)), RESIDUAL_LIMIT)
    t.store(found, x)
    return _measured(t, found, measures)


@_kernel("i32 i32 i32 i32", *_MEASURES)
def mix(t: _Turn, a: list[Any], measures: list[Any]) -> list[Any]:
    """x = x A + x0 B: arguments x, x0, A, B."""
    x, x0, first, second = a[:4]
    more = t.load(x0), t.load(second)
    found = t.clamp(t.product(t.load(x), t.load(first), MIX_FRAC, more), RESIDUAL_LIMIT)
    t.store(found, x)
    return _measured(t, found, measures)


@_kernel("i32 int32 i32 int32 i32", (_I64, 0, "add"))
def scale(t: _Turn, a: list[Any], total: list[Any]) -> list[Any]:
    """out = sigma(acc factor, m), at most ``limit``; the sum of its squares.

    Arguments acc, factor, m, limit, out.
    """
    acc, factor, m, limit, out = a[:5]
    x = t.clamp(_scaled(t, acc, factor, m), limit)
    t.store(x, out)
    return [t.b.add(total[0], t.square(x))]


@_kernel("i32 int32 i16")
def weigh(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """out = sigma(x, m) of one m, within 16 bits: arguments x, m, out."""
    x, m, out = a[:3]
    t.store(t.product(t.load(x), t.all(m), 32), out)
    return []


@_kernel("i32", (_I64, 0, "add"))
def squares(t: _Turn, a: list[Any], folded: list[Any]) -> list[Any]:
    """Sum of squares: argument x."""
    return [t.b.add(folded[0], t.square(t.load(a[0])))]


def _largest(t: _Turn, a: list[Any], folded: list[Any]) -> list[Any]:
    """The largest |x|: argument x."""
    x = t.load(a[0])
    return [t.larger(folded[0], t.larger(x, t.b.neg(x)))]


largest16 = _kernel("i16", (_I32, 0, "smax"))(_largest)


def _to_bytes(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """out = x r, at most 127: arguments x, r, out."""
    x, r, out = a[:3]
    t.store(t.product(t.load(x), t.all(r), BYTE_SHIFT), out)
    return []


bytes16, bytes32 = (_kernel(f"{kind} int32 {BYTE}")(_to_bytes) for kind in ("i16", "i32"))


@_kernel(f"i16 {BYTE}")
def shortened(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """out = x in 4 fraction bits, at most 127: arguments x, out."""
    raised = t.b.add(t.load(a[0]), t.all(1 << (KEY_SHIFT - 1)))
    t.store(t.clamp(t.b.ashr(raised, t.all(KEY_SHIFT)), INT8_MAX), a[1])
    return []


@_kernel("i32 int32 i16")
def normalized(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """out = (x inverse) >> NORM_SHIFT: arguments x, inverse, out."""
    x, inverse, out = a[:3]
    t.store(t.clamp(t.product(t.load(x), t.all(inverse), NORM_SHIFT), INT16_MAX), out)
    return []


@_kernel("i16 i16 i32 i32")
def rotate(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """Rotate pairs: arguments first and second numbers, cosines, sines."""
    b, (first, second, cosine, sine) = t.b, a[:4]
    u, w, cos, sin = t.load(first), t.load(second), t.load(cosine), t.load(sine)
    half, by = t.all(1 << (ROTATION_FRAC - 1)), t.all(ROTATION_FRAC)
    x = b.ashr(b.add(b.sub(b.mul(u, cos), b.mul(w, sin)), half), by)
    y = b.ashr(b.add(b.add(b.mul(u, sin), b.mul(w, cos)), half), by)
    t.store(t.clamp(x, INT16_MAX), first)
    t.store(t.clamp(y, INT16_MAX), second)
    return []


@_kernel("i32 int32 i32 int32 int32 int32 i16", (_I32, 0, "smax"))
def leaky_square(t: _Turn, a: list[Any], best: list[Any]) -> list[Any]:
    """LeakyReLU(1/2) squared, or ReLU: arguments acc, factor, m, shift, limit, kept, out.

    ``kept`` is -1, or 0 where nothing below zero counts.  Returns the largest.
    """
    b, (acc, factor, m, shift, limit, kept, out) = t.b, a[:7]
    u = t.clamp(_scaled(t, acc, factor, m), INT16_MAX)
    u = b.select(b.icmp_signed("<", u, t.all(0)), b.and_(b.ashr(u, t.all(1)), t.all(kept)), u)
    half = b.lshr(b.shl(_I32(1), shift), _I32(1))
    squared = b.lshr(b.add(b.mul(u, u), t.all(half)), t.all(shift))
    found = t.smaller(squared, t.all(limit))
    t.store(found, out)
    return [t.larger(best[0], found)]


@_kernel("i32 int32 int32 int32", (_I32, NOTHING, "smax"))
def round_scores(t: _Turn, a: list[Any], best: list[Any]) -> list[Any]:
    """Products of queries and keys to exponents, in place; the largest.

    Arguments z, gain, low, high: but for z[low:high] they are made NOTHING.
    """
    b, (z, gain, low, high) = t.b, a[:4]
    index = b.add(t.all(b.trunc(t.first, _I32)), t.count())
    outside = b.icmp_unsigned(">=", b.sub(index, t.all(low)), t.all(b.sub(high, low)))
    exponents = t.product(t.load(z), t.all(gain), SCORE_SHIFT)
    exponents = b.select(outside, t.all(NOTHING), exponents)
    t.store(exponents, z)
    return [t.larger(best[0], exponents)]


@_kernel("i32 i32 i32 i32 i32")
def interleave(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """The low bytes of four rows, by fours: arguments first to fourth, out."""
    b, found = t.b, t.all(0)
    for i, row in enumerate(a[:4]):
        byte = b.and_(t.load(row), t.all(255))
        found = b.or_(found, b.shl(byte, t.all(8 * i)))
    t.store(found, a[4])
    return []


@_kernel(BYTE)
def clear(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """Zeros: argument out."""
    t.store(t.all(0), a[0])
    return []


@_kernel(f"i32 int32 {BYTE}", (_I32, 0, "add"))
def powers(t: _Turn, a: list[Any], total: list[Any]) -> list[Any]:
    """255 * 2**((z - best) / 1024): arguments z, best, out; the sum."""
    b, (z, best, out) = t.b, a[:3]
    below = b.sub(t.all(best), t.load(z))
    e, i = t.power(below), t.octaves(below, 15)
    half = b.shl(t.all(1 << 15), i)
    w = b.lshr(b.add(b.sub(b.shl(e, t.all(8)), e), half), b.add(i, t.all(16)))
    t.store(w, out)
    return [b.add(total[0], w)]


@_kernel("i32 f32 f32", (_I32, -(1 << 31), "smax"))
def cap(t: _Turn, a: list[Any], best: list[Any]) -> list[Any]:
    """The soft cap, in place: arguments products, multipliers, pointer to C; the largest.

    A Pade approximant of tanh, elementwise binary32 in this order.
    """
    b, (products, m, scale) = t.b, a[:3]

    def every(value: float) -> Any:
        return t.all(value, _F32)

    def bounded(x: Any, limit: float) -> Any:
        x = b.select(b.fcmp_ordered(">", x, every(-limit)), x, every(-limit))
        return b.select(b.fcmp_ordered("<", x, every(limit)), x, every(limit))

    def horner(y: Any, coefficients: Sequence[float]) -> Any:
        """Highest first; the first is 1 where that is nothing to multiply with."""
        value = every(coefficients[0])
        for i, c in enumerate(coefficients[1:]):
            value = b.fadd(every(c), y if i == 0 and coefficients[0] == 1 else b.fmul(y, value))
        return value

    x = bounded(b.fmul(b.sitofp(t.load(products), t.vector(_F32)), t.load(m)), CAP_BOUND)
    y = b.fmul(x, x)
    above, below = b.fmul(x, horner(y, PADE_ABOVE)), horner(y, PADE_BELOW)
    ratio = bounded(b.fdiv(above, below), 1.0)
    top = t.all(b.load(scale), _F32)
    logit = b.fptosi(b.fmul(ratio, top), t.vector(_I32))
    t.store(logit, products)
    return [t.larger(best[0], logit)]


@_kernel("i32 int32 u32")
def symbol_powers(t: _Turn, a: list[Any], _: Any) -> list[Any]:
    """2**24 * 2**((l - best) / 1024): arguments l, best, out."""
    logits, best, out = a[:3]
    below = t.b.sub(t.all(best), t.load(logits))
    e = t.b.shl(t.power(below), t.all(WEIGHT_FRAC - 16))
    t.store(t.b.lshr(e, t.octaves(below, 31)), out)
    return []
