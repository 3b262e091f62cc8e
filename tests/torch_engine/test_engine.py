"""torch gives the integers of numba: windows and steps, any number of streams, new starts."""

from __future__ import annotations

import numpy as np
import pytest
from environments import digest, intervals_by_steps
from tiny_model import prose_ids

from pgolf_codec.codec.frequencies import locate
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.integers.engine import Engine

Engines = tuple[Engine, TorchEngine]


@pytest.mark.parametrize("n_streams", [1, 5, 17])
def test_windows_of_numba_are_steps_of_torch(
    engines: Engines, tokenizer: Tokenizer, n_streams: int
) -> None:
    """150 symbols: every window of the tiny model wraps."""
    ids = prose_ids(tokenizer, n_streams, 150)
    expected, found = (engine.session(n_streams).intervals(ids) for engine in engines)
    assert digest(*found) == digest(*expected)


def test_weights(engines: Engines, tokenizer: Tokenizer) -> None:
    """As a decoder sees them: all symbols of all steps."""
    sessions = [engine.session(3) for engine in engines]
    previous = None
    for t in range(60):
        expected, found = (session.weights(previous) for session in sessions)
        assert found.dtype == expected.dtype
        assert digest(found) == digest(expected)
        previous = prose_ids(tokenizer, 3, 60)[:, t].copy()


def test_steps(engines: Engines, tokenizer: Tokenizer) -> None:
    ids = prose_ids(tokenizer, 2, 50)
    on_numba, on_torch = engines
    assert intervals_by_steps(on_torch, ids) == digest(*on_numba.session(2).intervals(ids))


def test_windows_and_steps_may_be_mixed(engines: Engines, tokenizer: Tokenizer) -> None:
    ids = prose_ids(tokenizer, 2, 40)
    whole = engines[0].session(2).intervals(ids)
    expected = engines[0].session(2)
    session = engines[1].session(2)
    found = session.intervals(ids[:, :9])
    assert digest(*found) == digest(*(part[:, :9] for part in whole))
    expected.intervals(ids[:, :9])
    for t in range(9, 12):
        assert digest(session.weights(ids[:, t])) == digest(expected.weights(ids[:, t]))
    more = session.intervals(ids[:, 12:30]), expected.intervals(ids[:, 12:30])
    assert digest(*more[0]) == digest(*more[1])
    assert [part.shape for part in session.intervals(ids[:, :0])] == [(2, 0), (2, 0)]


def test_a_stream_that_starts_anew_knows_nothing(engines: Engines, tokenizer: Tokenizer) -> None:
    """Lane 1 codes three streams one behind another, each longer than some window."""
    ids = prose_ids(tokenizer, 3, 130).T.copy()
    restart = np.zeros((130, 3), bool)
    starts = [0, 37, 80]
    restart[starts, 1] = True
    cum, freq = engines[1].lanes(3).encode(ids, restart)
    for lane, begins in ((0, [0]), (1, starts), (2, [0])):
        for first, last in zip(begins, [*begins[1:], 130], strict=True):
            alone = engines[0].session(1).intervals(ids[None, first:last, lane])
            assert digest(cum[first:last, lane], freq[first:last, lane]) == digest(*alone)


def test_points_find_their_symbols(engines: Engines) -> None:
    """First and last points, bounds of intervals and of blocks of symbols; any others."""
    rng = np.random.default_rng(4)
    session, lanes = engines[0].session(20), engines[1].lanes(20)
    previous = None
    for t in range(12):
        weights = session.weights(previous)
        points = rng.integers(0, 1 << 24, 20)
        points[:4] = 0, (1 << 24) - 1, 1, (1 << 24) - 2
        for lane in range(4, 12):  # both sides of the bound of some interval
            _, cum, freq = locate(weights[lane], int(points[lane]))
            points[lane] = (cum, cum + freq - 1, max(cum - 1, 0), min(cum + freq, (1 << 24) - 1))[
                lane % 4
            ]
        expected = np.array([locate(weights[i], int(points[i])) for i in range(20)]).T
        found = lanes.decode(points, np.full(20, t == 0))
        assert np.array_equal(found, expected)
        previous = expected[0].astype(np.int32)


def test_a_rehearsal_changes_nothing(engines: Engines, tokenizer: Tokenizer) -> None:
    """Graphs are captured at the first use of a step, when rings may be full."""
    ids = prose_ids(tokenizer, 3, 120).T.copy()
    expected = digest(*engines[1].lanes(3).encode(ids))
    lanes = engines[1].lanes(3)
    first = lanes.encode(ids[:70])
    lanes._inputs[0] = 400  # what a rehearsal codes
    for step in (lanes._encode_step, lanes._decode_step, lanes._forward):
        lanes._rehearse(step)
    second = lanes.encode(ids[70:])
    assert digest(*map(np.concatenate, zip(first, second, strict=True))) == expected
