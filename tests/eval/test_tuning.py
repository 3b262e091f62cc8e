"""Test-time training: honest where it scores first, named where it does not."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf_codec.errors import ConfigError, FormatError
from pgolf_codec.eval import archive
from pgolf_codec.eval.audit import audit
from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.subject import Subject
from pgolf_codec.eval.tuning import Learner, Schedule, TunedPredictor

DOCUMENTS = (b"It was the best of times, ", b"it was the worst of times, ", b"it was the age.")
TEXT = Text((b"".join(DOCUMENTS),))


@pytest.fixture(scope="module")
def tuned() -> Any:
    spec = importlib.util.spec_from_file_location("tuned", Path(__file__).parent / "zoo/tuned.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = {
    "full": Schedule(learning_rate=0.02),
    "low-rank": Schedule(learning_rate=0.05, rank=4),
}
WAYS = {
    "reset": {"chunk": 8},
    "carried": {"chunk": 8, "carried": True},
    "other stride": {"chunk": 11, "length": 13, "stride": 4, "carried": True},
    "after each document": {"chunk": None, "carried": True},
    "after each document, twice": {"chunk": None, "carried": True, "passes": 2},
    "joined": {"chunk": 8, "joined": True},
}


def predictor(tuned: Any, kind: str, *, chunk: int | None, **options: Any) -> TunedPredictor:
    schedule = dataclasses.replace(KINDS[kind], passes=options.pop("passes", 1))
    reading = Contexts(**{"length": 24, "stride": 8} | options)
    made: TunedPredictor = tuned.tuned(schedule, reading, chunk)
    return made


def bits(tuned: Any, kind: str, documents: Sequence[bytes], **options: Any) -> list[Any]:
    """Of each document's symbols, scored together."""
    ids = [np.frombuffer(text, np.uint8) for text in documents]
    found = predictor(tuned, kind, **options).bits(ids)
    return np.split(found, np.cumsum([len(text) for text in documents])[:-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_steps_cost_what_known_symbols_do(tuned: Any, kind: str, way: str) -> None:
    """The same bits, asked for as a decoder has to; and a decoder repeats them exactly."""
    one = predictor(tuned, kind, **WAYS[way])
    subject = Subject(lambda: one)
    tokens = [np.frombuffer(text, np.uint8).astype(np.int64) for text in DOCUMENTS]
    joined = [b"".join(DOCUMENTS)] if way == "joined" else DOCUMENTS
    known = np.concatenate(bits(tuned, kind, joined, **WAYS[way]))
    rows = subject.claimed(tokens)
    ids = np.concatenate(tokens)
    stepped = -np.log2(rows[np.arange(len(ids)), ids])
    np.testing.assert_allclose(stepped, known, atol=1e-4)
    packed = archive.pack(subject, DOCUMENTS, lambda n_done: None)
    assert packed.stepped_bits == pytest.approx(stepped.sum(), rel=1e-12)
    assert archive.unpack(subject, packed.archive, lambda n_done: None) == [*DOCUMENTS]


@pytest.mark.parametrize("way", ["carried", "after each document"])
def test_a_decoder_that_leaves_out_a_step_fails(
    tuned: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(lambda: predictor(tuned, "full", **WAYS[way]))
    packed = archive.pack(subject, DOCUMENTS, lambda n_done: None)
    step, n_steps = Learner.step, 0

    def all_but_one(self: Learner, inputs: Any, targets: Any) -> None:
        nonlocal n_steps
        n_steps += 1
        if n_steps != 2:
            step(self, inputs, targets)

    monkeypatch.setattr(Learner, "step", all_but_one)
    with pytest.raises(FormatError):
        archive.unpack(subject, packed.archive, lambda n_done: None)
    assert n_steps > 2


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "factory",
    [
        "full",
        "full_sgd",
        "low_rank",
        "low_rank(carried=True)",
        "low_rank(chunk=None, carried=True)",
    ],
)
def test_score_first_is_honest(factory: str, zoo: Path) -> None:
    spec = f"{zoo / 'tuned.py'}:{factory}"
    text = Text(DOCUMENTS)
    assert audit(spec, text, n_symbols=60).findings == ()
    receipt = verify_predictor(spec, text)
    assert receipt.verified
    assert receipt.entropy_bits == pytest.approx(receipt.claimed_bits, rel=1e-3)


@pytest.mark.usefixtures("here")
def test_update_before_score_is_named(zoo: Path) -> None:
    assert audit(f"{zoo / 'tuned.py'}:ScoreFirst", TEXT, n_symbols=40).findings == ()
    report = audit(f"{zoo / 'tuned.py'}:UpdateFirst", TEXT, n_symbols=40)
    assert set(report.broken) >= {"C1", "C3"}
    assert "learns before it scores" in {finding.kind for finding in report.findings}


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_forgets(tuned: Any, kind: str) -> None:
    once, often = [TEXT.data], [TEXT.data * 6]
    (alone,), (repeated,) = bits(tuned, kind, once, chunk=8), bits(tuned, kind, often, chunk=8)
    assert repeated.sum() < 0.95 * 6 * alone.sum()
    assert bits(tuned, kind, often, chunk=8)[0].tolist() == repeated.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [8, None])
def test_reset_forgets_and_carried_does_not(tuned: Any, kind: str, chunk: int | None) -> None:
    first, again = DOCUMENTS[0], DOCUMENTS[0]
    reset = bits(tuned, kind, [first, again], chunk=chunk)
    carried = bits(tuned, kind, [first, again], chunk=chunk, carried=True)
    assert reset[0].tolist() == reset[1].tolist() == carried[0].tolist()
    assert carried[1].sum() < 0.95 * reset[1].sum()
    # After another text the second differs; and nothing ever comes from what is ahead.
    other = bits(tuned, kind, [DOCUMENTS[2], again], chunk=chunk, carried=True)
    assert abs(other[1] - carried[1]).max() > 1e-3
    ahead = bits(tuned, kind, [first, DOCUMENTS[2]], chunk=chunk, carried=True)
    assert ahead[0].tolist() == carried[0].tolist()


def test_a_chunk_is_scored_before_it_is_learned_from(tuned: Any) -> None:
    (control,) = bits(tuned, "full", [TEXT.data], chunk=8, passes=0)
    for chunk in (8, 16):
        (found,) = bits(tuned, "full", [TEXT.data], chunk=chunk)
        assert found[:chunk].tolist() == control[:chunk].tolist()
        assert abs(found[chunk : chunk + 8] - control[chunk : chunk + 8]).max() > 1e-6
    (found,) = bits(tuned, "full", [TEXT.data], chunk=None)
    assert found.tolist() == control.tolist()


def test_windows_are_needed(tuned: Any) -> None:
    with pytest.raises(ConfigError, match="contexts are windows"):
        predictor(tuned, "full", chunk=8, length=None)
