"""How the coders ``ans-*`` come to their tables.  Floats are free here: no decoder sees them.

``ans-hist`` counts; ``ans-gauss``, ``ans-laplace`` and ``ans-mixture`` fit a distribution to
the counts, which makes a table that costs less; ``ans-scale`` gives rows and columns
classes by their scale and fits each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel
from pgolf_codec.quant.coders import ans
from pgolf_codec.quant.coders.alphabet import Alphabet
from pgolf_codec.quant.coders.ans import Model
from pgolf_codec.quant.coders.machine_code import MOST_SEEN, PRECISION, STATIC_SOURCES
from pgolf_codec.quant.coders.prediction import Prediction, shade_bits_of

Floats = NDArray[np.float64]
Fit = Callable[[Floats], Floats]
"""Counts (tables, symbols) to probabilities, not normalised."""

_assign = Kernel("pgolf_codec.quant.coders.ans_kernel", "assign", STATIC_SOURCES)
_add = Kernel("pgolf_codec.quant.coders.ans_kernel", "add", STATIC_SOURCES)
_UNITS = (3, 4)
_FLOOR = 2.0**-17
"""Least share of a symbol that a parametric table may meet."""


class Ans:
    """One table for the whole tensor."""

    def __init__(self, summary: str, fits: tuple[Fit, ...]) -> None:
        self.summary = summary
        self._fits = fits

    def encode(self, values: NDArray[np.int32]) -> bytes:
        alphabet, symbols = Alphabet.of(values)
        counts = np.bincount(symbols.reshape(-1), minlength=alphabet.n_symbols)[None, :]
        model = _cheapest(alphabet, counts.astype(np.float64), _one_class(values.shape), self._fits)
        return ans.encode(alphabet, symbols, model)

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        return ans.decode(payload, shape)


class AnsScale(Ans):
    """A table a class of scales, of the items or of what a linear prediction leaves of them."""

    def encode(self, values: NDArray[np.int32]) -> bytes:
        found = self._by_scale(_plain(values))
        shade_bits = 2 if float(values.std(dtype=np.float64)) > _NARROW else 3
        prediction = Prediction.fit(values, shade_bits)
        if prediction is not None:
            rests = _predicted(values, prediction)
            if rests is not None:
                found = min(found, self._by_scale(rests), key=lambda choice: choice[2])
        items, model, _ = found
        return ans.encode(items.alphabet, items.symbols, model, items.shades)

    def _by_scale(self, items: _Items) -> tuple[_Items, Model, float]:
        """The cheapest model found, and its bits."""
        none = _one_class(items.symbols.shape)
        best, best_bits = self._fitted(items, none)
        for classes in _class_choices(items.rests):
            n_tables = int(classes[0].max() + classes[1].max()) + 1 << shade_bits_of(
                items.prediction
            )
            if n_tables * items.alphabet.n_symbols > items.symbols.size:
                continue  # tables that cost more than they can save
            model, bits = self._fitted(items, classes)
            for _ in range(_REASSIGNMENTS):
                moved = _reassigned(items, model)
                if moved is None:
                    break
                model, bits = self._fitted(items, moved)
            if bits < best_bits:
                best, best_bits = model, bits
        return items, best, best_bits

    def _fitted(
        self, items: _Items, classes: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> tuple[Model, float]:
        counts = _count(items, *classes)
        model = _cheapest(items.alphabet, counts, classes, self._fits, items.prediction)
        return model, _total_bits(items.alphabet, model, counts)


@dataclass(frozen=True, slots=True)
class _Items:
    """What is coded, and what is known of each beforehand; all (rows, columns)."""

    alphabet: Alphabet
    symbols: NDArray[np.int32]
    shaded: NDArray[np.int32]
    """shade * n_symbols + symbol; without a prediction the symbols."""
    rests: NDArray[np.int32]
    """The items less what was predicted."""
    prediction: Prediction | None = None
    shades: NDArray[np.int32] | None = None


def _plain(values: NDArray[np.int32]) -> _Items:
    alphabet, symbols = Alphabet.of(values)
    return _Items(alphabet, symbols, symbols, values)


def _predicted(values: NDArray[np.int32], prediction: Prediction) -> _Items | None:
    """None if an item that others were predicted from is no level."""
    centred = values.astype(np.int64) - prediction.centre
    guesses = prediction.guesses(centred)
    rests = (centred - (guesses >> prediction.unit)).astype(np.int32)
    shades = guesses >> (prediction.unit - prediction.shade_bits)
    alphabet, symbols = Alphabet.of(rests)
    # What is no level is kept as it is, not as what is left of it.
    escapes = centred[symbols == alphabet.n_levels]
    if abs(escapes).min(initial=MOST_SEEN + 1) <= MOST_SEEN:
        return None
    alphabet = replace(alphabet, escapes=escapes)
    shades = (shades & ((1 << prediction.shade_bits) - 1)).astype(np.int32)
    shaded = shades * np.int32(alphabet.n_symbols) + symbols
    return _Items(alphabet, symbols, shaded, rests, prediction, shades)


_NARROW = 1.5
"""Below this deviation more shades are worth their tables."""
_REASSIGNMENTS = 2
_STEPS = (0.5, 0.25, 0.125)
"""Widths of a class, in octaves of scale."""


def counted(counts: Floats) -> Floats:
    """The counts themselves."""
    return counts


def smoothed(counts: Floats) -> Floats:
    """The counts and, as if eight more items had been seen, the fitted normal ones."""
    fitted = gaussian(counts)
    fitted /= fitted.sum(axis=1, keepdims=True)
    return counts + 8 * fitted


def gaussian(counts: Floats) -> Floats:
    return _integrated(counts, _normal_cdf)


def laplacian(counts: Floats) -> Floats:
    return _integrated(counts, _laplace_cdf)


def mixture(counts: Floats) -> Floats:
    """Three normal distributions about one mean, by expectation and maximisation."""
    levels = np.arange(counts.shape[1], dtype=np.float64)
    out = np.empty_like(counts)
    for row, probability in zip(counts, out, strict=True):
        total = max(row.sum(), 1.0)
        mean = float((row * levels).sum() / total)
        sigma = max(float(np.sqrt((row * (levels - mean) ** 2).sum() / total)), 0.1)
        shares, sigmas = np.array([0.3, 0.5, 0.2]), sigma * np.array([0.5, 1.0, 1.8])
        for _ in range(40):
            parts = shares[:, None] * np.stack(
                [_bins(levels, mean, s, _normal_cdf) for s in sigmas]
            )
            parts += 1e-300
            duty = row * parts / parts.sum(axis=0)
            weight = duty.sum(axis=1) + 1e-9
            shares = weight / weight.sum()
            second = (duty * (levels - mean) ** 2).sum(axis=1) / weight - 1 / 12
            sigmas = np.sqrt(np.maximum(second, 0.01))
        probability[:] = (
            shares[:, None] * np.stack([_bins(levels, mean, s, _normal_cdf) for s in sigmas])
        ).sum(axis=0)
    return out


def _one_class(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64)


def _cheapest(
    alphabet: Alphabet,
    counts: Floats,
    classes: tuple[NDArray[np.int64], NDArray[np.int64]],
    fits: tuple[Fit, ...],
    prediction: Prediction | None = None,
) -> Model:
    """The model of fewest bits, of all fits and steps of logarithms."""
    models = [
        Model(unit, _to_levels(fit(counts), counts, unit), *classes, prediction)
        for fit in fits
        for unit in _UNITS
    ]
    return min(models, key=lambda model: _total_bits(alphabet, model, counts))


def _total_bits(alphabet: Alphabet, model: Model, counts: Floats) -> float:
    return 8.0 * len(ans.write_head(alphabet, model)) + float((counts * _bits(model)).sum())


def _bits(model: Model) -> Floats:
    """(tables, symbols): what a symbol costs; dear, not infinite, where a table has none."""
    shares = np.diff(model.cumulative(), axis=1) / (1 << PRECISION)
    return -np.log2(np.maximum(shares, 2.0**-60))


def _to_levels(probability: Floats, counts: Floats, unit: int) -> NDArray[np.int64]:
    """Logarithms in steps of 2**-unit octaves, the largest at the top.

    Symbols that occur have 1 at least; those that don't have 0 where they are rare.
    """
    steps, top = 1 << unit, ans.OCTAVES << unit
    probability = probability / np.maximum(probability.max(axis=1, keepdims=True), 1e-300)
    levels = np.rint(top + steps * np.log2(np.maximum(probability, 2.0**-60))).astype(np.int64)
    levels = levels.clip(0, top)
    # A table that nobody uses must still be one.
    levels[counts.sum(axis=1) == 0] = top
    return np.asarray(np.where(counts > 0, np.maximum(levels, 1), levels))


def _integrated(counts: Floats, cdf: Callable[[Floats], Floats]) -> Floats:
    """A symmetric distribution, mean and deviation those of the counts, over each level."""
    levels = np.arange(counts.shape[1], dtype=np.float64)
    totals = np.maximum(counts.sum(axis=1), 1.0)
    means = (counts * levels).sum(axis=1) / totals
    squares = (counts * (levels - means[:, None]) ** 2).sum(axis=1) / totals
    sigmas = np.sqrt(np.maximum(squares - 1 / 12, 0.01))
    parts = [_bins(levels, mean, sigma, cdf) for mean, sigma in zip(means, sigmas, strict=True)]
    return np.asarray(np.maximum(np.stack(parts), _FLOOR * (counts > 0)))


def _bins(levels: Floats, mean: float, sigma: float, cdf: Callable[[Floats], Floats]) -> Floats:
    """Mass within half a level of each."""
    upper = cdf(-np.abs(levels - mean) / sigma + 0.5 / sigma)
    return upper - cdf(-np.abs(levels - mean) / sigma - 0.5 / sigma)


def _normal_cdf(x: Floats) -> Floats:
    """Abramowitz and Stegun 7.1.26, good to 1e-7: tables have less."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    poly = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    tail = 0.5 * poly * np.exp(-z * z)
    return np.asarray(np.where(x < 0, tail, 1 - tail))


def _laplace_cdf(x: Floats) -> Floats:
    tail = 0.5 * np.exp(-np.sqrt(2) * np.abs(x))
    return np.asarray(np.where(x < 0, tail, 1 - tail))


def _class_choices(
    values: NDArray[np.int32],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Classes of rows and columns to try, coarse ones first."""
    rows, columns = _scales(values)
    for step in _STEPS:
        row_classes, column_classes = _classes(rows, step), _classes(columns, step)
        none = _one_class(values.shape)
        candidates = [(none[0], column_classes), (row_classes, none[1])]
        if row_classes.any() and column_classes.any():
            candidates.append((row_classes, column_classes))
        yield from (c for c in candidates if c[0].any() or c[1].any())


def _scales(values: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """log2 of the scales of rows and columns: item (i, j) has the deviation r_i c_j."""
    energy = values.astype(np.float32) ** 2 + np.float32(1 / 16)
    rows = energy.mean(axis=1, dtype=np.float64)
    columns = np.ones(values.shape[1])
    for _ in range(3):
        columns = (energy / rows[:, None].astype(np.float32)).mean(axis=0, dtype=np.float64)
        rows = (energy / columns.astype(np.float32)).mean(axis=1, dtype=np.float64)
    return np.log2(rows) / 2, np.log2(columns) / 2


def _classes(scales: Floats, step: float) -> NDArray[np.int64]:
    found = np.rint((scales - np.median(scales)) / step).astype(np.int64)
    found = found.clip(-16, 15)
    return np.asarray(found - found.min())


def _reassigned(items: _Items, model: Model) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Every row, or column, to the class that codes it in the fewest bits.

    None where both have classes.
    """
    by_rows = bool(model.row_classes.any())
    if by_rows and model.column_classes.any():
        return None
    classes = model.row_classes if by_rows else model.column_classes
    n_classes = len(model.levels) >> shade_bits_of(items.prediction)
    shares = np.bincount(classes, minlength=n_classes) + 0.5
    costs = np.minimum(_bits(model), 40.0).reshape(n_classes, -1)
    lines = items.shaded if by_rows else items.shaded.T
    moved = np.empty(len(lines), np.int64)
    price = -np.log2(shares / shares.sum())
    _assign(lines, costs, price, np.zeros(costs.shape[1]), moved)
    _, moved = np.unique(moved, return_inverse=True)
    rest = _one_class(items.symbols.shape)
    return (moved, rest[1]) if by_rows else (rest[0], moved)


def _count(
    items: _Items, row_classes: NDArray[np.int64], column_classes: NDArray[np.int64]
) -> Floats:
    """(tables, symbols)"""
    n_classes = int(row_classes.max() + column_classes.max()) + 1
    n_symbols = items.alphabet.n_symbols
    counts = np.zeros((n_classes, n_symbols << shade_bits_of(items.prediction)))
    _add(items.shaded, row_classes, column_classes, counts)
    return counts.reshape(-1, n_symbols)


HIST = Ans("ANS, counted table", (counted,))
GAUSS = Ans("ANS, fitted normal distribution", (gaussian,))
LAPLACE = Ans("ANS, fitted Laplace distribution", (laplacian,))
MIXTURE = Ans("ANS, fitted mixture of three normal distributions", (mixture,))
SCALE = AnsScale("ANS, a table for each class of row and column scales", (smoothed, gaussian))
