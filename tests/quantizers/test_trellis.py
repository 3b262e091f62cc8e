"""The trellis against a search of all paths, the bound, and a decoder in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pgolf_codec.errors import ConfigError
from pgolf_codec.quant import trellis
from pgolf_codec.quant.coders import trellis as trellis_coder
from pgolf_codec.quant.trellis_search import search as find

FLAT = np.zeros((1, 2, 129))


def obeys(column: np.ndarray, n_states: int) -> bool:
    """Whether integers are a path: the decoder's rule, from the module's docstring."""
    h0, h1 = trellis.CODES[n_states]
    state = 0
    for x in column.tolist():
        parity = state & 1
        if (x - parity) % 2:
            return False
        k = (x - parity) // 2
        state = (state >> 1) ^ ((k & 1) * (h1 >> 1)) ^ (parity * (h0 >> 1))
    return True


def search(
    target: np.ndarray, n_states: int, *, bits: np.ndarray = FLAT, rate: float = 0.0
) -> np.ndarray:
    n = len(target)
    follow = trellis.machine(n_states)
    return np.asarray(find(target, np.ones(n), np.zeros(n, np.int64), bits, rate, follow, 127))


@pytest.mark.parametrize("n_states", sorted(trellis.CODES))
def test_what_is_found_is_a_path(n_states: int) -> None:
    target = np.random.default_rng(n_states).standard_normal(500) * 5
    x = search(target, n_states)
    assert obeys(x, n_states)
    assert not obeys(np.append(x[:3], x[3] + 1), n_states)
    # Whatever the path before, one of each two neighbouring even or odd numbers is free.
    assert np.abs(x - target).max() < 4


@pytest.mark.parametrize("n_states", [1, 4, 8])
def test_no_path_is_cheaper(n_states: int) -> None:
    rng = np.random.default_rng(3)
    bits = rng.uniform(0, 4, (1, 2, 129))
    for _ in range(2):
        target = rng.uniform(-2, 2, 5)

        def cost(path: tuple[int, ...], target: np.ndarray = target) -> float:
            parity_of = [x & 1 for x in path]
            k = [(x - p) // 2 + 64 for x, p in zip(path, parity_of, strict=True)]
            rate = sum(bits[0, p, i] for p, i in zip(parity_of, k, strict=True))
            return float(np.sum((target - path) ** 2)) + 0.3 * rate

        paths = itertools.product(range(-5, 6), repeat=5)
        best = min(cost(path) for path in paths if obeys(np.array(path), n_states))
        found = search(target, n_states, bits=bits, rate=0.3)
        assert cost(tuple(found.tolist())) == pytest.approx(best)


@pytest.mark.parametrize(("n_states", "most"), [(1, 0.262), (8, 0.085), (32, 0.062)])
def test_gap_to_the_rate_distortion_bound(n_states: int, most: float) -> None:
    """Real bytes; benchmarks/trellis.py has the figures for more weights."""
    target = np.random.default_rng(1).standard_normal((1024, 128)) / 0.24
    table = np.full(1024, trellis_coder.classes(np.array([math.sqrt(2 / math.pi) / 0.24]))[0])
    follow = trellis.machine(n_states)
    x = np.stack(
        [
            find(
                target[:, c].copy(), np.ones(1024), table, trellis_coder.prices(), 0.35, follow, 127
            )
            for c in range(128)
        ],
        axis=1,
    ).astype(np.int8)
    coded = x if n_states > 1 else x // 2
    rate = 8 * len(trellis_coder.encode(coded, n_states)) / x.size
    distortion = float(np.mean((target - x) ** 2)) * 0.24**2
    assert 0.0 < rate + 0.5 * math.log2(distortion) < most


def test_states_without_a_code() -> None:
    with pytest.raises(ConfigError, match="5 states"):
        trellis.machine(5)
