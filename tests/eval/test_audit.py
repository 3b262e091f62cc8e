"""The audit names every cheat of the zoo rightly, and accuses nobody who is honest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pgolf_codec.errors import FormatError
from pgolf_codec.eval.audit import audit, read_manifest
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.verdict import RULES, Finding, Report

CHEATS = {
    "HashedCache": ({"C2"}, "not normalised", 0),
    "ByteSpread": ({"C2"}, "not normalised", 0),
    "FittedOffset": ({"C1"}, "sees the symbol itself", 0),
    "TwoPasses": ({"C1", "C4"}, "read through before it is scored", 0),
    "UpdateFirst": ({"C1", "C3"}, "learns before it scores", 0),
    "UpdateFirstThenLearn": ({"C1", "C3"}, "learns before it scores", 0),
    "DoubledBytes": ({"accounting"}, "bytes that are not there", 3),
    "ClampedVocabulary": ({"C2"}, "not normalised", 0),
    "PeekingMask": ({"C1"}, "sees the symbol itself", 0),
    "LeakingGate": ({"C1"}, "sees another document", 51),
    "ForgetfulOfNothing": ({"C4"}, "carried over from an earlier run", 0),
    "LongestFirst": ({"order"}, "not the order of the file", None),
    "KeptCache": ({"C4"}, "carried over from an earlier run", 0),
    "BestOfRuns": ({"C4"}, "not repeatable", 0),
    "BestTemperature": ({"C1"}, "sees later symbols", 1),
    "Broken": ({"C2"}, "not a number", 20),
    "Negative": ({"C2"}, "negative", 20),
    "Impossible": ({"C2"}, "zero", 5),
    "Impatient": ({"C3"}, "learns before it scores", 0),
    "BestOfSettings": ({"C1", "C4"}, "the best of its runs", 1),
    "BestOfFewSettings": ({"C4"}, "the best of its runs", 1),
    "KeepsTheBetter": ({"C1", "C3", "C4"}, "the better of its answers", 0),
}
"""Rules that are broken, how, and the first position."""

HONEST = [
    "BackOff", "StartsAnew", "BackOffScorer", "GoldOnly", "ExactBytes", "Mixture", "ScoreFirst",
    "ScoreFirstInOne", "EachByItself", "PackedDocuments", "PackedGoldOnly", "Folded",
    "InWindows", "WarmsUp", "AsksItself",
]  # fmt: skip


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", CHEATS)
def test_cheat_is_named(name: str, zoo: Path, text: Text) -> None:
    rules, kind, position = CHEATS[name]
    report = audit(f"{zoo / 'cheats.py'}:{name}", text, n_symbols=200)
    assert set(report.broken) == rules
    (finding,) = (finding for finding in report.findings if finding.kind == kind)
    assert finding.position == position
    assert finding.rule in rules


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", HONEST)
def test_honest_is_not_accused(name: str, zoo: Path, text: Text) -> None:
    report = audit(f"{zoo / 'honest.py'}:{name}", text, n_symbols=100)
    assert report.findings == ()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("documents", [(), (b"",), (b"a",), (b"ab", b"", b"c")])
@pytest.mark.parametrize("name", ["BackOff", "PackedDocuments", "ExactBytes", "GoldOnly"])
def test_hardly_any_text(name: str, documents: tuple[bytes, ...], zoo: Path) -> None:
    spec = f"{zoo / 'honest.py'}:{name}"
    assert audit(spec, Text(documents)).findings == ()
    assert verify_predictor(spec, Text(documents)).verified


@pytest.mark.usefixtures("here")
def test_price_of_an_order(zoo: Path) -> None:
    words = Text(tuple(b"and " * n for n in range(1, 31)))
    report = audit(f"{zoo / 'cheats.py'}:LongestFirst", words, n_symbols=40)
    (finding,) = report.findings
    assert finding.document == 29
    assert "takes 14 bytes" in finding.evidence  # log2(30!) = 107.7 bits


def detail(report: Report) -> str:
    (found,) = (check.detail for check in report.checks if check.rule == "accounting")
    return found


@pytest.mark.usefixtures("here")
def test_lossy_tokens_are_priced_not_accused(zoo: Path, text: Text) -> None:
    report = audit(f"{zoo / 'honest.py'}:Folded", text, n_symbols=40)
    assert "to restore it takes" in detail(report)
    lossless = audit(f"{zoo / 'honest.py'}:BackOff", text, n_symbols=40)
    assert detail(lossless) == f"{len(text.data)} are counted, the file has {len(text.data)}"


@pytest.mark.usefixtures("here")
def test_overlap_with_the_training_text(zoo: Path, text: Text, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    hashes = [hashlib.sha256(data).hexdigest() for data in (b"other", text.documents[2])]
    manifest.write_text(json.dumps({"documents": hashes}))
    spec = f"{zoo / 'honest.py'}:BackOff"
    report = audit(spec, text, n_symbols=20, manifest=read_manifest(manifest))
    (finding,) = report.findings
    assert (finding.rule, finding.document) == ("overlap", 2)
    manifest.write_text(hashes[0])
    assert audit(spec, text, n_symbols=20, manifest=read_manifest(manifest)).findings == ()
    manifest.write_text("no hash")
    with pytest.raises(FormatError, match="no SHA-256"):
        read_manifest(manifest)


@pytest.mark.usefixtures("here")
def test_size_limit(zoo: Path, text: Text) -> None:
    spec = f"{zoo / 'honest.py'}:BackOff"
    n_bytes = (zoo / "honest.py").stat().st_size
    assert audit(spec, text, n_symbols=20, max_bytes=n_bytes).findings == ()
    (finding,) = audit(spec, text, n_symbols=20, max_bytes=n_bytes - 1).findings
    assert finding == Finding(
        rule="size",
        kind="larger than it may be",
        evidence=f"the decoder needs {n_bytes} bytes, 1 too many",
    )


@pytest.mark.usefixtures("here")
def test_tolerance_hides_what_is_below(zoo: Path, text: Text) -> None:
    spec = f"{zoo / 'cheats.py'}:PeekingMask"
    assert audit(spec, text, n_symbols=60, tolerance_bits=50).findings == ()


@pytest.mark.usefixtures("here")
def test_report_tells_what_was_not_checked(zoo: Path, text: Text) -> None:
    report = audit(f"{zoo / 'cheats.py'}:TwoPasses", text, n_symbols=60)
    values = json.loads(report.to_json())
    assert values["broken"] == ["C1", "C4"]
    assert {check["rule"] for check in values["checks"]} == set(RULES)
    assert values["input_sha256"] == hashlib.sha256(text.data).hexdigest()
    results = {check["name"]: check["result"] for check in values["checks"]}
    assert results["other documents"] == "not checked"
    assert results["two passes"] == "broken"
    said = report.describe()
    assert "BROKEN       C4: one pass" in said
    assert "at symbol 0, in document 0: its distribution depends on the last symbol" in said


@pytest.mark.usefixtures("here")
def test_calls_are_counted(zoo: Path, text: Text) -> None:
    def told(name: str) -> str:
        report = audit(f"{zoo / 'honest.py'}:{name}", text, n_symbols=64)
        (found,) = (check.detail for check in report.checks if check.name == "calls")
        return found

    assert told("BackOff") == "start 1, next_distribution 64, observe 64, none of its own"
    assert told("ScoreFirst") == "start 1, score 4, learn 4, none of its own"
    assert told("InWindows") == "start 1, score 1, of its own score 3"
    assert told("AsksItself").endswith(", of its own next_distribution 64")


@pytest.mark.usefixtures("here")
def test_nothing_to_audit_is_said(zoo: Path) -> None:
    said = audit(f"{zoo / 'honest.py'}:ExactBytes", Text((b"",))).describe()
    assert said.endswith("\nnothing was audited: the text has no symbols\n")
    assert "C1, later symbols: 0 symbols flipped, 0 tails replaced" in said
