"""GPTQ and waterfilling against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pgolf_codec.quant.gptq import Curvature, gptq, nearest
from pgolf_codec.quant.moments import Moments
from pgolf_codec.quant.quantizers import ByName, FewLevels, Gptq, Nearest, Waterfilled, curvatures
from pgolf_codec.quant.rounding import Quantized, round_rows
from pgolf_codec.quant.scalar import clipped_steps, magnitudes, searched_steps
from pgolf_codec.quant.waterfilling import columns_pay, waterfill

Problem = tuple[np.ndarray, Moments]


def test_the_factor_is_one_of_the_inverse(problem: Problem) -> None:
    _, moments = problem
    curvature = Curvature.of(moments, damping=0.0)
    upper, order = curvature.upper, curvature.order
    assert np.array_equal(upper, np.triu(upper))
    inverse = np.linalg.inv(moments.inputs[np.ix_(order, order)])
    unit = np.sqrt(np.outer(np.diag(inverse), np.diag(inverse)))
    assert np.abs((upper.T @ upper - inverse) / unit).max() < 1e-5  # least damping there is


def test_cost_of_errors_is_the_loss(problem: Problem) -> None:
    """Sum of each column's error, weighed as GPTQ weighs it, is the error's whole cost."""
    w, moments = problem
    curvature = Curvature.of(moments, damping=0.0)
    steps = np.full((96, 1), 0.05)
    told = 0.0

    def rounder(column: int, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
        nonlocal told
        q = nearest(127)(column, target, weight)
        told += float(weight @ (target - q) ** 2)
        return q

    q = gptq(w, curvature, steps, rounder)
    assert moments.loss(w - q * steps) == pytest.approx(told, rel=1e-6)


def test_blocks_do_not_show(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    w, moments = problem
    curvature = Curvature.of(moments)
    whole = gptq(w, curvature, np.full((96, 1), 0.05), nearest(127))
    monkeypatch.setattr("pgolf_codec.quant.gptq.BLOCK", 7)
    assert np.array_equal(whole, gptq(w, curvature, np.full((96, 1), 0.05), nearest(127)))


def test_repairs_pay(problem: Problem) -> None:
    w, moments = problem
    rounded, repaired = (
        Gptq({"matrix": 4}, {"matrix": 3.0}, c)("m", w, "rows")
        for c in (None, {"m": Curvature.of(moments)})
    )
    assert np.array_equal(repaired.row_scales, rounded.row_scales)
    assert moments.loss(w - repaired.floats()) < 0.6 * moments.loss(w - rounded.floats())


def test_unused_columns_and_zeros_are_possible() -> None:
    inputs = np.diag([0.0, 1.0, 0.0, 2.0])
    curvature = {"m": Curvature.of(Moments(inputs, np.ones(3)))}
    w = np.zeros((3, 4))
    w[1] = [1.0, -2.0, 3.0, 0.5]
    for scales, states in itertools.product(("rows", "columns"), (1, 8)):
        found = Waterfilled(curvature, 1e-3, states)("m", w, scales)
        assert np.isfinite(found.floats()).all()
        assert np.abs(found.values).max() <= 127
        assert np.abs(found.floats() - w)[1, [1, 3]].max() < 0.2


def test_nearest_is_what_export_always_did(problem: Problem) -> None:
    w, _ = problem
    found = Nearest({"matrix": 18.0, "embedding": 36.0})("embedding", w, "rows")
    values, scales = round_rows(w, 36.0)
    assert np.array_equal(found.values, values)
    assert np.array_equal(found.row_scales, scales)


def test_steps_fall_with_weight(problem: Problem) -> None:
    w, moments = problem
    curvature = Curvature.of(moments)
    steps = waterfill(w, curvature, 1e-8, 1 / 12, "both").matrix
    cost = curvature.row_weights[:, None] * curvature.column_weights * steps**2 / 24
    free = curvature.row_weights > 0.1 * curvature.row_weights.mean()
    assert 60 < free.sum() < 96
    assert cost[free] == pytest.approx(np.full(cost[free].shape, 1e-8), rel=0.3)  # scales of 3 bits
    assert (cost[~free] < 1.3e-8).all()


@pytest.mark.parametrize("scales", ["rows", "columns", "both"])
@pytest.mark.parametrize("n_states", [1, 8])
def test_cost_is_what_was_asked_for(problem: Problem, scales: str, n_states: int) -> None:
    w, moments = problem
    found = Waterfilled(curvatures({"m": moments}), 1e-8, n_states)("m", w, scales)
    # The trellis spares heavy rows where one step has to do for all rows of a column.
    assert 0.6e-8 < moments.loss(w - found.floats()) / w.size < 1.25e-8
    assert (found.row_scales is None) == (scales == "columns")
    assert (found.column_scales is None) == (scales == "rows")


def test_columns_of_much_weight(problem: Problem) -> None:
    """One that is large as well does not take all rows' steps with it; equal ones don't pay."""
    w, moments = problem
    w, factor = w.copy(), np.ones(w.shape[1])
    w[:, 7] *= 8
    factor[7] = 20
    heavy = Moments(moments.inputs * np.outer(factor, factor), moments.outputs)
    curvature = Curvature.of(heavy)
    assert columns_pay(curvature)
    small = Curvature.of(Moments(heavy.inputs, heavy.outputs[:4]))
    assert not columns_pay(small)
    assert not columns_pay(Curvature.of(Moments(np.eye(w.shape[1]), moments.outputs)))
    steps = waterfill(w, curvature, 1e-8, 1 / 12, "both")
    fitting = np.delete(w, 7, axis=1), np.delete(factor, 7)
    other = Moments(np.delete(np.delete(moments.inputs, 7, 0), 7, 1), moments.outputs)
    free = waterfill(fitting[0], Curvature.of(other), 1e-8, 1 / 12, "both")
    ratio = np.median(steps.matrix[:, 8:] / free.matrix[:, 7:])
    assert ratio < 1.1
    assert np.quantile(np.abs(w / steps.matrix)[:, 7], 0.7) <= 127
    assert np.abs(w / steps.matrix).max() < 127
    with_them = Waterfilled({"m": curvature}, 1e-8, 8)("m", w, "both")
    without = Waterfilled({"m": curvature}, 1e-8, 8, columns=False)("m", w, "both")
    assert with_them.column_scales is not None
    assert without.column_scales is None

    def price(q: Quantized) -> float:
        return heavy.loss(w - q.floats()) + 2 * np.log(2) * 1e-8 * 8 * order0_bytes(q)

    assert price(with_them) < 0.98 * price(without)


def order0_bytes(found: Quantized) -> float:
    _, counts = np.unique(found.values, return_counts=True)
    return float(counts @ np.log2(counts.sum() / counts)) / 8


def test_bits_can_be_priced(problem: Problem) -> None:
    """λ takes bits at the slope of the rate-distortion curve."""
    w, moments = problem
    c = curvatures({"m": moments})
    plain = Waterfilled(c, 1e-8, 1, price_of_bits=0.0)("m", w, "rows")
    priced = Waterfilled(c, 1e-8, 1, price_of_bits=1.0)("m", w, "rows")
    assert order0_bytes(priced) < order0_bytes(plain)
    assert moments.loss(w - plain.floats()) < moments.loss(w - priced.floats())


def test_clips() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((8, 4096))
    w[0] = 0.0
    w[1, 0] = 100.0
    clipped, searched = clipped_steps(w, 31, 12.85), searched_steps(w, 7)
    assert clipped[0] == 1.0
    assert searched[0] == 1.0
    assert clipped[2:].astype(float) * 31 / w[2:].std(axis=1) == pytest.approx(12.85, rel=1e-3)
    largest = np.abs(w).max(axis=1)
    assert searched[1] == np.float16(100 / 7)  # an outlier that is dearer to cut than to keep
    assert (searched[2:] * 7.0 < 0.9 * largest[2:]).all()


@pytest.mark.parametrize("zero", [True, False])
def test_few_levels(problem: Problem, zero: bool) -> None:
    """One magnitude a row, better than rounding to it without repairs."""
    w, moments = problem
    found = FewLevels(zero, curvatures({"m": moments}))("m", w, "rows")
    assert set(np.unique(found.values)) == ({-1, 0, 1} if zero else {-1, 1})
    assert found.row_scales is not None
    scale = found.row_scales.astype(float)[:, None]
    plain = np.where(zero & (np.abs(w) < scale / 2), 0.0, np.sign(w)) * scale
    assert moments.loss(w - found.floats()) < 0.8 * moments.loss(w - plain)
    columns = FewLevels(zero, curvatures({"m": moments}))("m", w, "columns")
    assert columns.row_scales is None
    assert columns.column_scales is not None
    assert columns.column_scales.shape == (64,)


@pytest.mark.parametrize("zero", [True, False])
def test_magnitudes_have_the_least_error(zero: bool) -> None:
    w = np.random.default_rng(1).standard_normal((4, 40))
    found = magnitudes(w, 0.5 if zero else 0.0).astype(float)

    def error(size: np.ndarray) -> np.ndarray:
        size = size[:, None]
        levels = np.abs(w)[..., None] - np.stack(
            [0 * w if zero else size + 0 * w, size + 0 * w], -1
        )
        return np.asarray((levels**2).min(axis=-1).sum(axis=1))

    for factor in (0.5, 0.8, 0.95, 1.05, 1.3, 2.0):
        assert (error(found) <= error(found * factor) + 1e-3).all()


def test_rules_by_name(problem: Problem) -> None:
    w, moments = problem
    few = FewLevels(True, {"blocks.0.up": Curvature.of(moments)})
    rules = ByName(
        [("blocks.*.up", few), ("b*", Nearest({"matrix": 2.0}))], Nearest({"matrix": 9.0})
    )
    for name, expected in (
        ("blocks.0.up", few("blocks.0.up", w, "rows")),
        ("blocks.0.down", Nearest({"matrix": 2.0})("x", w, "rows")),
        ("embedding", Nearest({"matrix": 9.0})("x", w, "rows")),
    ):
        assert np.array_equal(rules(name, w, "rows").values, expected.values)
