"""``pgolf_codec.verify_predictor`` and ``pgolf_codec.audit``: the doors to the referee."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import pgolf_codec
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
