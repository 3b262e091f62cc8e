"""torch modules, our artifacts and n-grams as predictors: audited, coded, decoded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pgolf_codec
from pgolf_codec.codec.frequencies import TOTAL, interval
from pgolf_codec.errors import PredictorError
from pgolf_codec.eval.audit import audit
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.host import Host
from pgolf_codec.eval.ngrams import NGrams
from pgolf_codec.eval.quantise import cuts

TEXT = Text((b"It was the best of times, it was the worst of times, it was the age.",))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["without_cache", "with_cache", "scorer", "half_precision"])
def test_transformer_is_honest(name: str, zoo: Path) -> None:
    spec = f"{zoo / 'transformers.py'}:{name}"
    assert audit(spec, TEXT, n_symbols=40).findings == ()
    receipt = verify_predictor(spec, TEXT)
    assert receipt.verified
    assert receipt.entropy_bits == pytest.approx(receipt.claimed_bits, rel=1e-3)


@pytest.mark.usefixtures("here")
def test_transformer_with_a_wrong_mask(zoo: Path) -> None:
    report = audit(f"{zoo / 'transformers.py'}:peeking_scorer", TEXT, n_symbols=60)
    assert report.broken == ("C1",)
    (first, *_) = report.findings
    assert (first.kind, first.position) == ("sees the symbol itself", 0)


@pytest.mark.usefixtures("here")
def test_factories_with_arguments(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(
        "from pgolf_codec.eval.ngrams import NGrams\n"
        "def make(order=3, told=''): return NGrams(order, told.encode())\n"
    )
    spec = f"{tmp_path / 'made.py'}:make"
    plain = verify_predictor(spec, TEXT)
    assert verify_predictor(f"{spec}()", TEXT).entropy_bits == plain.entropy_bits
    told = verify_predictor(f"{spec}(order=2, told='It was: (the best) ')", TEXT)
    assert told.entropy_bits < plain.entropy_bits
    for wrong in ("(2)", "(order=2", "(order=n)", "(order=open('x'))", "(order=)", "(**{})("):
        with pytest.raises(PredictorError, match=r"name=value|neither"):
            verify_predictor(spec + wrong, TEXT)


@pytest.mark.usefixtures("here")
def test_a_predictor_is_told_where_documents_start(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import numpy as np\n"
        "calls = []\n"
        "class Told:\n"
        "    n_symbols = 256\n"
        "    def start(self): calls.append('start')\n"
        "    def start_document(self): calls.append('document')\n"
        "    def next_distribution(self): return np.ones(256)\n"
        "    def observe(self, symbol): calls.append(symbol)\n"
        "class Scores(Told):\n"
        "    def score(self, ids): return np.ones((len(ids), 256))\n"
    )
    spec = f"{tmp_path / 'told.py'}:Told"
    assert verify_predictor(spec, Text((b"a", b"", b"b"))).verified
    calls = sys.modules["_predictor_told"].calls
    assert calls == ["start", "document", 97, "document", "document", 98]
    with pytest.raises(PredictorError, match="no start_document"):
        verify_predictor(f"{tmp_path / 'told.py'}:Scores", TEXT)


@pytest.mark.usefixtures("here")
def test_caches_agree_with_none(zoo: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """Up to the context, the cache changes nothing but rounding."""
    rows = []
    for name in ("without_cache", "with_cache", "scorer"):
        ids = np.frombuffer(TEXT.data[:24], np.uint8).astype(np.int64)
        spec = f"{zoo / 'transformers.py'}:{name}"
        rows.append(ask(spec, "rows", ids=ids, n_ids=[24], times=1)["rows"])
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-4)
    np.testing.assert_allclose(rows[2], rows[0], rtol=1e-4)


def test_frequencies_are_those_of_the_codec() -> None:
    chance = np.random.default_rng(4)
    weights = chance.integers(0, 1 << 24, 300).astype(np.uint32)
    weights[chance.integers(0, 300, 200)] = 0
    found = np.diff(cuts(weights))
    assert found.sum() == TOTAL
    assert found.tolist() == [interval(weights, i)[1] for i in range(300)]


def test_artifact_as_a_predictor() -> None:
    """Ours, in processes of its own, comes to the entropy that our own archive has."""
    text = Text((b"It was the best of times, it was the worst of times.",))
    receipt = verify_predictor("pgolf_codec.eval.ours:model(adapt=False)", text)
    assert receipt.verified
    ours = pgolf_codec.verify(text.data, adapt=False)
    assert receipt.entropy_bits == pytest.approx(ours.entropy_bits, rel=1e-3)
    assert receipt.model_bytes >= ours.model_bytes


def test_ngrams_are_normalised_and_learn() -> None:
    model = NGrams(order=3)
    model.start()
    bits = []
    for byte in TEXT.data * 2:
        p = model.next_distribution()
        assert p.min() > 0
        assert p.sum() == pytest.approx(1, abs=1e-12)
        bits.append(-np.log2(p[byte]))
        model.observe(byte)
    n = len(TEXT.data)
    assert np.mean(bits[n:]) < 0.6 < 3 < np.mean(bits[:n])
    primed = NGrams(3, TEXT.data * 2)
    primed.start()
    np.testing.assert_array_equal(primed.next_distribution(), model.next_distribution())


def test_ngrams_witten_bell_by_hand() -> None:
    model = NGrams(order=1)
    model.start()
    for byte in b"aab":
        model.observe(byte)
    p = model.next_distribution()  # "b" came once, and nothing after it
    single = (1 / 256 * 2 + 2) / (3 + 2)
    assert p[ord("a")] == pytest.approx(single)
    model.observe(ord("a"))  # after "a": "a" once, "b" once
    p = model.next_distribution()
    single = (1 / 256 * 2 + 3) / (4 + 2)
    assert p[ord("a")] == pytest.approx((1 + 2 * single) / 4)


def test_ngrams_as_a_predictor_in_its_process() -> None:
    with Host("pgolf_codec.eval.ngrams:NGrams") as host:
        packed = host.ask("pack", data=TEXT.data, lengths=[len(TEXT.data)])
        assert host.ask("unpack", archive_bytes=packed["archive"])["data"] == TEXT.data
