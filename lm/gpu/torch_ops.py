"""The operations of docs/NUMERICS.md on torch tensors, exact on every device.

Integers only, elementwise in int64, so that nothing depends on the device or on the
order of a sum; the exceptions are told where they are: matrix products
(:class:`Matrix`), attention's products (floats holding integers, see
:func:`exact_dtype`), the square root (float64), the soft cap (float32, elementwise, as
the specification has it).

No function here waits for the device or makes a shape from data, so that a step can
be captured as a CUDA graph.  Every torch call is a kernel of its own: nothing is
contracted to a multiply-add.  None of this may go through ``torch.compile``, which fuses.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pgolf_codec.codec.frequencies import SHIFT, TOTAL
from pgolf_codec.lm.integers.numerics import (
    BYTE_SHIFT,
    CAP_BOUND,
    EXP2_CURVE,
    EXP2_SLOPE,
    EXPONENT_FRAC,
    FACTOR_FRAC,
    FACTOR_SHIFT,
    GATE_FRAC,
    INT8_MAX,
    INT16_MAX,
    KEY_SHIFT,
    MIX_FRAC,
    NORM_SHIFT,
    RESIDUAL_LIMIT,
    ROTATION_FRAC,
    SCORE_SHIFT,
    UNIT_RMS,
    WEIGHT_FRAC,
)

STEP = 32
"""Widths of matrices are padded to multiples of this."""

BLOCK = 64
"""Symbols whose weights are summed before a symbol is looked for."""


class Bytes(NamedTuple):
    """Rows in 8 bits, as the product by bytes takes them."""

    q: Tensor
    """(rows, K) int8; K may be padded."""
    factors: Tensor
    """A of each row, (rows)."""


class Weights:
    """int8 weights (N, K) on a device, and their products with int8.

    Sums stay below 127 * 128 * 8192 < 2**27 in int32, so that a product is exact on tensor
    cores too.  On CUDA the call wants more than 16 rows and widths that are multiples of 8:
    widths are padded with zeros, and :mod:`torch_engine` rounds the number of streams up.

    Where that call is missing or saturates (:func:`int8_products_hold` tries it), float64
    does it: no product of any activations here has a part of 2**53, whatever the order.
    """

    def __init__(self, q: NDArray[np.int8], device: torch.device) -> None:
        self.n, self.k = q.shape
        self.in_int8 = int8_products_hold(device)
        if self.in_int8:
            padded = np.zeros((_multiple(self.n), _multiple(self.k)), np.int8)
            padded[: self.n, : self.k] = q
            self._w = torch.from_numpy(padded).to(device).t()  # (K, N), columns contiguous
        else:
            self._w = torch.from_numpy(q.astype(np.float64)).to(device).t()

    def no_bytes(self, rows: int) -> Tensor:
        """Room for activations: zeros (rows, K padded) int8."""
        return torch.zeros((rows, self._w.shape[0]), dtype=torch.int8, device=self._w.device)

    def sums(self, x: Tensor) -> Tensor:
        """x (rows, K padded) int8 -> (rows, N padded) int32."""
        return torch._int_mm(x, self._w)


class Matrix(Weights):
    """A matrix for products by bytes, and the multipliers of its rows."""

    def __init__(
        self, q: NDArray[np.int8], multipliers: NDArray[np.int64], device: torch.device
    ) -> None:
        super().__init__(q, device)
        self.multipliers = torch.from_numpy(multipliers).to(device)

    def product(self, x: Tensor) -> Tensor:
        """x (rows, K) int8 -> (rows, N) int64."""
        if not self.in_int8:
            return (x.double() @ self._w).long()
        return self.sums(functional.pad(x, (0, -self.k % STEP)))[:, : self.n].long()

    def scaled(self, x: Bytes) -> Tensor:
        """sigma of the product by bytes: (rows, N) int64."""
        a = self.product(x.q).mul_(x.factors[:, None])
        a.add_(1 << (FACTOR_SHIFT - 1)).bitwise_right_shift_(FACTOR_SHIFT)
        return scale_(a, self.multipliers)


class WideMatrix(Weights):
    """A matrix for activations of 16 bits.

    Why a product is exact: an activation is x = 256 h + l + 128, with h = x >> 8 and
    l = (x & 255) - 128 both int8, so that

        sum w x = 256 sum w h + sum w l + 128 sum w,

    two products of int8 and a constant of the row.  One call does both: h and l lie one
    under the other.
    """

    def __init__(
        self, q: NDArray[np.int8], device: torch.device, dtype: torch.dtype = torch.int64
    ) -> None:
        """``dtype`` is that of the products; int32 only if it holds all parts of them."""
        super().__init__(q, device)
        self._offsets = torch.from_numpy(128 * q.sum(1, dtype=np.int64)).to(device, dtype)

    def product(self, x: Tensor) -> Tensor:
        """x (rows, K) int16 -> (rows, N)."""
        if not self.in_int8:
            return (x.double() @ self._w).to(self._offsets.dtype)
        # Flipping bit 7 subtracts 128 from the low byte, read as a signed number.
        low_high = (x ^ 128).view(torch.int8).view(-1, self.k, 2)
        halves = self.no_halves(x.shape[0])
        halves[:, :, : self.k] = low_high.permute(2, 0, 1)
        return self.of_halves(halves)

    def no_halves(self, rows: int) -> Tensor:
        """Room for the low bytes l of all rows and the high bytes h: (2, rows, K padded) int8."""
        return self.no_bytes(2 * rows).view(2, rows, -1)

    def of_halves(self, halves: Tensor) -> Tensor:
        """The product (rows, N)."""
        sums = self.sums(halves.view(-1, halves.shape[2]))
        low_high = sums[:, : self.n].view(2, -1, self.n)
        high = low_high[1].to(self._offsets.dtype, copy=True)
        return high.mul_(256).add_(low_high[0]).add_(self._offsets)


@cache
def int8_products_hold(device: torch.device) -> bool:
    """Whether ``torch._int_mm`` is there and exact for the largest operands."""
    signs = torch.where(torch.arange(64, device=device) % 3 == 0, -1, 1)
    w = (127 * signs[:32, None] * signs[None, :]).to(torch.int8)  # (N, K)
    x = torch.stack([-128 * torch.ones_like(signs), 127 * signs, -127 * signs, 127 * signs.abs()])
    x = x.repeat(8, 1).to(torch.int8)
    try:
        found = torch._int_mm(x, w.t())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, (x.double() @ w.double().t()).to(torch.int32))


def _multiple(n: int) -> int:
    return -(-n // STEP) * STEP


def scale_(a: Tensor, m: Tensor) -> Tensor:
    """sigma(a, M) = (a M + 2**31) >> 32, in the place of a (int64)."""
    return a.mul_(m).add_(1 << 31).bitwise_right_shift_(32)


def rms(x: Tensor) -> Tensor:
    """r of int64 |x| < 2**21 over the last dimension, which becomes 1."""
    mean = (x * x).sum(-1, keepdim=True).bitwise_left_shift_(8) // x.shape[-1]
    # The float64 root of v < 2**62 is wrong by less than 1: made right on integers.
    root = mean.double().sqrt_().long()
    root -= (root * root > mean).long()
    root += ((root + 1) * (root + 1) <= mean).long()
    return root.clamp_(min=1)


def norm(x: Tensor) -> Tensor:
    """norm over the last dimension of int64 |x| < 2**21; int64, at most 15 bits and a sign."""
    inverse = (1 << 40) // rms(x)
    x = (x * inverse).add_(1 << (NORM_SHIFT - 1)).bitwise_right_shift_(NORM_SHIFT)
    return x.clamp_(-INT16_MAX, INT16_MAX)


def bytes_of(x: Tensor, d: Tensor | int) -> Bytes:
    """x (rows, K) int64 in 8 bits, its factors int64; d is a number or (rows, 1)."""
    largest = x.abs().amax(-1, keepdim=True)
    inverse = (INT8_MAX << BYTE_SHIFT) // largest.clamp(min=1)
    q = (x * inverse).add_(1 << (BYTE_SHIFT - 1)).bitwise_right_shift_(BYTE_SHIFT)
    factors = largest.bitwise_left_shift_(FACTOR_FRAC) // (d * INT8_MAX)
    return Bytes(q.to(torch.int8), factors[:, 0])


def normalized_bytes(x: Tensor) -> Bytes:
    """Of x (rows, K) int64, |x| < 2**21, normalised by their factors."""
    return bytes_of(x, rms(x))


def plain_bytes(x: Tensor) -> Bytes:
    """Of x (rows, K) int64, not normalised."""
    return bytes_of(x, UNIT_RMS)


def mix(x: Tensor, y: Tensor, first: Tensor | int, second: Tensor) -> Tensor:
    """x and y (rows, D) weighed by factors (D) with MIX_FRAC fraction bits; a new tensor."""
    out = (x * first).add_(y * second)
    out.add_(1 << (MIX_FRAC - 1)).bitwise_right_shift_(MIX_FRAC)
    return out.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)


def keyed(y: Tensor) -> Tensor:
    """Normalised and rotated queries or keys with the fraction bits of keys, in y's place."""
    y.add_(1 << (KEY_SHIFT - 1)).bitwise_right_shift_(KEY_SHIFT)
    return y.clamp_(-INT8_MAX, INT8_MAX)


def rotate(y: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """The first 2 R' of the last dimension of y (n, heads, K) by angles (n, R'), in place."""
    half = cosine.shape[-1]
    u, w = y[..., :half].clone(), y[..., half : 2 * half].clone()
    cosine, sine = cosine[:, None, :], sine[:, None, :]
    tie = 1 << (ROTATION_FRAC - 1)
    first = (u * cosine).sub_(w * sine).add_(tie)
    second = (u * sine).add_(w * cosine).add_(tie)
    y[..., :half] = first.bitwise_right_shift_(ROTATION_FRAC)
    y[..., half : 2 * half] = second.bitwise_right_shift_(ROTATION_FRAC)
    return y


def exact_dtype(bound: int) -> torch.dtype:
    """The float whose products of integers have exact sums, if their parts stay within
    ``bound``: float32 (in TF32 or bfloat16, too, for factors of 8 bits), or float64."""
    return torch.float32 if bound <= 1 << 24 else torch.float64


def attend(
    q: Tensor, keys: Tensor, values: Tensor, count: Tensor, gain: Tensor, bits: int
) -> Tensor:
    """Queries (n, G, H / G, K) over rings (n, G, W, K), of which the first ``count`` (n)
    slots are filled: (n, G, H / G, K) int64, with ``bits`` more fraction bits than values.

    ``q`` and ``keys`` are integers in one dtype, ``values`` in their own, both of which
    hold all sums (:func:`exact_dtype`): |q k| <= 127**2 K, |sum w v| <= 255 * 127 W.
    """
    dots = torch.matmul(q, keys.mT).long()  # (n, G, H / G, W)
    z = dots.mul_(gain).add_(1 << (SCORE_SHIFT - 1)).bitwise_right_shift_(SCORE_SHIFT)
    empty = torch.arange(keys.shape[2], device=q.device) >= count[:, None, None, None]
    z.masked_fill_(empty, -(1 << 30))  # every other is above
    w = shares((z.amax(-1, keepdim=True) - z).int()).masked_fill_(empty, 0)
    inverse = (1 << (32 + bits)) // w.sum(-1, keepdim=True)
    sums = torch.matmul(w.to(values.dtype), values).long()
    return sums.mul_(inverse).add_(1 << 31).bitwise_right_shift_(32)


def leave_out(o: Tensor, v: Tensor, limit: int) -> Tensor:
    """o (..., K) without its part along v (..., K), both int64."""
    along = (o * v).sum(-1, keepdim=True)
    inverse = (1 << 32) // (v * v).sum(-1, keepdim=True).clamp_(min=1)
    part = (along * v).mul_(inverse).add_(1 << 31).bitwise_right_shift_(32)
    return (o - part).clamp_(-limit, limit)


def gate(z: Tensor, sigmoid: Tensor) -> Tensor:
    """The sigmoid of z int64, with GATE_FRAC fraction bits, from its table."""
    half = torch.take(sigmoid, z.abs().clamp_(max=sigmoid.numel() - 1))
    return torch.where(z < 0, (1 << GATE_FRAC) - half, half)


def times_gate(o: Tensor, gates: Tensor) -> Tensor:
    """o times its gates."""
    return (o * gates).add_(1 << (GATE_FRAC - 1)).bitwise_right_shift_(GATE_FRAC)


def power(d: Tensor) -> Tensor:
    """E(d) of int32 d >= 0."""
    f = d & ((1 << EXPONENT_FRAC) - 1)
    slope = EXP2_SLOPE - (f * EXP2_CURVE).bitwise_right_shift_(EXPONENT_FRAC)
    return (1 << 16) - f.mul_(slope).bitwise_right_shift_(EXPONENT_FRAC)


def shares(d: Tensor) -> Tensor:
    """Attention's weights of int32 d >= 0; the largest is 255."""
    i = (d >> EXPONENT_FRAC).clamp_(max=15)
    # (a + 2**(15 + i)) >> (16 + i), without a power that depends on i
    return (power(d).mul_(255) >> i.add_(15)).add_(1).bitwise_right_shift_(1)


def hidden_units(u: Tensor, shift: int, limit: int, *, leaky: bool) -> Tensor:
    """The activation of u, int64; changes u."""
    u.clamp_(-INT16_MAX if leaky else 0, INT16_MAX)
    if leaky:
        u = torch.where(u < 0, u >> 1, u)
    return (u * u).add_((1 << shift) >> 1).bitwise_right_shift_(shift).clamp_(max=limit)


def symbol_weights(products: Tensor, inverse: Tensor, scale: Tensor) -> Tensor:
    """Weights (n, V) int32 of the head's products (n, V) int32; the largest is 2**24.

    ``inverse`` (V) and ``scale`` are I and C, float32 tensors.  An int32 becomes the nearest
    float32, ties to even, on CPU and CUDA.  All constants are exact in float32.  The
    division is that of two tensors, which is IEEE's on CPU and CUDA; a division by a Python
    number would be a product with its reciprocal on CUDA.
    """
    x = products.float().mul_(inverse).clamp_(-CAP_BOUND, CAP_BOUND)
    y = x * x
    above = (y + 378.0).mul_(y).add_(17325.0).mul_(y).add_(135135.0).mul_(x)
    under = (y * 28.0).add_(3150.0).mul_(y).add_(62370.0).mul_(y).add_(135135.0)
    capped = above.div_(under).clamp_(-1.0, 1.0).mul_(scale).int()  # towards zero
    d = capped.amax(-1, keepdim=True) - capped
    steps = (d >> EXPONENT_FRAC).clamp_(max=31)
    return power(d).bitwise_left_shift_(WEIGHT_FRAC - 16).bitwise_right_shift_(steps)


class Intervals:
    """The intervals of docs/FORMAT.md of weights (n, V), looked up a symbol a row."""

    def __init__(self, weights: Tensor) -> None:
        n, v = weights.shape
        self._n_symbols = v
        pad = -v % BLOCK
        self._blocks = functional.pad(weights, (0, pad)).view(n, -1, BLOCK)
        sums = self._blocks.sum(-1)
        self._before = sums.cumsum(-1) - sums  # (n, blocks)
        self._unit = ((TOTAL - v) << SHIFT) // sums.sum(-1, keepdim=True)  # R, (n, 1)

    def of(self, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """(cum, freq) of symbols (n), each (n) int64."""
        block, place = symbols // BLOCK, symbols % BLOCK
        inside = self._inside(block)  # (n, BLOCK + 1)
        before = inside.gather(1, place[:, None])
        after = inside.gather(1, place[:, None] + 1)
        first = symbols[:, None]
        cum = (before * self._unit >> SHIFT).add_(first)
        end = (after * self._unit >> SHIFT).add_(first + 1)
        end = torch.where(first == self._n_symbols - 1, TOTAL, end)
        return cum[:, 0], (end - cum)[:, 0]

    def at(self, points: Tensor) -> Tensor:
        """The symbols (n) whose intervals hold points (n), 0 <= point < 2**24."""
        point = points[:, None]
        first = torch.arange(self._before.shape[1], device=points.device) * BLOCK
        starts = (self._before * self._unit >> SHIFT).add_(first)
        block = (starts <= point).sum(-1) - 1
        symbols = block[:, None] * BLOCK + torch.arange(BLOCK, device=points.device)
        starts = (self._inside(block)[:, :-1] * self._unit >> SHIFT).add_(symbols)
        held = (starts <= point) & (symbols < self._n_symbols)
        return block * BLOCK + held.sum(-1) - 1

    def _inside(self, block: Tensor) -> Tensor:
        """Sums of all weights before each symbol of one block a row, and behind the last."""
        index = block[:, None, None].expand(-1, 1, BLOCK)
        weights = self._blocks.gather(1, index)[:, 0]
        before = self._before.gather(1, block[:, None])
        return torch.cat((before, before + weights.cumsum(-1)), 1)
