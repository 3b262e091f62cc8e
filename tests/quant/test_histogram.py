"""Integers through ANS with a learned histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import read_ans

from pgolf_codec.errors import CorruptError
from pgolf_codec.quant import histogram

RNG = np.random.default_rng(1)


def entropy_bytes(values: NDArray[np.int8]) -> float:
    p = np.unique(values, return_counts=True)[1] / values.size
    return float(-(p * np.log2(p)).sum() * values.size / 8)


ARRAYS: dict[str, NDArray[np.int8]] = {
    "one item": np.array([-128], np.int8),
    "one level": np.full(1000, 7, np.int8),
    "zeros": np.zeros(3, np.int8),
    "two far levels": np.array([-128, 127] * 20, np.int8),
    "all levels": np.arange(-128, 128).astype(np.int8),
    "uniform": RNG.integers(-128, 128, 20000).astype(np.int8),
    "bell": np.clip(np.rint(RNG.normal(0, 10, 50000)), -127, 127).astype(np.int8),
    "narrow": np.rint(RNG.normal(0, 0.3, 50000)).astype(np.int8),
    "one in many": (np.arange(300_000) == 150_000).astype(np.int8),
    "lowest at the end": np.repeat([3, 0], [10, 5000]).astype(np.int8),
    "lowest at the start": np.repeat([0, 3], [5000, 10]).astype(np.int8),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip(name: str) -> None:
    values = ARRAYS[name]
    payload = histogram.encode(values)
    decoded = histogram.decode(memoryview(payload), values.size)
    assert decoded.dtype == np.int8
    assert np.array_equal(decoded, values)
    levels = int(values.max()) - int(values.min()) + 1
    assert len(payload) <= entropy_bytes(values) * 1.001 + 10 + 2 * levels


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=300))
def test_any_values(values: list[int]) -> None:
    payload = histogram.encode(np.array(values, np.int8))
    assert histogram.decode(memoryview(payload), len(values)).tolist() == values
    # docs/NUMERICS.md, with a decoder of its own
    assert read_ans(payload, len(values)) == values


def test_the_commonest_level_keeps_its_weight() -> None:
    """65535 / 29 * 29 is more than 65535 in floating point."""
    for most in (29, 58, 109, 10007):
        values = np.repeat([0, 1, 2], [1, most, 3]).astype(np.int8)
        weights = np.frombuffer(histogram.encode(values)[2:8], "<u2")
        assert weights[1] == 65535
        assert weights.min() > 0


def test_the_same_bytes_again() -> None:
    assert histogram.encode(ARRAYS["bell"]) == histogram.encode(ARRAYS["bell"].copy())


def test_another_number_of_items() -> None:
    payload = memoryview(histogram.encode(ARRAYS["bell"]))
    with pytest.raises(CorruptError, match="does not end"):
        histogram.decode(payload, 49_999)
    # Beyond its end a stream is read as the lowest level; only the configuration knows better.
    surplus = histogram.decode(payload, 50_100)[50_000:]
    assert set(surplus.tolist()) == {int(ARRAYS["bell"].min())}


def test_every_truncation() -> None:
    payload = histogram.encode(ARRAYS["bell"][:300])
    for size in range(len(payload)):
        with pytest.raises(CorruptError):
            histogram.decode(memoryview(payload[:size]), 300)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x70\x20" + b"\1\0" * 33 + b"\1\0\0\0",  # levels beyond 127
        b"\0\1" + b"\0\0" * 2 + b"\1\0\0\0",  # an empty histogram
        b"\0\1" + b"\1\0" * 2,  # no words
        b"\0\1" + b"\1\0" * 2 + b"\1\0\0\0" + bytes(4),  # a last word of zero
        b"\0\1" + b"\1\0" * 2 + b"\1\0\0",  # a part of a word
        b"\0\0",  # no histogram
    ],
)
def test_impossible_payloads(payload: bytes) -> None:
    with pytest.raises(CorruptError):
        histogram.decode(memoryview(payload), 5)


@given(st.binary(max_size=60), st.integers(0, 40))
def test_garbage(payload: bytes, n_items: int) -> None:
    try:
        values = histogram.decode(memoryview(payload), n_items)
    except CorruptError:
        return
    assert values.shape == (n_items,)
