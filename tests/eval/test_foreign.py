"""Verification of foreign predictors: the honest keep their score, the others don't."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from pgolf_codec.cli import main
from pgolf_codec.errors import CorruptError, PredictorError, TruncatedError, VerificationError
from pgolf_codec.eval import archive, worker
from pgolf_codec.eval.audit import audit
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.host import Host, Limits
from pgolf_codec.eval.isolation import GUARD, NAMESPACES
from pgolf_codec.eval.receipt import PREDICTOR_CLAIMS, PredictorReceipt, read_receipt
from pgolf_codec.eval.subject import Subject, load
from pgolf_codec.eval.tasks import bits_of


def refused(spec: str, text: Text) -> PredictorReceipt:
    with pytest.raises(VerificationError) as caught:
        verify_predictor(spec, text)
    receipt = caught.value.receipt
    assert isinstance(receipt, PredictorReceipt)
    return receipt


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "name",
    ["BackOff", "BackOffScorer", "ExactBytes", "Mixture", "ScoreFirst", "ScoreFirstInOne", "Folded"]
    + ["PackedDocuments", "EachByItself"],
)
def test_honest_claim_is_coded(name: str, zoo: Path, text: Text) -> None:
    receipt = verify_predictor(f"{zoo / 'honest.py'}:{name}", text)
    assert receipt.verified
    assert receipt.claims == dict.fromkeys(PREDICTOR_CLAIMS, True)
    beside_bits = 8 * receipt.residual_bytes
    assert receipt.entropy_bits - beside_bits == pytest.approx(receipt.claimed_bits, rel=1e-4)
    assert receipt.coded_bits <= receipt.entropy_bits + 32
    assert receipt.input_bytes == len(text.data)
    assert (receipt.residual_bytes > 0) == (name == "Folded")
    assert read_receipt(receipt.to_json()) == receipt


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "failed"),
    [
        ("ByteSpread", "claim_is_coded"),
        ("FittedOffset", "claim_is_coded"),
        ("TwoPasses", "claim_is_coded"),
        ("UpdateFirst", "claim_is_coded"),
        ("UpdateFirstThenLearn", "claim_is_coded"),
        ("ClampedVocabulary", "claim_is_coded"),
        ("PeekingMask", "claim_is_coded"),
        ("DoubledBytes", "claim_divides_by_the_file"),
    ],
)
def test_claim_of_a_cheat_is_refused(name: str, failed: str, zoo: Path, text: Text) -> None:
    receipt = refused(f"{zoo / 'cheats.py'}:{name}", text)
    assert receipt.failed == (failed,)
    assert receipt.claimed_bpb is not None
    assert receipt.bpb_file is not None
    assert receipt.claimed_bpb < 0.9 * receipt.bpb_file


@pytest.mark.usefixtures("here")
def test_gold_only_cache_comes_to_its_true_size(zoo: Path) -> None:
    receipt = refused(f"{zoo / 'cheats.py'}:HashedCache", Text((b"the mill and the river of the",)))
    assert receipt.failed == ("claim_is_coded",)
    assert receipt.bpb_coded is not None
    assert receipt.bpb_coded > 2 * (receipt.claimed_bpb or math.inf)


@pytest.mark.usefixtures("here")
def test_order_is_paid_for(zoo: Path) -> None:
    words = Text(tuple(b"and " * n for n in range(1, 31)))
    receipt = verify_predictor(f"{zoo / 'cheats.py'}:LongestFirst", words)
    assert receipt.verified
    assert receipt.order_bytes == 14  # log2(30!) = 107.7 bits
    natural = verify_predictor(f"{zoo / 'honest.py'}:BackOff", words)
    assert natural.order_bytes == 0


@pytest.mark.usefixtures("here")
def test_a_claim_that_is_given(zoo: Path, text: Text) -> None:
    spec = f"{zoo / 'honest.py'}:BackOff"
    honest = verify_predictor(spec, text)
    assert honest.bpb_entropy is not None
    assert verify_predictor(spec, text, claimed_bpb=honest.bpb_entropy * 1.01).verified
    with pytest.raises(VerificationError, match="claim_is_coded"):
        verify_predictor(spec, text, claimed_bpb=honest.bpb_entropy * 0.8)


@pytest.mark.usefixtures("here")
def test_score_of_a_second_run_is_not_coded(zoo: Path, text: Text) -> None:
    spec = f"{zoo / 'cheats.py'}:KeptCache"
    subject = Subject(load(spec)[0])
    tokens = [subject.tokenise(document) for document in text.documents]
    cache = subject.scorer()
    subject.claimed(tokens, cache)
    bits = bits_of(subject.claimed(tokens, cache), np.concatenate(tokens))
    with pytest.raises(VerificationError, match="claim_is_coded"):
        verify_predictor(spec, text, claimed_bpb=bits / len(text.data))


PREDICTOR = """
import os
class Uniform:
    n_symbols = 256
    def start(self): {start}
    def next_distribution(self): {next}
    def observe(self, symbol): ...
"""


def predictor(folder: Path, start: str = "...", next: str = "return [1 / 256] * 256") -> str:
    path = folder / "uniform.py"
    path.write_text(PREDICTOR.format(start=start, next=next))
    return f"{path}:Uniform"


def test_two_processes_and_a_file(tmp_path: Path, corpus: Path, zoo: Path) -> None:
    """The whole way by the command line, with real processes."""
    receipt_path = tmp_path / "receipt.json"
    arguments = ["verify", "--predictor", f"{zoo / 'honest.py'}:BackOff", "--documents", "-q"]
    assert main([*arguments, "--json", str(receipt_path), str(corpus)]) == 0
    receipt = PredictorReceipt.from_json(receipt_path.read_text())
    assert receipt.verified
    assert receipt.n_documents == 4
    needed = sum((zoo / name).stat().st_size for name in ("honest.py", "parts.py"))
    assert receipt.model_bytes == needed
    cheat = ["audit", "--predictor", f"{zoo / 'cheats.py'}:PeekingMask", "--symbols", "40"]
    assert main([*cheat, "--json", str(tmp_path / "report.json"), "-q", str(corpus)]) == 1
    assert json.loads((tmp_path / "report.json").read_text())["broken"] == ["C1"]


def test_decoder_does_not_see_the_text(tmp_path: Path) -> None:
    """A predictor that finds the file does well, until it decodes."""
    text = tmp_path / "text"
    text.write_bytes(b"It was the best of times. " * 4)
    peek = f"self.text = open({str(text)!r}, 'rb').read(); self.at = -1"
    tell = "self.at += 1; return [1e-6 + (self.text[self.at] == b) for b in range(256)]"
    spec = predictor(tmp_path, peek, tell)
    with Host(spec) as host:
        isolated = host.about["isolation"] == NAMESPACES
    if not isolated:
        pytest.skip("no namespaces to be had: nothing can be hidden")
    receipt = refused(spec, Text.read(text))
    assert "decoder_finished" in receipt.failed
    assert "IndexError" in receipt.decoder_error
    kinds = {finding.rule: finding.kind for finding in audit(spec, Text.read(text)).findings}
    assert kinds == {"size": "reads the text", "C3": "fails"}  # each question moves it on


NOT_ALLOWED = [
    ("socket.create_connection(('127.0.0.1', 9))", "Error"),
    ("open('/tmp/stash', 'w')", "Read-only file system|may not write"),
    ("os.mkdir('/tmp/stash')", "Read-only file system|may not write"),
    ("bytearray(1 << 36)", "MemoryError"),
    ("raise ValueError('no luck')", r"uniform.py:\d+: ValueError: no luck"),
    ("os._exit(7)", "status 7"),
]


@pytest.mark.parametrize("granted", [True, False])
def test_what_a_predictor_may_not(
    granted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process, and the first byte of the text says what is tried."""
    if not granted:
        refuse = "import pgolf_codec.eval.isolation as i\ni.Isolation._leave = lambda *_: False\n"
        head, rest = worker.BOOT.split("\nfrom", 1)
        monkeypatch.setattr(worker, "BOOT", f"{head}\n{refuse}\nfrom{rest}")
    tried = [f"        if symbol == {i}: {what}" for i, (what, _) in enumerate(NOT_ALLOWED)]
    spec = predictor(tmp_path)
    with (tmp_path / "uniform.py").open("a") as file:
        print(
            "    def observe(self, symbol):\n        import os, socket", *tried, sep="\n", file=file
        )
    with Host(spec) as host:
        assert granted or host.about["isolation"] == GUARD
        for i, (_, what) in enumerate(NOT_ALLOWED):
            if "mkdir" in NOT_ALLOWED[i][0] and host.about["isolation"] != NAMESPACES:
                continue  # the guard knows of files only
            with pytest.raises(PredictorError, match=what):
                host.ask("pack", data=bytes([i]), lengths=[1])
    assert not os.path.exists("/tmp/stash")


def test_time_limit(tmp_path: Path) -> None:
    with (
        pytest.raises(PredictorError, match="ran past its 4 seconds"),
        Host(predictor(tmp_path, "\n        while True: pass"), Limits(seconds=4)) as host,
    ):
        host.ask("pack", data=b"abc", lengths=[3])


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("", "has no factory 'make'"),
        ("def make(): return 3", "no start, next_distribution, observe"),
        (
            "class make:\n    n_symbols = 2.5\n    def start(self): ...\n    score = start",
            "2.5, not",
        ),
        (
            "class make:\n    n_symbols = 99\n    def start(self): ...\n    score = start",
            "no encode",
        ),
    ],
)
def test_what_is_no_predictor(tmp_path: Path, code: str, what: str) -> None:
    (tmp_path / "none.py").write_text(code)
    with pytest.raises(PredictorError, match=what):
        Subject(load(f"{tmp_path / 'none.py'}:make")[0])


@pytest.mark.parametrize("spec", ["nothing", "no.such.module:make", "missing.py:make", "a.b:1"])
def test_what_is_no_name_of_one(spec: str) -> None:
    with pytest.raises(PredictorError):
        load(spec)


@pytest.mark.usefixtures("here")
def test_damaged_archives(zoo: Path, text: Text) -> None:
    subject = Subject(load(f"{zoo / 'honest.py'}:BackOff")[0])
    packed = archive.pack(subject, text.documents, lambda n_done: None).archive
    unpack = archive.unpack
    assert unpack(subject, packed, lambda n_done: None) == list(text.documents)
    for at in range(0, len(packed), 7):
        damaged = bytearray(packed)
        damaged[at] ^= 0x10
        with pytest.raises((CorruptError, TruncatedError, ValueError)):
            unpack(subject, bytes(damaged), lambda n_done: None)
    with pytest.raises((CorruptError, TruncatedError)):
        unpack(subject, packed[:-9], lambda n_done: None)


@pytest.mark.usefixtures("here")
def test_example_of_the_document(tmp_path: Path, text: Text) -> None:
    document = Path(__file__).parents[2] / "docs" / "REFEREE.md"
    code = re.search(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "bigram.py").write_text(code[1])
    spec = f"{tmp_path / 'bigram.py'}:Bigram"
    receipt = verify_predictor(spec, text)
    assert receipt.verified
    assert receipt.bpb_entropy is not None
    assert receipt.bpb_entropy < 8
    assert audit(spec, text, n_symbols=60).findings == ()
