"""The same integers whichever way a position is reached, and on whichever machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from environments import (
    LENGTH,
    N_STREAMS,
    digest,
    intervals_by_steps,
    model_hashes,
    worst_products,
)
from tiny_model import prose_ids

from pgolf_codec.codec.frequencies import interval
from pgolf_codec.codec.machine import SETS, instruction_set
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.integers.engine import Engine

SCRIPT = Path(__file__).with_name("environments.py")

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")

# Name: what the kernels should be built with, the environment, the arguments.
ENVIRONMENTS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "generic": (
        "sse2" if IS_X86 else "portable",
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        [],
    ),
    "haswell": ("avx2", {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, []),
    "avx512vnni": ("avx512vnni", {"PGOLF_CODEC_ISA": "avx512vnni"}, ["products"]),
    "portable": ("portable", {"PGOLF_CODEC_ISA": "portable"}, ["products"]),
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each environment found, in processes that run side by side."""
    have = SETS.index(instruction_set())
    names = [n for n, (isa, *_) in ENVIRONMENTS.items() if SETS.index(isa) <= have]

    def run(name: str) -> dict[str, Any]:
        _, variables, arguments = ENVIRONMENTS[name]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_CPU_")}
        environment |= variables | {"PGOLF_CODEC_CACHE": str(tmp_path_factory.mktemp(name))}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(run, names), strict=True))


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return model_hashes()


@pytest.mark.timeout(600)  # two compilations of everything
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_other_machines(
    name: str, here: dict[str, str], elsewhere: dict[str, dict[str, Any]]
) -> None:
    if name not in elsewhere:
        pytest.skip("this processor can't")
    isa, _, arguments = ENVIRONMENTS[name]
    found = elsewhere[name]
    assert found["isa"] == isa
    assert len(found["products"]) > 100
    assert [what for what, right in found["products"].items() if not right] == []
    if "products" not in arguments:
        assert found["hashes"] == here


def test_products_where_32_bits_just_suffice() -> None:
    found = worst_products()
    assert [what for what, right in found.items() if not right] == []


@pytest.mark.parametrize("model", ["tiny", "hot"])
def test_windows_and_steps(model: str, here: dict[str, str]) -> None:
    """Whole windows, as the encoder runs them, and single steps, as the decoder does."""
    assert here[f"{model}, window"] == here[f"{model}, steps"]
    assert here["tiny, window"] != here["hot, window"]


@pytest.fixture(scope="module", params=["tiny", "hot"])
def any_engine(request: pytest.FixtureRequest, engine: Engine, hot_engine: Engine) -> Engine:
    return {"tiny": engine, "hot": hot_engine}[request.param]


def test_uneven_chunks(any_engine: Engine, tokenizer: Tokenizer) -> None:
    ids = prose_ids(tokenizer, N_STREAMS, LENGTH)
    expected = digest(*any_engine.session(N_STREAMS).intervals(ids))
    session = any_engine.session(N_STREAMS)
    parts = [session.intervals(part) for part in np.split(ids, [1, 3, 3, 34, 67, 131, 149], axis=1)]
    cum, freq = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    assert digest(cum, freq) == expected


def test_calls_may_be_mixed(engine: Engine, tokenizer: Tokenizer) -> None:
    ids = prose_ids(tokenizer, N_STREAMS, 60)
    cum, freq = engine.session(N_STREAMS).intervals(ids)
    session = engine.session(N_STREAMS)

    def check_step(t: int, previous: int | None) -> None:
        weights = session.weights(None if previous is None else ids[:, previous])
        for lane in range(N_STREAMS):
            expected = (cum[lane, t], freq[lane, t])
            assert interval(weights[lane], ids[lane, t]) == expected

    def check_window(a: int, b: int) -> None:
        found = session.intervals(ids[:, a:b])
        assert np.array_equal(found[0], cum[:, a:b])
        assert np.array_equal(found[1], freq[:, a:b])

    check_step(0, None)
    check_step(0, None)  # to ask again changes nothing
    check_step(1, 0)
    check_window(1, 20)  # after a step: the weights of symbol 1 are known already
    check_window(20, 20)
    check_step(20, None)  # after a window: nothing new was decoded
    check_window(20, 20)
    check_window(20, 50)
    check_step(51, 50)  # after a window, with one more symbol
    check_window(51, 60)


@pytest.mark.parametrize("n_streams", [3, 64, 130])
def test_a_lane_is_the_lane_alone(any_engine: Engine, tokenizer: Tokenizer, n_streams: int) -> None:
    ids = prose_ids(tokenizer, n_streams, 50)
    cum, freq = any_engine.session(n_streams).intervals(ids)
    assert intervals_by_steps(any_engine, ids) == digest(cum, freq)
    for lane in (0, 1, n_streams // 2, n_streams - 1):
        alone = any_engine.session(1).intervals(ids[lane : lane + 1])
        assert np.array_equal(alone[0][0], cum[lane])
        assert np.array_equal(alone[1][0], freq[lane])


def test_two_threads(engine: Engine, tokenizer: Tokenizer) -> None:
    """Sessions of one engine share nothing that changes."""
    ids = prose_ids(tokenizer, 8, 300)
    expected = digest(*engine.session(8).intervals(ids))

    def half(first: int) -> tuple[Any, Any]:
        session = engine.session(4)
        parts = [
            session.intervals(ids[first : first + 4, at : at + 20]) for at in range(0, 300, 20)
        ]
        cum, freq = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
        return cum, freq

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            (cum_a, freq_a), (cum_b, freq_b) = pool.map(half, (0, 4))
        assert digest(np.vstack((cum_a, cum_b)), np.vstack((freq_a, freq_b))) == expected


def test_many_turns_of_every_window(any_engine: Engine, tokenizer: Tokenizer) -> None:
    ids = prose_ids(tokenizer, 2, 1500)
    assert intervals_by_steps(any_engine, ids) == digest(*any_engine.session(2).intervals(ids))


def test_intervals_are_sound(any_engine: Engine, tokenizer: Tokenizer) -> None:
    session = any_engine.session(1)
    ids = prose_ids(tokenizer, 1, 40)
    previous = None
    for t in range(40):
        weights = session.weights(previous)
        previous = ids[:, t]
        assert weights.max() == 1 << 24
        found = [interval(weights[0], symbol) for symbol in range(tokenizer.n_symbols)]
        starts = np.cumsum([0] + [freq for _, freq in found])
        assert [cum for cum, _ in found] == starts[:-1].tolist()
        assert starts[-1] == 1 << 24
        assert min(freq for _, freq in found) >= 1


def test_what_is_beyond_a_window_is_forgotten(engine: Engine, tokenizer: Tokenizer) -> None:
    """Three layers reach back 45 + 32 + 7 positions, and the smear and pairs two more."""
    reach = sum(engine.config.windows) - 3 + 2
    ids = prose_ids(tokenizer, 2, 200)
    ids[1] = ids[0]
    ids[1, : 199 - reach] = 300
    cum, freq = engine.session(2).intervals(ids)
    assert (cum[0, 199], freq[0, 199]) == (cum[1, 199], freq[1, 199])
    assert not np.array_equal(cum[0, 100 : 199 - reach], cum[1, 100 : 199 - reach])
