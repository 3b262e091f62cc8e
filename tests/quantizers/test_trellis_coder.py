"""Round trips, damage, and the agreement of prices with bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.errors import CorruptError
from pgolf_codec.quant import trellis
from pgolf_codec.quant.coders import trellis as trellis_coder
from pgolf_codec.quant.trellis_search import search


def path(
    rng: np.random.Generator, shape: tuple[int, int], n_states: int, size: float
) -> np.ndarray:
    """Integers of a trellis, rows and columns of unequal size."""
    rows, columns = shape
    scale = size * np.exp2(rng.uniform(-2, 2, (rows, 1)) + rng.uniform(-1, 1, columns))
    target = np.clip(rng.standard_normal(shape) * scale, -120, 120)
    follow, flat = trellis.machine(n_states), np.zeros((1, 2, 129))
    zeros = np.zeros(rows, np.int64)
    found = [
        search(target[:, c].copy(), np.ones(rows), zeros, flat, 0.0, follow, 127)
        for c in range(columns)
    ]
    return np.array(found, np.int8).T.reshape(shape).copy()


@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 40), st.integers(1, 20)),
    st.sampled_from(sorted(trellis.CODES)),
    st.sampled_from([0.0, 0.1, 1.0, 8.0, 60.0]),
)
def test_round_trip(seed: int, shape: tuple[int, int], n_states: int, size: float) -> None:
    x = path(np.random.default_rng(seed), shape, n_states, size)
    payload = trellis_coder.encode(x, n_states)
    assert np.array_equal(trellis_coder.decode(payload, shape), x)


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 30, 128]))
def test_one_state_takes_any_integers(seed: int, size: int) -> None:
    x = np.random.default_rng(seed).integers(1 - size, size, (9, 7)).astype(np.int8)
    assert np.array_equal(trellis_coder.decode(trellis_coder.encode(x, 1), (9, 7)), x)


@pytest.mark.parametrize("n_states", sorted(trellis.CODES))
def test_in_the_registry_it_finds_the_states(n_states: int) -> None:
    coder, rng = trellis_coder.TrellisCoder(), np.random.default_rng(n_states)
    x = path(rng, (64, 5), n_states, 5.0) if n_states > 1 else rng.integers(-9, 9, (64, 5))
    payload = coder.encode(x.astype(np.int32))
    assert 1 << payload[0] == n_states
    assert np.array_equal(coder.decode(memoryview(payload), (64, 5)), x)


def test_golden_stream() -> None:
    x = path(np.random.default_rng(7), (5, 3), 8, 4.0)
    assert trellis_coder.encode(x, 8).hex() == GOLDEN


GOLDEN = "03bf905e866e687f15475a0936"


def test_every_truncation_and_extension_is_seen() -> None:
    x = path(np.random.default_rng(1), (16, 8), 8, 3.0)
    payload = trellis_coder.encode(x, 8)
    for damaged in (payload[:-1], payload[:1], b"", payload + b"\0", b"\x09" + payload[1:]):
        with pytest.raises(CorruptError):
            trellis_coder.decode(damaged, (16, 8))


def test_prices_are_what_the_coder_takes() -> None:
    """A tensor of one size throughout: bits by the table, against the bytes."""
    x = path(np.random.default_rng(2), (512, 64), 8, 0.0)
    rng = np.random.default_rng(2)
    follow, flat = trellis.machine(8), np.zeros((1, 2, 129))
    zeros = np.zeros(512, np.int64)
    for c in range(64):
        target = rng.standard_normal(512) * 5
        x[:, c] = search(target, np.ones(512), zeros, flat, 0.0, follow, 127)
    table = trellis_coder.classes(np.array([np.abs(x).mean()]))[0]
    parity = x & 1
    told = trellis_coder.prices()[table, parity, (x - parity) // 2 + 64].sum()
    assert 8 * len(trellis_coder.encode(x, 8)) == pytest.approx(told, rel=0.01)


def test_rows_of_their_own_size_cost_their_own_bits() -> None:
    """The coder learns the rows' sizes: half the rows four times as large is one bit a weight."""
    rng = np.random.default_rng(4)
    x = np.rint(rng.standard_normal((256, 128)) * 3).astype(np.int8)
    y = x.copy()
    y[::2] = np.rint(rng.standard_normal((128, 128)) * 12)
    plain, mixed = (8 * len(trellis_coder.encode(a, 1)) / x.size for a in (x, y))
    assert mixed - plain == pytest.approx(1.0, abs=0.02)
