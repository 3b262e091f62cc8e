"""Our words are constriction's; any garbage is survived; no bits are wasted."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgolf_codec.codec.frequencies import TOTAL, interval
from pgolf_codec.codec.range_coder import Decoder, encode, encode_words
from pgolf_codec.errors import CorruptError

Intervals = list[tuple[int, int]]
queue = constriction.stream.queue


@st.composite
def intervals(draw: st.DrawFn, max_size: int = 60) -> Intervals:
    """(cum, freq), of all sizes from one unit to nearly everything, at both ends and between."""
    result = []
    for _ in range(draw(st.integers(0, max_size))):
        freq = min(draw(st.integers(1, 2 ** draw(st.integers(0, 24)))), TOTAL - 1)
        room = TOTAL - freq
        cum = draw(st.sampled_from([0, room, room // 2]) | st.integers(0, room))
        result.append((cum, freq))
    return result


def arrays(items: Intervals) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    table = np.array(items, np.uint32).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def exact_model(cum: int, freq: int) -> tuple[object, int]:
    """Below, this, above as an exact Categorical of constriction, and the index of "this"."""
    parts = [size for size in (cum, freq, TOTAL - cum - freq) if size]
    probabilities = np.array(parts, np.float64) / TOTAL
    return constriction.stream.model.Categorical(probabilities, perfect=True), int(cum > 0)


def constriction_words(items: Intervals) -> NDArray[np.uint32]:
    encoder = queue.RangeEncoder()
    for cum, freq in items:
        model, this = exact_model(cum, freq)
        encoder.encode(this, model)
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words


def padded_words(stream: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(stream + b"\0" * (-len(stream) % 4), ">u4").astype(np.uint32)


def as_fraction(stream: bytes, n_words: int) -> int:
    """The point that a stream stands for, in units of ``2**(-32 * n_words)``."""
    return int.from_bytes(stream.ljust(4 * n_words, b"\0"))


def check_against_constriction(items: Intervals) -> None:
    theirs = constriction_words(items)
    ours = encode_words(*arrays(items))
    # Constriction adds a zero word where another stream may follow; a reader takes zeros anyway.
    extra = theirs[ours.size :]
    np.testing.assert_array_equal(ours, theirs[: ours.size])
    assert extra.size <= 1
    assert not extra.any()

    # The short end is the first point of the interval with so few bytes: at most a word above.
    short = encode(*arrays(items))
    assert len(short) <= 4 * ours.size
    above = as_fraction(short, ours.size) - as_fraction(ours.astype(">u4").tobytes(), ours.size)
    assert -(2**32) < above < 2**32
    decoder = queue.RangeDecoder(padded_words(short))
    for cum, freq in items:
        model, this = exact_model(cum, freq)
        assert decoder.decode(model) == this


@given(intervals())
def test_words_are_those_of_constriction(items: Intervals) -> None:
    check_against_constriction(items)


def test_long_streams_are_those_of_constriction() -> None:
    rng = np.random.default_rng(1)
    for power in (1, 4, 16):
        freq = np.maximum(1, (TOTAL - 1) * rng.random(3000) ** power).astype(np.int64)
        cum = (rng.random(3000) * (TOTAL - freq + 1)).astype(np.int64)
        check_against_constriction(list(zip(cum.tolist(), freq.tolist(), strict=True)))


@pytest.mark.parametrize("above", [True, False])
def test_a_carry_that_waits_for_many_words(above: bool) -> None:
    """Narrow in on the middle of the range until words pile up, then fall to one side."""
    half = TOTAL // 2
    items = [(half - 1, 2)] * 40 + [(half + 5, 1) if above else (5, 1)] * 3
    assert len(constriction_words(items)) > 25
    check_against_constriction(items)


@pytest.mark.parametrize("n_symbols", [2, 4, 5, 7, 8, 9, 11])  # where the last span is narrow
def test_the_short_end_carries(n_symbols: int) -> None:
    """Where the interval lies around a point of few bytes, the end is this point: a carry."""
    items = around_the_middle(n_symbols)
    short, whole = encode(*arrays(items)), encode_words(*arrays(items))
    assert whole[0] == 0x7FFFFFFF
    assert short == b"\x80".ljust(4 * (whole.size - 1), b"\0")
    check_against_constriction(items)


def around_the_middle(n_symbols: int) -> Intervals:
    """Narrow intervals, each with a half of the first range in the second third of it."""
    items = []
    point, lower, span = 2**63, 0, 2**64 - 1
    for _ in range(n_symbols):
        scale = span >> 24
        cum = (point - lower) // scale - 1
        items.append((cum, 3))
        lower, span = lower + scale * cum, scale * 3
        if span < 2**32:
            point, lower, span = point << 32, lower << 32, span << 32
    return items


def lanes_of(seed: int, n: int, n_steps: int, n_symbols: int) -> tuple[NDArray[np.uint32], list]:
    """Weights (steps, n, V), and the symbols of each lane, whose lengths differ by one."""
    rng = np.random.default_rng(seed)
    weights = (2.0 ** rng.uniform(0, 24, (n_steps, n, n_symbols))).astype(np.uint32)
    weights[rng.random(weights.shape) < 0.3] = 0
    weights[:, :, 0] += 1
    lanes = [rng.integers(0, n_symbols, n_steps - lane % 2) for lane in range(n)]
    return weights, lanes


def encode_lane(weights: NDArray[np.uint32], lane: int, symbols: NDArray[np.int64]) -> bytes:
    return encode(*arrays([interval(weights[t, lane], s) for t, s in enumerate(symbols)]))


@pytest.mark.parametrize("n_symbols", [1, 2, 258, 4096])
def test_lock_step(n_symbols: int) -> None:
    weights, lanes = lanes_of(n_symbols, 5, 40, n_symbols)
    streams = [encode_lane(weights, lane, symbols) for lane, symbols in enumerate(lanes)]
    decoder = Decoder(streams, np.array([len(symbols) for symbols in lanes]))
    for t in range(40):
        got = decoder.step(weights[t]).tolist()
        assert got == [symbols[t] if t < len(symbols) else 0 for symbols in lanes]
    decoder.finish()


@given(intervals())
def test_loss_is_less_than_a_byte_and_a_half(items: Intervals) -> None:
    cum, freq = arrays(items)
    entropy_bits = float(np.sum(24 - np.log2(freq.astype(np.float64))))
    assert 8 * len(encode(cum, freq)) <= entropy_bits * 1.0001 + 12


def test_nothing_codes_to_nothing() -> None:
    assert encode(*arrays([])) == b""
    decoder = Decoder([b""], np.array([0]))
    decoder.finish()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.integers(0, 2**32))
def test_garbage_is_decoded_or_refused(streams: list[bytes], seed: int) -> None:
    rng = np.random.default_rng(seed)
    decoder = Decoder(streams, np.full(len(streams), 300))
    try:
        for _ in range(300):
            weights = (2.0 ** rng.uniform(0, 24, (len(streams), 50))).astype(np.uint32)
            symbols = decoder.step(weights)
            assert symbols.min() >= 0
            assert symbols.max() < 50
        decoder.finish()
    except CorruptError:
        return
    pytest.fail("at most 10 words can't hold 300 symbols of several bits each")


def test_all_ones_is_no_stream() -> None:
    with pytest.raises(CorruptError, match="damaged"):
        Decoder([b"\xff" * 8], np.array([1])).step(np.ones((1, 3), np.uint32))


def test_reading_past_the_end_is_found() -> None:
    weights, lanes = lanes_of(3, 1, 100, 300)
    stream = encode_lane(weights, 0, lanes[0])
    for cut in (stream[: len(stream) // 2], b""):
        decoder = Decoder([cut], np.array([100]))
        with pytest.raises(CorruptError):
            for t in range(100):
                decoder.step(weights[t])


def test_words_left_over_are_found() -> None:
    weights, lanes = lanes_of(4, 1, 50, 300)
    stream = encode_lane(weights, 0, lanes[0])
    for tail in (b"\0" * 4, b"\1" * 5):
        decoder = Decoder([stream + tail], np.array([50]))
        for t in range(50):
            decoder.step(weights[t])
        with pytest.raises(CorruptError, match="does not end"):
            decoder.finish()


def test_symbols_left_over_are_found() -> None:
    with pytest.raises(CorruptError, match="does not end"):
        Decoder([b"abcd"], np.array([2])).finish()
