"""Rounding to nearest with one float16 scale a row or column."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pgolf_codec.quant.rounding import round_columns, round_rows

RNG = np.random.default_rng(1)


def errors(w: NDArray[np.float64], q: NDArray[np.int8], s: NDArray[np.float16]) -> NDArray:
    """In steps, those that float16 and clipping add left out."""
    step = s.astype(np.float64)[:, None]
    clipped = np.abs(w / step) > 127.5
    return np.where(clipped, 0.0, np.abs(w - q * step) / step)


@pytest.mark.parametrize("steps", [2.0, 10.0, 20.0, 500.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_error_bound(steps: float, scale: float) -> None:
    w = RNG.normal(0, scale, (20, 300))
    q, s = round_rows(w, steps)
    assert q.dtype == np.int8
    assert s.dtype == np.float16
    assert np.abs(q.astype(int)).max() <= 127
    assert errors(w, q, s).max() <= 0.5 + 1e-9
    sigma, top = w.std(axis=1), np.abs(w).max(axis=1)
    expected = np.maximum(sigma / steps, top / 127)
    assert np.all(np.abs(s / expected - 1) < 2**-10 + 2**-25 / expected)


def test_nothing_is_cut_off() -> None:
    """A scale that float16 rounds down may cost the largest weight one step at most."""
    w = RNG.normal(0, 1, (1000, 50))
    w[:, 0] = 60.0
    q, s = round_rows(w, 100.0)
    assert q[:, 0].min() >= 126
    assert np.abs(q[:, 0] * s.astype(np.float64) - 60).max() <= 60 / 127


def test_rows_of_zeros() -> None:
    w = RNG.normal(0, 1, (4, 10))
    w[1] = 0
    q, s = round_rows(w, 10.0)
    assert not q[1].any()
    assert np.isfinite(s).all()
    assert (s > 0).all()


def test_rows_of_one_value() -> None:
    """No deviation: the largest weight sets the step."""
    q, s = round_rows(np.full((2, 8), -0.25), 10.0)
    assert np.abs(q * s.astype(np.float64)[:, None] + 0.25).max() < 0.25 / 127


def test_tiny_rows_have_a_positive_scale() -> None:
    q, s = round_rows(np.full((1, 4), 1e-9), 10.0)
    assert s[0] == np.float16(2.0**-24)
    assert not q.any()


def test_columns_are_rows_of_the_transpose() -> None:
    w = RNG.normal(0, 1, (30, 6)) * np.arange(1, 7)
    q, s = round_columns(w, 4.0)
    q_rows, s_rows = round_rows(w.T, 4.0)
    assert q.flags.c_contiguous
    assert np.array_equal(q, q_rows.T)
    assert np.array_equal(s, s_rows)


def test_finer_steps_are_closer() -> None:
    w = RNG.normal(0, 1, (50, 400))
    rms = []
    for steps in (2.0, 4.0, 8.0, 16.0):
        q, s = round_rows(w, steps)
        rms.append(np.sqrt(np.mean((w - q * s.astype(np.float64)[:, None]) ** 2)))
    assert rms == sorted(rms, reverse=True)
    assert rms[0] == pytest.approx(0.5 / np.sqrt(12), rel=0.02)
