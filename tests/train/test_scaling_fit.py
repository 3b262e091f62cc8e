"""The curve of docs/SCALING.md: of made-up runs whose law is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def module() -> Any:
    name = "scaling_fit"
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def law(n: float, d: float, pairs: bool) -> float:
    return 2.0 + 300.0 / n**0.4 + 90.0 / d**0.3 - 0.07 * pairs


@pytest.fixture
def points(module: Any) -> list[Any]:
    grid = [(n, d, False) for n in (4e5, 1e6, 4e6) for d in (3e5, 1e6, 4e6)]
    grid += [(4e6, d, True) for d in (1e6, 3e7)]
    return [module.Point(n, d, law(n, d, pairs), pairs) for n, d, pairs in grid]


def test_a_law_is_found_again(module: Any, points: list[Any]) -> None:
    curve = module.fit(points)
    assert (curve.alpha, curve.beta) == (0.4, 0.3)
    coefficients = [curve.E, curve.A, curve.B, curve.P]
    assert coefficients == pytest.approx([2.0, 300.0, 90.0, 0.07], rel=1e-4)
    assert curve.rms < 1e-6
    assert not curve.at_an_end
    assert curve.loss(3e7, 7e9) == pytest.approx(law(3e7, 7e9, False), abs=1e-3)


def test_one_bad_run_does_not_bend_it(module: Any, points: list[Any]) -> None:
    bad = points[4]
    moved = module.Point(bad.n, bad.d, bad.loss + 0.3, bad.pairs)
    curve = module.fit([moved if point is bad else point for point in points])
    assert curve.loss(bad.n, bad.d) == pytest.approx(bad.loss, abs=0.02)
    assert module.without([moved, *points], [moved])[1] == pytest.approx([-0.3], abs=1e-3)


def test_runs_that_are_left_out_tell_a_wrong_law(module: Any, points: list[Any]) -> None:
    """Where losses stop to fall, the others' curve says too little."""
    floor = module.Point(4e6, 3e8, law(4e6, 3e7, True), True)
    curve, (off,) = module.without([*points, floor], [floor])
    assert (curve.alpha, curve.beta) == (0.4, 0.3)
    assert off == pytest.approx(law(4e6, 3e8, True) - floor.loss, abs=1e-3)
    assert off < -0.1


def test_too_few_runs(module: Any, points: list[Any]) -> None:
    with pytest.raises(ValueError, match="5 runs are too few"):
        module.fit(points[:5])
    alone = np.eye(3)[None]
    coefficients = module.nonnegative(alone, np.array([1.0, -2.0, 3.0]), np.ones((1, 3)))
    assert coefficients.tolist() == [pytest.approx([1.0, 0.0, 3.0], rel=1e-9)]
