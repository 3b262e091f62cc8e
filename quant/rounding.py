"""Round to nearest: float tensors to integers with float16 scales.

:func:`round_rows` is what our own models take: the step is a fraction of a row's (or
column's) standard deviation, as trained rows look Gaussian and an entropy coder
follows: bits a weight are about log2(steps_per_sigma) + 2.05 whatever the range.
:func:`quantize` has the schemes that others use, by name.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import ConfigError, TensorError

MAX_WEIGHT = 127
_LARGEST = {"int8": 127, "int6": 31, "int5": 15, "int4": 7, "ternary": 1, "binary": 1}
_STATES = {"step": 0, "priced": 1} | {f"trellis{n or ''}": n or 8 for n in (0, 4, 8, 16, 32)}
"""Kinds with a free step; 0 is rounding to nearest, without a price of bits."""
DEFAULT_STEP = 0.4
"""Of a row's standard deviation."""
_LEAST_SCALE = 2.0**-24
"""The least float16 above zero."""
GROUP = re.compile("[1-9][0-9]{0,8}")
"""How a number of columns is written, in schemes and in files."""
MATRIX = "matrix"
"""What stands in its place where a matrix has one scale."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """Integers and their scales: item (i, j) stands for values·row_scales[i]·column_scales[j].

    A tensor of more than two dimensions is rows of everything behind the first.  With groups
    of G columns the scale of a row is row_scales[i, j // G].
    """

    values: NDArray[np.int32]
    """In the shape of the tensor, two dimensions at least."""
    row_scales: NDArray[np.float16] | None
    """(rows,); with groups (rows, groups), of which the last may have fewer columns."""
    column_scales: NDArray[np.float16] | None = None
    """(columns,)"""
    group_columns: int | None = None
    """G; None: a row has one scale."""

    def floats(self) -> NDArray[np.float32]:
        """The values, in float32: at most two products an item, each rounded."""
        n_rows = self.values.shape[0]
        table = self.values.reshape(n_rows, math.prod(self.values.shape[1:])).astype(np.float32)
        if self.row_scales is not None:
            scales = self.row_scales.astype(np.float32)
            if self.group_columns is None:
                table *= scales[:, None]
            elif n_rows:  # an index as long as a row, however many columns a group has
                table *= scales[:, np.arange(table.shape[1]) // self.group_columns]
        if self.column_scales is not None:
            table *= self.column_scales.astype(np.float32)
        return table.reshape(self.values.shape)

    def same_as(self, other: Quantized) -> bool:
        """The same integers, the same scales bit by bit."""

        def same(one: NDArray[np.float16] | None, two: NDArray[np.float16] | None) -> bool:
            if one is None or two is None:
                return one is two
            return np.array_equal(one.view(np.uint16), two.view(np.uint16))

        return (
            self.group_columns == other.group_columns
            and np.array_equal(self.values, other.values)
            and same(self.row_scales, other.row_scales)
            and same(self.column_scales, other.column_scales)
        )


@dataclass(frozen=True, slots=True)
class Scheme:
    """How to round: a range of integers, or a step.

    ``int8``, ``int6``, ``int5``, ``int4``, ``ternary``, ``binary``: ``int6`` has the largest
    item of a row at the end of the range, ``int6:12.85`` has 12.85 standard deviations of
    the row there and cuts off what is beyond.  ``ternary`` has the mean magnitude of a row, 0
    below half of that.  ``ternary:0.6`` has 0 below 0.6 standard deviations and
    the mean magnitude of the others, which is the least squared error of a normal row;
    more zeros take fewer bytes.

    ``step:0.4`` has steps of 0.4 standard deviations of the row and no range,
    ``priced:0.4`` weighs the entropy coder's bits against the error, and ``trellis:0.4``
    (8 states; ``trellis32:0.4``) gets less error for the same bits.

    ``ternary/64``, ``ternary:0.61/64``, ``int4/32``: every 64 consecutive columns of a row are
    as a row of their own.  ``ternary/matrix``, ``int8/matrix``: all rows are as one, and have
    the same scale; so ternary is as BitNet b1.58 published it.  Neither with a free step.
    """

    kind: str
    sigmas: float | None = None
    group_columns: int | None = None
    by_matrix: bool = False
    """One scale for the whole matrix."""

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Raises :class:`ConfigError`."""
        row, slash, columns = text.partition("/")
        kind, colon, number = row.partition(":")
        free = kind in _STATES
        if not (free or kind in _LARGEST) or (colon and kind == "binary"):
            known = ", ".join(("none", *_LARGEST, *_STATES))
            forms = "int6:12.85, ternary:0.6/64, ternary/matrix"
            raise ConfigError(f"no scheme {text!r}; there are {known}, {forms}")
        by_matrix = slash and columns == MATRIX
        if slash and (free or not (by_matrix or GROUP.fullmatch(columns))):
            raise ConfigError(f"scheme {text!r}: {kind} in groups of {columns!r} columns")
        scales = int(columns) if slash and not by_matrix else None, bool(by_matrix)
        if not colon:
            return cls(kind, DEFAULT_STEP if free else None, *scales)
        try:
            sigmas = float(number)
        except ValueError:
            sigmas = 0.0
        if not 0 < sigmas < math.inf:
            raise ConfigError(f"scheme {text!r}: {number!r} standard deviations")
        return cls(kind, sigmas, *scales)

    def __str__(self) -> str:
        row = self.kind if self.sigmas is None else f"{self.kind}:{self.sigmas:g}"
        scales = MATRIX if self.by_matrix else self.group_columns
        return row if scales is None else f"{row}/{scales}"

    def coarser(self, octaves: float) -> Scheme:
        """The same with steps of 2**octaves times their size; itself if it has no such knob."""
        if self.sigmas is None:
            return self
        return replace(self, sigmas=self.sigmas * 2.0**octaves)


def quantize(weights: NDArray[Any], scheme: Scheme) -> Quantized:
    """A float tensor of two dimensions or more, rounded with a scale a row or group.

    Raises :class:`TensorError` for NaN and infinity, and where a scale exceeds float16.
    """
    if weights.ndim < 2:
        raise TensorError(f"{scheme}: a tensor of {weights.ndim} dimensions has no rows")
    w = weights.reshape(weights.shape[0], math.prod(weights.shape[1:])).astype(np.float64)
    if not np.isfinite(w).all():
        raise TensorError(f"{scheme}: NaN or infinity among the weights")
    if scheme.group_columns is not None:
        return _grouped(w, weights.shape, scheme, scheme.group_columns)
    if not w.size:
        return Quantized(np.zeros(weights.shape, np.int32), np.ones(len(w), np.float16))
    if scheme.by_matrix:
        one = quantize(w.reshape(1, -1), replace(scheme, by_matrix=False))
        assert one.row_scales is not None
        return Quantized(one.values.reshape(weights.shape), one.row_scales.repeat(len(w)))
    if scheme.kind in _STATES:
        return _free(w, weights.shape, scheme)
    top = _LARGEST[scheme.kind]
    if scheme.kind == "ternary" and scheme.sigmas is not None:
        w = np.where(np.abs(w) < scheme.sigmas * w.std(axis=1, keepdims=True), 0.0, w)
        scale = np.abs(w).sum(axis=1) / np.maximum((w != 0).sum(axis=1), 1)
        w = np.sign(w) * scale[:, None]
    elif scheme.kind in ("ternary", "binary"):
        scale = np.abs(w).mean(axis=1)
    elif scheme.sigmas is None:
        scale = np.abs(w).max(axis=1) / top
    else:
        scale = scheme.sigmas * w.std(axis=1) / top
        scale = np.where(scale > 0, scale, np.abs(w).max(axis=1) / top)
    scale = np.where(scale > 0, np.maximum(scale, _LEAST_SCALE), 1.0)
    steps = _checked(scale, scheme)
    if scheme.kind == "binary":
        q = np.where(w < 0, -1, 1)
    else:
        q = np.clip(np.rint(w / steps.astype(np.float64)[:, None]), -top, top)
    return Quantized(q.astype(np.int32).reshape(weights.shape), steps)


def _grouped(
    w: NDArray[np.float64], shape: tuple[int, ...], scheme: Scheme, group: int
) -> Quantized:
    values, by_row = np.zeros(w.shape, np.int32), replace(scheme, group_columns=None)
    scales = np.ones((len(w), -(-w.shape[1] // group)), np.float16)
    for number in range(scales.shape[1]):
        columns = slice(number * group, (number + 1) * group)
        part = quantize(w[:, columns], by_row)
        values[:, columns], scales[:, number] = part.values, part.row_scales
    return Quantized(values.reshape(shape), scales, group_columns=group)


def _free(w: NDArray[np.float64], shape: tuple[int, ...], scheme: Scheme) -> Quantized:
    from pgolf_codec.quant import steps

    assert scheme.sigmas is not None
    n_states = _STATES[scheme.kind]
    if n_states:
        values, scale = steps.priced(w, scheme.sigmas, n_states)
    else:
        values, scale = steps.nearest(w, scheme.sigmas)
    return Quantized(values.reshape(shape), _checked(scale, scheme))


def _checked(scale: NDArray[np.float64], scheme: Scheme) -> NDArray[np.float16]:
    if not scale.max() <= np.finfo(np.float16).max:
        raise TensorError(f"{scheme}: a scale of {scale.max():g} is beyond float16")
    return scale.astype(np.float16)


def _steps(w: NDArray[np.float64], axis: int, steps_per_sigma: float) -> NDArray[np.float16]:
    sigma, top = w.std(axis=axis), np.abs(w).max(axis=axis)
    step = np.maximum(sigma / steps_per_sigma, top / MAX_WEIGHT)
    step = np.where(step > 0, step, 1.0)
    return np.maximum(step, _LEAST_SCALE).astype(np.float16)


def round_rows(
    weights: NDArray[np.floating], steps_per_sigma: float
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """(rows, columns) to int8 of the same shape and float16 scales (rows,)."""
    w = weights.astype(np.float64)
    s = _steps(w, 1, steps_per_sigma)
    q = np.rint(w / s.astype(np.float64)[:, None])
    return np.clip(q, -MAX_WEIGHT, MAX_WEIGHT).astype(np.int8), s


def round_columns(
    weights: NDArray[np.floating], steps_per_sigma: float
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """As :func:`round_rows` with one scale a column; for tables whose rows are entries."""
    q, s = round_rows(weights.T, steps_per_sigma)
    return np.ascontiguousarray(q.T), s
