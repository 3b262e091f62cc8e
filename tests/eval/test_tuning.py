"""Test-time training: honest where it scores first, named where it does not."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf_codec.eval.audit import audit
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.tuning import Learner, Schedule, TunedScorer, tuned_bits

DOCUMENTS = (b"It was the best of times, ", b"it was the worst of times, ", b"it was the age.")
TEXT = Text((b"".join(DOCUMENTS),))


def scored_bits(scorer: Any, ids: Any) -> float:
    """As the referee scores: block after block, each learned from behind its score."""
    scorer.start()
    bits = 0.0
    for at in range(0, len(ids), scorer.block):
        block = np.asarray(ids[at : at + scorer.block], np.int64)
        bits -= float(np.sum(np.log2(scorer.score(block)[np.arange(len(block)), block])))
        scorer.learn(block)
    return bits


@pytest.fixture(scope="module")
def tuned() -> Any:
    spec = importlib.util.spec_from_file_location("tuned", Path(__file__).parent / "zoo/tuned.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["full", "full_sgd", "low_rank"])
def test_score_first_is_honest(name: str, zoo: Path) -> None:
    spec = f"{zoo / 'tuned.py'}:{name}"
    assert audit(spec, TEXT, n_symbols=40).findings == ()
    receipt = verify_predictor(spec, TEXT)
    assert receipt.verified
    assert receipt.entropy_bits == pytest.approx(receipt.claimed_bits, rel=1e-3)


@pytest.mark.usefixtures("here")
def test_each_document_by_itself(zoo: Path) -> None:
    assert audit(f"{zoo / 'tuned.py'}:each_document", Text(DOCUMENTS), n_symbols=60).findings == ()
    assert verify_predictor(f"{zoo / 'tuned.py'}:each_document", Text(DOCUMENTS)).verified


@pytest.mark.usefixtures("here")
def test_update_before_score_is_named(zoo: Path) -> None:
    report = audit(f"{zoo / 'tuned.py'}:update_first", TEXT, n_symbols=40)
    assert set(report.broken) >= {"C1", "C3"}
    assert "learns before it scores" in {finding.kind for finding in report.findings}


def test_it_learns_and_forgets(tuned: Any) -> None:
    ids = np.frombuffer(TEXT.data * 6, np.uint8)
    for make in (tuned.full, tuned.low_rank):
        scorer, n = make(), len(TEXT.data)
        bits = scored_bits(scorer, ids)
        assert bits < 0.95 * 6 * scored_bits(make(), ids[:n])
        assert scored_bits(scorer, ids) == bits  # `start` forgets; the same steps, the same bits


SCHEDULES = {
    "full": Schedule(learning_rate=0.02, block=8),
    "low-rank": Schedule(learning_rate=0.05, block=8, rank=4),
}


def bits(tuned: Any, kind: str, documents: list[bytes], **options: Any) -> Any:
    learner = Learner(tuned.Transformer(), SCHEDULES[kind])
    ids = [np.frombuffer(text, np.uint8) for text in documents]
    shape = {"first": 256, "length": 24, "stride": 8, "chunk": 8, "carried": False} | options
    found = tuned_bits(learner, ids, **shape)
    return np.split(found, np.cumsum([len(text) for text in documents])[:-1])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_bits_are_those_that_the_referee_codes(tuned: Any, kind: str) -> None:
    block, context = 8, 17
    schedule = dataclasses.replace(SCHEDULES[kind], context=context)
    scorer = TunedScorer(tuned.Transformer(), tuned.V, schedule, first=256)
    found = bits(tuned, kind, [TEXT.data], length=block + context - 1)
    ids = np.frombuffer(TEXT.data, np.uint8)
    assert found[0].sum() == pytest.approx(scored_bits(scorer, ids), rel=1e-9)


@pytest.mark.parametrize("kind", SCHEDULES)
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
    none = dataclasses.replace(SCHEDULES["full"], passes=0)
    ids = [np.frombuffer(TEXT.data, np.uint8)]
    shape = {"first": 256, "length": 24, "stride": 8, "carried": False}
    control = tuned_bits(Learner(tuned.Transformer(), none), ids, chunk=8, **shape)
    for chunk in (8, 16):
        (found,) = bits(tuned, "full", [TEXT.data], chunk=chunk)
        assert found[:chunk].tolist() == control[:chunk].tolist()
        assert abs(found[chunk : chunk + 8] - control[chunk : chunk + 8]).max() > 1e-6
    (found,) = bits(tuned, "full", [TEXT.data], chunk=None)
    assert found.tolist() == control.tolist()
