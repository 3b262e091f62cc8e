"""The adaptive stage: the kernel is the document's, and asking in any way gives the same."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fake import FakeModel, Order1Session, small_tokenizer
from numpy.typing import NDArray

from pgolf_codec.codec import model_frame, payload, range_coder
from pgolf_codec.codec.adaptation import AdaptedPredictor, AdaptedSession, adapted, new_state, plain
from pgolf_codec.codec.container import Method
from pgolf_codec.codec.frequencies import interval
from pgolf_codec.codec.inspection import inspect, salvage
from pgolf_codec.codec.lane_coder import LaneCoder
from pgolf_codec.codec.stream import compress, decompress
from pgolf_codec.errors import CorruptError, DeviceError, FormatError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text(encoding="utf-8")
MODEL = FakeModel()
WORDS = b"the than then that hand head and an a neat tent date tan".split()
LINES = b"".join(b" ".join(random.Random(i).choices(WORDS, k=7)) + b"\n" for i in range(60))
TABLE = small_tokenizer().table
V = len(TABLE)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(block, names)
    return names


class Given:
    """A session of one stream whose weights were written down beforehand."""

    def __init__(self, weights: NDArray[np.uint32]) -> None:
        self._rows: Iterator[NDArray[np.uint32]] = iter(weights)

    def intervals(self, ids: NDArray[np.int32]) -> Any:
        raise NotImplementedError

    def weights(self, previous: Any) -> Any:
        row = next(self._rows)
        return row.tolist() if previous is None or isinstance(previous, int) else row[None]


class GivenFirst(Given):
    """As the codec wants it from the first symbol on."""

    def weights(self, previous: Any) -> Any:
        return next(self._rows)[None]


def texts() -> dict[str, list[int]]:
    """Symbols that reach every branch: full rows, large counts, line ends, one symbol only."""
    rng = np.random.default_rng(5)
    return {
        "prose": MODEL.tokenizer.encode(LINES).tolist(),
        "noise": rng.integers(0, V, 400).tolist(),
        "few": rng.choice([70, 71, 260, 261, 262, 263, 264, 265, 266, 12], 900).tolist(),
        "one": [99] * 600 + [100, 99, 99] * 3,
        "pairs": [99, 100] * 300 + rng.integers(60, 75, 300).tolist() + [99, 100] * 20,
    }


def weights_of(kind: str, n: int) -> NDArray[np.uint32]:
    rng = np.random.default_rng(6)
    if kind == "flat":
        return np.full((n, V), 1 << 24, np.uint32)
    if kind == "tiny":
        return np.ones((n, V), np.uint32)
    if kind == "sure":  # of one symbol, mostly the wrong one
        rows = np.zeros((n, V), np.uint32)
        rows[np.arange(n), rng.integers(95, 105, n)] = 1 << 24
        return rows
    return (2.0 ** rng.uniform(-2, 24, (n, V))).astype(np.uint32)


@pytest.mark.parametrize("name", texts())
@pytest.mark.parametrize("kind", ["flat", "tiny", "sure", "random"])
def test_the_kernel_is_the_documents(document: dict[str, Any], name: str, kind: str) -> None:
    ids = texts()[name][: 300 if kind != "random" else None]
    rows = weights_of(kind, len(ids))
    expected = document["Adapted"](Given(rows), TABLE)
    found = AdaptedSession(GivenFirst(rows), new_state(adapted(MODEL).predictor.widths, 1))
    previous = None
    for i, symbol in enumerate(ids):
        told = None if previous is None else np.array([previous], np.int32)
        weights = found.weights(told)[0]
        assert weights.tolist() == expected.weights(previous), f"symbol {i}"
        assert int(weights.sum(dtype=np.int64)) < 2**31 + V
        previous = symbol


def test_however_it_is_asked() -> None:
    runs = [MODEL.tokenizer.encode(LINES[:300]), MODEL.tokenizer.encode(LINES[::-1][:300])]
    ids = np.zeros((2, 90), np.int32)
    for lane, run in enumerate(runs):
        ids[lane, :90] = run[:90]
    predictor = adapted(MODEL).predictor
    cum, freq = predictor.session(2).intervals(ids)
    stepping, mixing = predictor.session(2), predictor.session(2)
    previous = None
    for t in range(90):
        weights = stepping.weights(previous)
        again = stepping.weights(None).copy()  # asking twice changes nothing
        assert np.array_equal(weights, again)
        for lane in range(2):
            assert interval(weights[lane], ids[lane, t]) == (cum[lane, t], freq[lane, t])
        previous = ids[:, t].copy()
    parts = [mixing.intervals(ids[:, :7])]
    mixing.weights(None)
    parts.append(mixing.intervals(ids[:, 7:30]))
    parts.append(mixing.intervals(ids[:, 30:]))
    assert np.array_equal(np.concatenate([part[0] for part in parts], axis=1), cum)
    coded = [range_coder.encode(cum[lane], freq[lane]) for lane in range(2)]
    decoder = range_coder.Decoder(coded, np.array([90, 90], np.int64))
    session = predictor.session(2)
    assert np.array_equal(
        np.concatenate([session.decode(decoder, n) for n in (1, 50, 39)], axis=1), ids
    )
    decoder.finish()


class Staged(Order1Session):
    """With what a model may have: the stage behind its own weights."""

    has_stage = True
    stages: ClassVar[list[Any]] = []

    def intervals(self, ids: NDArray[np.int32], stage: Any = None) -> Any:
        self.stages.append(stage)
        return super().intervals(ids)

    def decode(self, decoder: Any, n_steps: int, stage: Any = None) -> Any:
        raise NotImplementedError


def test_a_model_may_do_it_itself() -> None:
    """It is given the state, unless somebody has asked for weights before."""
    state = new_state(adapted(MODEL).predictor.widths, 1)
    ids = MODEL.tokenizer.encode(LINES)[None, :20]
    session = AdaptedSession(Staged(1, V), state)
    session.intervals(ids)
    assert [stage.value is state for stage in Staged.stages] == [True]
    session.weights(None)
    session.intervals(ids)
    assert len(Staged.stages) == 1


def test_it_gains_where_the_model_has_not_been() -> None:
    """Lines that end at the same column, words that return: both are learned."""
    raw = b"".join(b"%-30d|\n" % (i * i % 7) for i in range(60))
    bits = [
        model_frame.encode(
            MODEL.tokenizer.encode(raw), model.predictor, streams=1, threads=1
        ).entropy_bits
        for model in (MODEL, adapted(MODEL))
    ]
    assert bits[1] < 0.5 * bits[0]


@pytest.mark.parametrize("streams", [1, 5])
def test_round_trip(document: dict[str, Any], streams: int) -> None:
    model = adapted(MODEL)
    archives = {
        compress(LINES, model=model, streams=streams, threads=threads, frame_bytes=1024)
        for threads in (1, 2, 3)
    }
    assert len(archives) == 1
    blob = archives.pop()
    assert {frame.method for frame in inspect(blob).members[0].frames} == {Method.ADAPTED}
    assert decompress(blob, model=MODEL, threads=2) == LINES
    assert decompress(blob, model=model) == LINES  # a reader may have either
    assert decompress(compress(LINES, model=MODEL), model=model) == LINES
    session = lambda: OneLane(Order1Session(1, V))  # noqa: E731
    assert document["read_archive"](blob, 0, TABLE, session, None) == (LINES, len(blob))


@dataclass
class OneLane:
    session: Order1Session

    def weights(self, token: int | None) -> list[int]:
        previous = None if token is None else np.array([token], np.int32)
        weights: list[int] = self.session.weights(previous)[0].tolist()
        return weights


def test_every_flip() -> None:
    blob = compress(LINES[:150], model=adapted(MODEL), streams=2)
    assert inspect(blob).members[0].frames[0].method is Method.ADAPTED
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decompress(bytes(damaged), model=MODEL, threads=1)


def test_damaged_streams_that_no_checksum_covers() -> None:
    """As a hostile archive has it: right checks over a wrong payload."""
    coded = model_frame.encode(
        MODEL.tokenizer.encode(LINES), adapted(MODEL).predictor, streams=3, threads=1
    )
    for at in range(8, len(coded.data), 7):
        damaged = bytearray(coded.data)
        damaged[at] ^= 0x10
        try:
            raw = model_frame.decode(bytes(damaged), len(LINES), adapted(MODEL), threads=1)
        except CorruptError:
            continue
        assert len(raw) == len(LINES)  # then the check of the raw bytes tells


def test_the_methods_are_not_each_other() -> None:
    coded = model_frame.encode(
        MODEL.tokenizer.encode(LINES), adapted(MODEL).predictor, streams=1, threads=1
    )
    with contextlib.suppress(CorruptError):
        assert model_frame.decode(coded.data, len(LINES), MODEL, threads=1) != LINES


def test_a_device_decodes_but_does_not_adapt() -> None:
    coder = LaneCoder(None)  # type: ignore[arg-type]  # never asked
    with pytest.raises(DeviceError, match="no-adapt"):
        compress(LINES, model=adapted(MODEL), coder=coder)
    blob = compress(LINES, model=adapted(MODEL))
    assert decompress(blob, model=MODEL, coder=coder) == LINES
    assert [frame.data for frame in salvage(blob, model=MODEL)] == [LINES]


def test_wrapping() -> None:
    model = adapted(MODEL)
    assert adapted(model) is model
    assert plain(model) is MODEL
    assert plain(MODEL) is MODEL
    assert isinstance(model.predictor, AdaptedPredictor)
    assert model.predictor.fingerprint == MODEL.predictor.fingerprint
    assert payload.MAX_STREAMS * model.predictor.widths.size > 0
