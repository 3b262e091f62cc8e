"""Test-time training: honest where it scores first, named where it does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf_codec.eval.audit import audit
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.tuning import scored_bits

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
