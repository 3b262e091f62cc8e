"""The operations of docs/NUMERICS.md on torch tensors, exact on every device.

Integers only, elementwise in int64, so that nothing depends on the device or on the
order of a sum; the exceptions are told where they are: matrix products
(:class:`Matrix`), attention's products and the square root (float64 holding integers
below 2**53), the soft cap (float32, elementwise, as the specification has it).

No function here waits for the device or makes a shape from data, so that a step can
be captured as a CUDA graph.  Every torch call is a kernel of its own: nothing is
contracted to a multiply-add.  None of this may go through ``torch.compile``, which fuses.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgolf_codec.codec.frequencies import SHIFT, TOTAL

RESIDUAL_LIMIT = (1 << 21) - 1
INT16_MAX = 32767
LOGIT_LIMIT = (1 << 17) - 1
EXP2_FRAC = 10
BLOCK = 64
"""Symbols whose weights are summed before a symbol is looked for."""


class Matrix:
    """int8 weights (N, K) on a device, and the multipliers of their rows.

    Why a product is exact, on tensor cores too: a 16-bit activation is
    x = 256 h + l + 128, with h = x >> 8 and l = (x & 255) - 128 both int8, so that

        sum w x = 256 sum w h + sum w l + 128 sum w,

    two products of int8 whose sums stay below 127 * 128 * 8192 < 2**27 in int32, and a
    constant of the row.  One call does both: h and l lie one under the other.  On CUDA
    the call wants more than 16 rows and widths that are multiples of 8: widths are
    padded with zeros, and :mod:`torch_engine` rounds the number of streams up.

    Where that call is missing or saturates (:func:`int8_products_hold` tries it), float64
    does it: |sum w x| < 2**31 and all partial sums < 2**53, whatever the order.
    """

    def __init__(
        self, q: NDArray[np.int8], multipliers: NDArray[np.int64], device: torch.device
    ) -> None:
        self.n, self.k = q.shape
        self.multipliers = torch.from_numpy(multipliers).to(device)
        self.in_int8 = int8_products_hold(device)
        offsets = 128 * q.sum(1, dtype=np.int64)
        self.offsets = torch.from_numpy(offsets).to(device)
        if self.in_int8:
            padded = np.zeros((_multiple(self.n), _multiple(self.k)), np.int8)
            padded[: self.n, : self.k] = q
            self._w = torch.from_numpy(padded).to(device).t()  # (K, N), columns contiguous
        else:
            self._w = torch.from_numpy(q.astype(np.float64)).to(device).t()

    def product(self, x: Tensor) -> Tensor:
        """x (rows, K) int16 -> (rows, N) int64."""
        if not self.in_int8:
            return (x.double() @ self._w).long()
        # Flipping bit 7 subtracts 128 from the low byte, read as a signed number.
        low_high = (x ^ 128).view(torch.int8).view(-1, self.k, 2)
        halves = self.no_halves(x.shape[0])
        halves[:, :, : self.k] = low_high.permute(2, 0, 1)
        return self.joined(self.sums(halves))

    def no_halves(self, rows: int) -> Tensor:
        """Room for the low bytes l of all rows and the high bytes h: (2, rows, K padded) int8."""
        shape = (2, rows, self._w.shape[0])
        return torch.zeros(shape, dtype=torch.int8, device=self._w.device)

    def sums(self, halves: Tensor) -> Tensor:
        """(2 rows, N padded) int32: sum w l of all rows, then sum w h."""
        return torch._int_mm(halves.view(-1, halves.shape[2]), self._w)

    def joined(self, sums: Tensor) -> Tensor:
        """The product (rows, N) int64."""
        low_high = sums[:, : self.n].view(2, -1, self.n)
        return low_high[1].long().mul_(256).add_(low_high[0]).add_(self.offsets)

    def scaled(self, x: Tensor) -> Tensor:
        """sigma of the product, with this matrix's multipliers."""
        return scale_(self.product(x), self.multipliers)


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
    return -(-n // 32) * 32


def scale_(a: Tensor, m: Tensor) -> Tensor:
    """sigma(a, M) = (a M + 2**31) >> 32, in the place of a (int64)."""
    return a.mul_(m).add_(1 << 31).bitwise_right_shift_(32)


def norm(x: Tensor) -> Tensor:
    """norm over the last dimension of int64 |x| < 2**21; int64, at most 15 bits and a sign."""
    mean = (x * x).sum(-1, keepdim=True).bitwise_left_shift_(8) // x.shape[-1]
    # The float64 root of v < 2**62 is wrong by less than 1: made right on integers.
    root = mean.double().sqrt_().long()
    root -= (root * root > mean).long()
    root += ((root + 1) * (root + 1) <= mean).long()
    inverse = (1 << 40) // root.clamp_(min=1)
    return (x * inverse).add_(1 << 26).bitwise_right_shift_(27).clamp_(-INT16_MAX, INT16_MAX)


def rotate(y: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """The first 2 R' of the last dimension of y (n, heads, K) by angles (n, R'), in place."""
    half = cosine.shape[-1]
    u, w = y[..., :half].clone(), y[..., half : 2 * half].clone()
    cosine, sine = cosine[:, None, :], sine[:, None, :]
    y[..., :half] = (u * cosine).sub_(w * sine).add_(1 << 13).bitwise_right_shift_(14)
    y[..., half : 2 * half] = (u * sine).add_(w * cosine).add_(1 << 13).bitwise_right_shift_(14)
    return y


def attend(
    q: Tensor, keys: Tensor, values: Tensor, count: Tensor, gain: Tensor, exp2: Tensor
) -> Tensor:
    """Queries (n, G, H / G, K) over rings (n, G, W, K), of which the first ``count`` (n)
    slots are filled: (n, G, H / G, K) int64.

    ``q``, ``keys`` and ``values`` are integers as float64, in which both products are
    exact: |q k| < 2**28 and |sum p v| < 2**31, and so are their parts.
    """
    dots = torch.matmul(q, keys.mT).long()  # (n, G, H / G, W)
    z = dots.mul_(gain).add_(1 << 27).bitwise_right_shift_(28)
    empty = torch.arange(keys.shape[2], device=q.device) >= count[:, None, None, None]
    z.masked_fill_(empty, -(1 << 40))
    below = z.amax(-1, keepdim=True) - z
    w = power(below, exp2, 14).masked_fill_(empty, 0)
    unit = (INT16_MAX << 16) // w.sum(-1, keepdim=True)
    p = w.mul_(unit).add_(1 << 15).bitwise_right_shift_(16)
    inverse = (1 << 32) // p.sum(-1, keepdim=True)
    sums = torch.matmul(p.double(), values).long()
    return sums.mul_(inverse).add_(1 << 31).bitwise_right_shift_(32)


def power(below: Tensor, exp2: Tensor, shift: int) -> Tensor:
    """EXP2[d mod 2**10] >> min(shift + (d >> 10), 31) of d = ``below`` >= 0, in its type."""
    steps = (below >> EXP2_FRAC).add_(shift).clamp_(max=31)
    found = exp2.index_select(0, (below & 1023).view(-1)).view(below.shape)
    return found.to(below.dtype).bitwise_right_shift_(steps)


def leaky_square(u: Tensor, shift: int, limit: int) -> Tensor:
    """The activation of u, int64; changes u."""
    u.clamp_(-INT16_MAX, INT16_MAX)
    u = torch.where(u < 0, u >> 1, u)
    return (u * u).add_((1 << shift) >> 1).bitwise_right_shift_(shift).clamp_(max=limit)


def symbol_weights(logits: Tensor, inverse: Tensor, scale: Tensor, exp2: Tensor) -> Tensor:
    """Weights (n, V) int32 of scaled head products (n, V) int64; the largest is 2**24.

    ``inverse`` and ``scale`` are I and C, float32 tensors.  All constants are exact in
    float32.  The division is that of two tensors, which is IEEE's on CPU and CUDA; a
    division by a Python number would be a product with its reciprocal on CUDA.
    """
    x = logits.clamp_(-LOGIT_LIMIT, LOGIT_LIMIT).float().mul_(inverse)
    y = x * x
    above = (y + 378.0).mul_(y).add_(17325.0).mul_(y).add_(135135.0).mul_(x)
    under = (y * 28.0).add_(3150.0).mul_(y).add_(62370.0).mul_(y).add_(135135.0)
    capped = above.div_(under).clamp_(-1.0, 1.0).mul_(scale).to(torch.int32)  # towards zero
    return power(capped.amax(-1, keepdim=True) - capped, exp2, 6)


class Intervals:
    """The intervals of docs/FORMAT.md of weights (n, V), looked up a symbol a row."""

    def __init__(self, weights: Tensor) -> None:
        n, v = weights.shape
        self._n_symbols = v
        pad = -v % BLOCK
        self._blocks = torch.nn.functional.pad(weights, (0, pad)).view(n, -1, BLOCK)
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
