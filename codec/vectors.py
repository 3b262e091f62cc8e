"""Loops over arrays of numbers, 16 at a time, in LLVM's terms.

Numba's own loops keep 64-bit products in twice the registers that they need, and vectors
half as wide as the machine's.  LLVM makes of these vectors what the machine has.  Floats
are added, multiplied and divided one by one, without contraction, so that the results are
the same wherever and however many at a time they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

LANES = 16
I16, I32, I64, F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_LOW, _HIGH = (1 << 32) - 1, (1 << 64) - (1 << 32)


@intrinsic
def address(_context: Any, array: Any, index: Any) -> Any:
    """Pointer to the flat element ``index`` of an array, which must be C-contiguous."""
    if array.layout != "C":
        raise TypingError(f"{array} is not contiguous")

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, arguments[0]).data
        return b.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate


class Turn:
    """``lanes`` numbers of each array, from ``first`` on; vectors are of int32 unless told."""

    def __init__(self, b: Any, first: Any, lanes: int) -> None:
        self.b, self.first, self.lanes = b, first, lanes

    def vector(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.lanes)

    def all(self, value: Any, kind: Any = I32) -> Any:
        """Of a Python number, or of a value of the kind."""
        if not isinstance(value, ir.Value):
            return ir.Constant(self.vector(kind), [value] * self.lanes)
        nothing = ir.Constant(self.vector(kind), ir.Undefined)
        first = self.b.insert_element(nothing, value, I32(0))
        return self.b.shuffle_vector(first, nothing, self.all(0))

    def count(self) -> Any:
        """0, 1, 2 and so on."""
        return ir.Constant(self.vector(I32), list(range(self.lanes)))

    def load(self, pointer: Any) -> Any:
        """What is narrower is widened."""
        kind = pointer.type.pointee
        at = self.b.bitcast(self.b.gep(pointer, [self.first]), self.vector(kind).as_pointer())
        found = self.b.load(at, align=_bytes(kind))
        return self.b.sext(found, self.vector(I32)) if _bytes(kind) < 4 else found

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
            wide = self.vector(I64)
            total = b.mul(b.sext(x, wide), b.sext(y, wide))
            if more:
                total = b.add(total, b.mul(b.sext(more[0], wide), b.sext(more[1], wide)))
            total = b.add(total, self.all(half, I64))
            return b.trunc(b.ashr(total, self.all(shift, I64)), self.vector(I32))
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
        kind = ir.VectorType(I64, self.lanes // 2)
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
        return b.bitcast(b.or_(low, b.and_(high, self.wide(_HIGH))), self.vector(I32))

    def square(self, x: Any) -> Any:
        """int64."""
        wide = self.b.sext(x, self.vector(I64))
        return self.b.mul(wide, wide)


def _bytes(kind: Any) -> int:
    return 4 if kind == F32 else int(kind.width) // 8


Body = Callable[[Turn, list[Any], list[Any]], list[Any]]
"""From a turn, the arguments and what was folded so far (one vector each) to the latter."""


def _rows(b: Any, arguments: list[Any], folds: Sequence[Any], body: Body) -> list[Any]:
    """``body`` over n = arguments[-1] numbers.

    ``folds`` are (type of a number, start, name of LLVM's reduction); returns the reduced.
    """
    n, entry = arguments[-1], b.block
    whole = b.and_(n, I64(-LANES))
    wide, middle, narrow, done = (
        b.append_basic_block(name) for name in ("wide", "middle", "narrow", "done")
    )

    def turns(lanes: int, block: Any, before: Any, start: Any, stop: Any, values: Any) -> Any:
        """A loop from ``start`` to ``stop``, not empty; what was folded."""
        b.position_at_end(block)
        first = b.phi(I64)
        folded = [b.phi(value.type) for value in values]
        made = body(Turn(b, first, lanes), arguments, list(folded))
        following = b.add(first, I64(lanes))
        first.add_incoming(start, before)
        first.add_incoming(following, b.block)
        for phi, value, new in zip(folded, values, made, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(new, b.block)
        end = b.block
        return made, b.icmp_signed("<", following, stop), end

    starts = [ir.Constant(ir.VectorType(kind, LANES), [v] * LANES) for kind, v, _ in folds]
    b.cbranch(b.icmp_signed(">", whole, I64(0)), wide, middle)
    made, again, wide_end = turns(LANES, wide, entry, I64(0), whole, starts)
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
            ir.Constant(ir.VectorType(kind, 1), ir.Undefined), b.call(f, [vector]), I32(0)
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
    return [b.extract_element(vector, I32(0)) for vector in found]


_POINTERS = {
    "i8": types.CPointer(types.int8),
    "i16": types.CPointer(types.int16),
    "i32": types.CPointer(types.int32),
    "u32": types.CPointer(types.uint32),
    "f32": types.CPointer(types.float32),
}
_SCALARS = {"int32": types.int32, "int64": types.int64, "float32": types.float32}


def vector_loop(kinds: str, *folds: Any) -> Callable[[Body], Any]:
    """A numba intrinsic whose arguments are of these kinds, and n; it returns what is folded."""
    wanted = [(_POINTERS | _SCALARS)[kind] for kind in kinds.split()] + [types.int64]
    folded = [types.int64 if fold[0] == I64 else types.int32 for fold in folds]
    result = types.Tuple(folded) if len(folded) > 1 else (*folded, types.int32)[0]

    def make(body: Body) -> Any:
        def generate(context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
            found = _rows(b, list(arguments), folds, body)
            if len(found) > 1:
                return context.make_tuple(b, result, found)
            return found[0] if found else ir.Constant(I32, 0)

        def typing(_context: Any, *_arguments: Any) -> Any:
            return result(*wanted), generate

        names = ["context", *(f"a{i}" for i in range(len(wanted)))]
        parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typing.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(typing)

    return make
