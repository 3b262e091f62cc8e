"""Quantizers of a model's matrices, by name: what ``lm.export`` calls for each of them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.quant import trellis
from pgolf_codec.quant.coders import trellis as trellis_coder
from pgolf_codec.quant.gptq import Curvature, Floats, Rounder, gptq, nearest
from pgolf_codec.quant.moments import Moments
from pgolf_codec.quant.rounding import Quantized, round_columns, round_rows
from pgolf_codec.quant.scalar import clipped_steps, magnitudes, range_steps, searched_steps
from pgolf_codec.quant.trellis_search import search
from pgolf_codec.quant.waterfilling import (
    LEAST_ROW,
    LEAST_ROW_OF_SYMBOLS,
    MAX_WEIGHT,
    MOST_STEP,
    Scales,
    Steps,
    columns_pay,
    waterfill,
)


class Quantizer(Protocol):
    """Floats to integers and scales."""

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        """Integers within ±127 and float16 scales for a matrix (rows, columns).

        ``name`` is the matrix's in the artifact, without ``.q``; ``scales`` says which
        scales the artifact has a place for.  A quantizer may use fewer.
        """
        ...


def curvatures(moments: Mapping[str, Moments]) -> dict[str, Curvature]:
    """Of every matrix; made once, and used at any number of steps."""
    return {name: Curvature.of(m) for name, m in moments.items()}


@dataclass(frozen=True, slots=True)
class Nearest:
    """Round to nearest, steps in parts of a row's standard deviation."""

    steps_per_sigma: Mapping[str, float]
    """By kind: ``embedding``, ``bigram``, ``matrix``."""

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        steps = self.steps_per_sigma.get(name, self.steps_per_sigma["matrix"])
        if scales == "columns":
            values, columns = round_columns(weights, steps)
            return Quantized(values.astype(np.int32), None, columns)
        values, rows = round_rows(weights, steps)
        return Quantized(values.astype(np.int32), rows)


@dataclass(frozen=True, slots=True)
class Range:
    """Round to nearest, the largest weight of a row or column at the end of the range.

    The challenge's baseline, with 8 bits.
    """

    bits: Mapping[str, int]
    """By name, ``matrix`` for all others."""

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        top = (1 << (self.bits.get(name, self.bits["matrix"]) - 1)) - 1
        w = weights.T if scales == "columns" else weights
        steps = range_steps(w, top)
        q = np.clip(np.rint(w / steps.astype(np.float64)[:, None]), -top, top).astype(np.int32)
        if scales == "columns":
            return Quantized(np.ascontiguousarray(q.T), None, steps)
        return Quantized(q, steps)


@dataclass(frozen=True, slots=True)
class Gptq:
    """GPTQ with a plain range of integers: the records' quantizer.

    A row's step is ``clip_sigmas`` standard deviations over the largest integer; where
    ``clip_sigmas`` is None, the clip of least squared error (GPTQ-lite).  Without
    ``curvatures`` it rounds to nearest.
    """

    bits: Mapping[str, int]
    """By name, ``matrix`` for all others."""
    clip_sigmas: Mapping[str, float] | None
    curvatures: Mapping[str, Curvature] | None = None

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        bits = self.bits.get(name, self.bits["matrix"])
        top = (1 << (bits - 1)) - 1
        w = weights.T if scales == "columns" else weights
        if self.clip_sigmas is None:
            scale = searched_steps(w, top)
        else:
            scale = clipped_steps(w, top, self.clip_sigmas.get(name, self.clip_sigmas["matrix"]))
        steps = Steps(None, scale) if scales == "columns" else Steps(scale, None)
        if self.curvatures is None:
            q = np.clip(np.rint(weights / steps.matrix), -top, top).astype(np.int8)
        else:
            q = gptq(weights, self.curvatures[name], steps.matrix, nearest(top))
        return Quantized(q.astype(np.int32), steps.rows, steps.columns)


@dataclass(frozen=True, slots=True)
class FewLevels:
    """Ternary or binary by GPTQ: one magnitude a row, and 0 if ``zero`` is set.

    The magnitude is the mean of |w| of the weights that are kept in the row as it is, or of
    all; GPTQ's repairs do the rest.
    """

    zero: bool
    curvatures: Mapping[str, Curvature]
    threshold: float = 0.6
    """Of the magnitude: what is below becomes 0.

    A half is rounding to nearest; but GPTQ spreads what it rounds, and a little more is
    less loss in fewer bytes.
    """

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        threshold = self.threshold if self.zero else 0.0
        magnitude = magnitudes(weights.T if scales == "columns" else weights, threshold)
        steps = Steps(None, magnitude) if scales == "columns" else Steps(magnitude, None)

        def rounder(column: int, target: Floats, weight: Floats) -> NDArray[np.int8]:
            signs = np.where(target < 0, -1, 1)
            return np.where(np.abs(target) < threshold, 0, signs).astype(np.int8)

        q = gptq(weights, self.curvatures[name], steps.matrix, rounder)
        return Quantized(q.astype(np.int32), steps.rows, steps.columns)


@dataclass(frozen=True, slots=True)
class ByName:
    """A quantizer for each pattern of names (as of a shell), the first that matches; or another."""

    rules: Sequence[tuple[str, Quantizer]]
    otherwise: Quantizer

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        for pattern, quantizer in self.rules:
            if fnmatch.fnmatchcase(name, pattern):
                return quantizer(name, weights, scales)
        return self.otherwise(name, weights, scales)


@dataclass(frozen=True, slots=True)
class Waterfilled:
    """GPTQ over steps by waterfilling, where a bit may cost what it is worth.

    ``n_states`` of the trellis: more give less error at the same bits, and take longer
    to search; decoding does not mind.  One state is a scalar quantizer.
    """

    curvatures: Mapping[str, Curvature]
    cost: float
    """Nats a token that the rounding of one weight may cost; the only knob."""
    n_states: int = 8
    price_of_bits: float = 1.0
    """λ: 1 is the slope of the rate-distortion curve, 0 looks at errors alone."""
    columns: bool = True
    """Whether scales of columns beside those of rows are used, where they pay."""

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        curvature = self.curvatures[name]
        if scales == "both" and not (self.columns and columns_pay(curvature)):
            scales = "rows"
        squared_error = trellis.SQUARED_ERROR if self.n_states > 1 else 1 / 3
        least = LEAST_ROW_OF_SYMBOLS if name == "embedding" else LEAST_ROW
        most = MOST_STEP if self.n_states > 1 else MOST_STEP / 2  # doubled below
        steps = waterfill(weights, curvature, self.cost, squared_error, scales, least, most)
        rounder = self._rounder(weights / steps.matrix)
        x = gptq(weights, curvature, steps.matrix, rounder).astype(np.int32)
        if self.n_states > 1:
            return Quantized(x, steps.rows, steps.columns)
        # All are even: halves of them, in steps of twice the size, are the same weights.
        rows = None if steps.rows is None else steps.rows * np.float16(2)
        columns = steps.columns if rows is not None else _double(steps.columns)
        return Quantized(x // 2, rows, columns)

    def _rounder(self, scaled: Floats) -> Rounder:
        """Trellis search with the coder's prices, for weights that are about ``scaled``."""
        size = np.abs(scaled) + 0.01
        rows, columns = size.mean(axis=1, keepdims=True), size.mean(axis=0, keepdims=True)
        table = trellis_coder.classes(rows * columns / size.mean())
        follow, prices = trellis.machine(self.n_states), trellis_coder.prices()
        # dD/dR of D ~ 2**(-2R)
        bit = self.price_of_bits * 2 * math.log(2) * self.cost

        def rounder(column: int, target: Floats, weight: Floats) -> NDArray[np.int8]:
            chosen: NDArray[np.int16] = search(
                target, weight, table[:, column].copy(), prices, bit, follow, MAX_WEIGHT
            )
            return chosen.astype(np.int8)

        return rounder


def _double(steps: NDArray[np.float16] | None) -> NDArray[np.float16] | None:
    return None if steps is None else steps * np.float16(2)
