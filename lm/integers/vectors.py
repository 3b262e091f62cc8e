"""The graph's loops over rows of integers (:mod:`pgolf_codec.codec.vectors`).

Arguments that are pointers point to the first of ``n`` numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgolf_codec.codec.vectors import F32, I32, I64, Turn, vector_loop
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

NOTHING = -(1 << 30)
"""An exponent below all others."""


def _power(t: Turn, below: Any) -> Any:
    """E of ``below``: nearly 2**(16 - f / 1024), f being its last 10 bits."""
    b = t.b
    f = b.and_(below, t.all((1 << EXPONENT_FRAC) - 1))
    curve = b.lshr(b.mul(f, t.all(EXP2_CURVE)), t.all(EXPONENT_FRAC))
    fallen = b.mul(f, b.sub(t.all(EXP2_SLOPE), curve))
    return b.sub(t.all(1 << 16), b.lshr(fallen, t.all(EXPONENT_FRAC)))


def _octaves(t: Turn, below: Any, most: int) -> Any:
    return t.smaller(t.b.lshr(below, t.all(EXPONENT_FRAC)), t.all(most))


def _scaled(t: Turn, acc: Any, factor: Any, m: Any) -> Any:
    """sigma of products of bytes."""
    return t.product_of_product(t.load(acc), t.all(factor), FACTOR_SHIFT, t.load(m))


_MEASURES = (I32, 0, "smax"), (I64, 0, "add")
"""The largest |x|, and the sum of squares: what a row must be known by to become bytes."""


def _measured(t: Turn, x: Any, measures: list[Any]) -> list[Any]:
    largest, total = measures
    return [t.larger(largest, t.larger(x, t.b.neg(x))), t.b.add(total, t.square(x))]


@vector_loop("i32 i32 int32 i32", *_MEASURES)
def add_scaled(t: Turn, a: list[Any], measures: list[Any]) -> list[Any]:
    """x += sigma(acc factor, m), at most RESIDUAL_LIMIT: arguments x, acc, factor, m."""
    x, acc, factor, m = a[:4]
    found = t.clamp(t.b.add(t.load(x), _scaled(t, acc, factor, m)), RESIDUAL_LIMIT)
    t.store(found, x)
    return _measured(t, found, measures)


@vector_loop("i32 i32 i32 i32", *_MEASURES)
def mix(t: Turn, a: list[Any], measures: list[Any]) -> list[Any]:
    """x = x A + x0 B: arguments x, x0, A, B."""
    x, x0, first, second = a[:4]
    more = t.load(x0), t.load(second)
    found = t.clamp(t.product(t.load(x), t.load(first), MIX_FRAC, more), RESIDUAL_LIMIT)
    t.store(found, x)
    return _measured(t, found, measures)


@vector_loop("i32 int32 i32 int32 i32", (I64, 0, "add"))
def scale(t: Turn, a: list[Any], total: list[Any]) -> list[Any]:
    """out = sigma(acc factor, m), at most ``limit``; the sum of its squares.

    Arguments acc, factor, m, limit, out.
    """
    acc, factor, m, limit, out = a[:5]
    x = t.clamp(_scaled(t, acc, factor, m), limit)
    t.store(x, out)
    return [t.b.add(total[0], t.square(x))]


@vector_loop("i32 int32 i16")
def weigh(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """out = sigma(x, m) of one m, within 16 bits: arguments x, m, out."""
    x, m, out = a[:3]
    t.store(t.product(t.load(x), t.all(m), 32), out)
    return []


@vector_loop("i32", (I64, 0, "add"))
def squares(t: Turn, a: list[Any], folded: list[Any]) -> list[Any]:
    """Sum of squares: argument x."""
    return [t.b.add(folded[0], t.square(t.load(a[0])))]


def _largest(t: Turn, a: list[Any], folded: list[Any]) -> list[Any]:
    """The largest |x|: argument x."""
    x = t.load(a[0])
    return [t.larger(folded[0], t.larger(x, t.b.neg(x)))]


largest16 = vector_loop("i16", (I32, 0, "smax"))(_largest)


def _to_bytes(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """out = x r, at most 127: arguments x, r, out."""
    x, r, out = a[:3]
    t.store(t.product(t.load(x), t.all(r), BYTE_SHIFT), out)
    return []


bytes16, bytes32 = (vector_loop(f"{kind} int32 {BYTE}")(_to_bytes) for kind in ("i16", "i32"))


def _shortened(t: Turn, y: Any) -> Any:
    """To 4 fraction bits, at most 127."""
    raised = t.b.add(y, t.all(1 << (KEY_SHIFT - 1)))
    return t.clamp(t.b.ashr(raised, t.all(KEY_SHIFT)), INT8_MAX)


def _normalized(t: Turn, x: Any, inverse: Any) -> Any:
    return t.clamp(t.product(t.load(x), t.all(inverse), NORM_SHIFT), INT16_MAX)


@vector_loop("i32 int32 i16")
def normalized(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """out = (x inverse) >> NORM_SHIFT: arguments x, inverse, out."""
    x, inverse, out = a[:3]
    t.store(_normalized(t, x, inverse), out)
    return []


@vector_loop(f"i32 int32 {BYTE}")
def normalized_bytes(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """As :func:`normalized`, shortened to bytes."""
    x, inverse, out = a[:3]
    t.store(_shortened(t, _normalized(t, x, inverse)), out)
    return []


@vector_loop(f"i32 i32 int32 i32 i32 {BYTE} {BYTE}")
def rotated_bytes(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """As :func:`normalized_bytes`, of pairs that are rotated in between.

    Arguments first and second numbers, inverse, cosines, sines, first and second out.
    """
    b, (first, second, inverse, cosine, sine, first_out, second_out) = t.b, a[:7]
    u, w = _normalized(t, first, inverse), _normalized(t, second, inverse)
    cos, sin = t.load(cosine), t.load(sine)
    half, by = t.all(1 << (ROTATION_FRAC - 1)), t.all(ROTATION_FRAC)
    x = b.ashr(b.add(b.sub(b.mul(u, cos), b.mul(w, sin)), half), by)
    y = b.ashr(b.add(b.add(b.mul(u, sin), b.mul(w, cos)), half), by)
    t.store(_shortened(t, t.clamp(x, INT16_MAX)), first_out)
    t.store(_shortened(t, t.clamp(y, INT16_MAX)), second_out)
    return []


@vector_loop("i32 int32 i32 int32 int32 int32 i16", (I32, 0, "smax"))
def leaky_square(t: Turn, a: list[Any], best: list[Any]) -> list[Any]:
    """LeakyReLU(1/2) squared, or ReLU: arguments acc, factor, m, shift, limit, kept, out.

    ``kept`` is -1, or 0 where nothing below zero counts.  Returns the largest.
    """
    b, (acc, factor, m, shift, limit, kept, out) = t.b, a[:7]
    u = t.clamp(_scaled(t, acc, factor, m), INT16_MAX)
    u = b.select(b.icmp_signed("<", u, t.all(0)), b.and_(b.ashr(u, t.all(1)), t.all(kept)), u)
    half = b.lshr(b.shl(I32(1), shift), I32(1))
    squared = b.lshr(b.add(b.mul(u, u), t.all(half)), t.all(shift))
    found = t.smaller(squared, t.all(limit))
    t.store(found, out)
    return [t.larger(best[0], found)]


@vector_loop("i32 int32 int32 int32", (I32, NOTHING, "smax"))
def round_scores(t: Turn, a: list[Any], best: list[Any]) -> list[Any]:
    """Products of queries and keys to exponents, in place; the largest.

    Arguments z, gain, low, high: but for z[low:high] they are made NOTHING.
    """
    b, (z, gain, low, high) = t.b, a[:4]
    index = b.add(t.all(b.trunc(t.first, I32)), t.count())
    outside = b.icmp_unsigned(">=", b.sub(index, t.all(low)), t.all(b.sub(high, low)))
    exponents = t.product(t.load(z), t.all(gain), SCORE_SHIFT)
    exponents = b.select(outside, t.all(NOTHING), exponents)
    t.store(exponents, z)
    return [t.larger(best[0], exponents)]


@vector_loop("i32 i32 i32 i32 i32")
def interleave(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """The low bytes of four rows, by fours: arguments first to fourth, out."""
    b, found = t.b, t.all(0)
    for i, row in enumerate(a[:4]):
        byte = b.and_(t.load(row), t.all(255))
        found = b.or_(found, b.shl(byte, t.all(8 * i)))
    t.store(found, a[4])
    return []


@vector_loop(BYTE)
def clear(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """Zeros: argument out."""
    t.store(t.all(0), a[0])
    return []


@vector_loop(f"i32 int32 {BYTE}", (I32, 0, "add"))
def powers(t: Turn, a: list[Any], total: list[Any]) -> list[Any]:
    """255 * 2**((z - best) / 1024): arguments z, best, out; the sum."""
    b, (z, best, out) = t.b, a[:3]
    below = b.sub(t.all(best), t.load(z))
    e, i = _power(t, below), _octaves(t, below, 15)
    half = b.shl(t.all(1 << 15), i)
    w = b.lshr(b.add(b.sub(b.shl(e, t.all(8)), e), half), b.add(i, t.all(16)))
    t.store(w, out)
    return [b.add(total[0], w)]


@vector_loop("i32 f32 f32", (I32, -(1 << 31), "smax"))
def cap(t: Turn, a: list[Any], best: list[Any]) -> list[Any]:
    """The soft cap, in place: arguments products, multipliers, pointer to C; the largest.

    A Pade approximant of tanh, elementwise binary32 in this order.
    """
    b, (products, m, scale) = t.b, a[:3]

    def every(value: float) -> Any:
        return t.all(value, F32)

    def bounded(x: Any, limit: float) -> Any:
        x = b.select(b.fcmp_ordered(">", x, every(-limit)), x, every(-limit))
        return b.select(b.fcmp_ordered("<", x, every(limit)), x, every(limit))

    def horner(y: Any, coefficients: Sequence[float]) -> Any:
        """Highest first; the first is 1 where that is nothing to multiply with."""
        value = every(coefficients[0])
        for i, c in enumerate(coefficients[1:]):
            value = b.fadd(every(c), y if i == 0 and coefficients[0] == 1 else b.fmul(y, value))
        return value

    x = bounded(b.fmul(b.sitofp(t.load(products), t.vector(F32)), t.load(m)), CAP_BOUND)
    y = b.fmul(x, x)
    above, below = b.fmul(x, horner(y, PADE_ABOVE)), horner(y, PADE_BELOW)
    ratio = bounded(b.fdiv(above, below), 1.0)
    top = t.all(b.load(scale), F32)
    logit = b.fptosi(b.fmul(ratio, top), t.vector(I32))
    t.store(logit, products)
    return [t.larger(best[0], logit)]


@vector_loop("i32 int32 u32")
def symbol_powers(t: Turn, a: list[Any], _: Any) -> list[Any]:
    """2**24 * 2**((l - best) / 1024): arguments l, best, out."""
    logits, best, out = a[:3]
    below = t.b.sub(t.all(best), t.load(logits))
    e = t.b.shl(_power(t, below), t.all(WEIGHT_FRAC - 16))
    t.store(t.b.lshr(e, _octaves(t, below, 31)), out)
    return []
