"""The doors to the referee: ``verify_predictor``, ``audit``, ``evaluate`` and ``report``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pgolf_codec
from pgolf_codec import cli
from pgolf_codec.eval import foreign, foreign_trace, ours
from pgolf_codec.eval.foreign import Text


@pytest.mark.usefixtures("here")
def test_verify_predictor(zoo: Path, corpus: Path, text: Text) -> None:
    spec = f"{zoo / 'honest.py'}:BackOff"
    receipt = pgolf_codec.verify_predictor(spec, corpus, by_documents=True)
    assert (receipt.verified, receipt.n_documents) == (True, len(text.documents))
    whole = pgolf_codec.verify_predictor(spec, corpus)
    assert (whole.n_documents, whole.input_bytes) == (1, corpus.stat().st_size)
    from_memory = pgolf_codec.verify_predictor(spec, memoryview(corpus.read_bytes()))
    assert from_memory.input_sha256 == whole.input_sha256
    with pytest.raises(pgolf_codec.VerificationError, match="claim_is_coded") as raised:
        pgolf_codec.verify_predictor(spec, b"some text, hardly any", claimed_bpb=0.1)
    assert raised.value.receipt.verified is False
    with pytest.raises(TypeError, match="read from a file"):
        pgolf_codec.verify_predictor(spec, b"", by_documents=True)


@pytest.mark.usefixtures("here")
def test_audit(zoo: Path, corpus: Path, text: Text, tmp_path: Path) -> None:
    manifest = tmp_path / "train.sha256"
    manifest.write_text(hashlib.sha256(text.documents[1]).hexdigest())
    report = pgolf_codec.audit(
        f"{zoo / 'cheats.py'}:PeekingMask",
        corpus,
        by_documents=True,
        n_symbols=40,
        manifest=manifest,
        max_bytes=1,
    )
    assert report.broken == ("C1", "overlap", "size")
    assert report.audited_symbols == 40


def test_evaluate(stand_in_models: ModuleType, tmp_path: Path, corpus: Path, text: Text) -> None:
    """The numbers of the verb, by the same names."""
    done = pgolf_codec.evaluate(corpus, by_documents=True, context=20, carry=True)
    arguments = [str(corpus), "--documents", "--context", "20", "--carry"]
    assert cli.main(["eval", *arguments, "--quiet", "--json", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out").read_text())
    said = json.loads(done.to_json())
    assert told.pop("seconds") > 0 < said.pop("seconds")
    assert told == said
    assert (done.n_documents, done.carried) == (len(text.documents), True)
    whole = pgolf_codec.evaluate(corpus.read_bytes(), adapt=False)
    assert (whole.learning, whole.n_documents) == ("nothing", 1)
    assert whole.proof == "pgolf-codec verify TEXT --no-adapt"
    assert pgolf_codec.evaluate(b"", context=4).bpb_entropy is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tune": "full"}, "`tune` is of the float graph"),
        ({"tune": "some", "floats": True}, "`tune` is 'some', none of full, low-rank"),
        ({"context": 0}, "`context` is 0, not a number from 1 up"),
        ({"context": 2.5}, "`context` is 2.5, not a number from 1 up"),
        ({"tune": "full", "floats": True, "rate": float("nan")}, "`rate` is nan"),
        ({"context": 8, "stride": 9}, "a `stride` of 9 in windows of 8"),
        ({"join": True, "carry": True}, "`carry` does not go with `join`"),
        (
            {"floats": True, "tune": "full", "carry": True, "after_document": True, "chunk": 9},
            "`after_document` does not go with `chunk`",
        ),
        ({"model": Path("run.pt")}, "run.pt has no tokenizer in it"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(pgolf_codec.ConfigError, match=re.escape(said)):
        pgolf_codec.evaluate(b"abc", **settings)


def test_a_setting_that_there_is_not() -> None:
    with pytest.raises(pgolf_codec.ConfigError, match="no setting 'contxt'; known are model, "):
        ours.model(contxt=8)


@pytest.mark.usefixtures("here")
def test_report_of_a_predictor(zoo: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_trace, "Host", foreign.Host)
    spec = f"{zoo / 'honest.py'}:BackOff"
    page = pgolf_codec.report(corpus, predictor=spec, by_documents=True)
    assert page.receipt.verified
    assert page.receipt.model_name == spec
    again = pgolf_codec.report(page.receipt, text=corpus, predictor=spec, by_documents=True)
    assert again.html.count("<span") == page.html.count("<span") > 10
    alone = pgolf_codec.report(page.receipt)
    assert alone.html.count("<span") < page.html.count("<span")
    wrong: dict[str, Any]
    for wrong in (
        {"source": b"abc", "predictor": spec, "model": "nano"},
        {"source": page.receipt, "predictor": spec},
        {"source": b"abc", "by_documents": True},
        {"source": b"abc", "text": corpus},
    ):
        with pytest.raises(TypeError):
            pgolf_codec.report(**wrong)
