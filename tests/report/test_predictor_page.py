"""The page of anyone's predictor: every bit of its receipt is on some byte of the text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pgolf_codec import cli
from pgolf_codec.errors import PredictorError, VerificationError
from pgolf_codec.eval import residual, tasks
from pgolf_codec.eval.foreign import Text
from pgolf_codec.eval.foreign_trace import _documents, _joined
from pgolf_codec.eval.receipt import PREDICTOR_CLAIMS, PredictorReceipt, read_receipt
from pgolf_codec.eval.report import report_receipt
from pgolf_codec.eval.subject import Subject

DOCUMENTS = (
    b"The boat came   by itself.",
    b"",
    "Zw\u00f6lf \u2014 twelve.\n".encode(),
    b"It left.",
)
SPEC = "folding.py:Folding"
FOLDING = '''
"""Symbols are BOS (0) and bytes of a text whose runs of blanks are folded, and no capitals."""
import re
import numpy as np

class Folding:
    n_symbols = 257
    independent_documents = True
    def encode(self, data): return [0, *(1 + b for b in re.sub(rb"\\s+", b" ", data).lower())]
    def decode(self, ids): return bytes(i - 1 for i in ids if i)
    def order(self, documents): return sorted(range(len(documents)), key=lambda i: documents[i])
    def start(self): self.counts = np.ones(257); self.counts[0] = 1000
    def next_distribution(self): return self.counts / self.counts.sum()
    def observe(self, symbol): self.counts[0] = 1; self.counts[symbol] += 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the predictor, and the documents as a corpus; it is the working folder."""
    (tmp_path / "folding.py").write_text(FOLDING)
    lines = [json.dumps({"text": text.decode()}) for text in DOCUMENTS]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(data: bytes, lengths: list[int]) -> tuple[dict[str, object], float]:
    """What its process would answer, and the bits that coding takes."""
    names: dict[str, object] = {}
    exec(FOLDING, names)
    subject = Subject(names["Folding"])  # type: ignore[arg-type]
    values = {"data": data, "lengths": lengths}
    answer = tasks.trace(subject, lambda n_done: None, **values)  # type: ignore[arg-type]
    packed = tasks.pack(subject, lambda n_done: None, **values)  # type: ignore[arg-type]
    beside = 8 * (packed["order_bytes"] + packed["residual_bytes"])
    return answer, packed["entropy_bits"] - beside


def test_where_bytes_come_to_stand() -> None:
    raw, given = b"the  boat\ncame by itself", b"the boat came by itself!"
    found = residual.places(raw, given)
    assert len(found) == len(given) + 1
    assert (found[0], found[-1]) == (0, len(raw))
    assert (np.diff(found) >= 0).all()
    for word in (b"boat", b"came", b"itself"):
        assert found[given.index(word)] == raw.index(word)
    assert residual.places(raw, raw).tolist() == list(range(len(raw) + 1))
    assert residual.places(b"", b"xy").tolist() == [0, 0, 0]


def test_bits_lie_on_the_raw_bytes_of_their_symbols() -> None:
    text = Text(DOCUMENTS)
    answer, entropy_bits = asked(text.data, text.lengths)
    found = _joined(_documents(text, answer), text.lengths, independent=True)
    assert found.bits.sum() == pytest.approx(entropy_bits, rel=1e-12)
    assert (found.edges[0], found.edges[-1]) == (0, len(text.data))
    assert (np.diff(found.edges) > 0).all()
    # BOS stands for nothing, so it is counted with the first byte; a run of blanks is one item.
    shown = [text.data[a:b] for a, b in zip(found.edges, found.edges[1:], strict=False)]
    assert shown[:5] == [b"T", b"h", b"e", b" ", b"b"]
    assert b"   " in shown or b"e   " in shown
    assert found.bits[0] > found.bits[1]
    starts = [0, len(DOCUMENTS[0]), len(DOCUMENTS[0] + DOCUMENTS[2])]
    assert found.edges[found.starts].tolist() == starts
    assert _joined(_documents(text, answer), text.lengths, independent=False).starts.tolist() == [0]


def test_nothing_is_nowhere() -> None:
    found = _joined([], [], independent=True)
    assert (found.edges.tolist(), found.bits.size, found.starts.size) == ([0], 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"n_ids": [1, 2]},
        {"order": [0, 1, 2, 9]},
        {"ends": np.zeros(3, np.int64)},
        {"decoded_lengths": [1]},
        {"bits": "many"},
    ],
)
def test_a_process_that_answers_nonsense(change: dict[str, object]) -> None:
    text = Text(DOCUMENTS)
    answer, _ = asked(text.data, text.lengths)
    with pytest.raises(PredictorError, match="can't be placed"):
        _documents(text, answer | change)


def test_verbs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = cli.main
    assert main(["report", "corpus.jsonl", "--documents", "--predictor", SPEC, "-o", "a.html"]) == 0
    page = Path("a.html").read_text()
    assert "Every symbol by its bits" in page
    assert "what the tokens lose of the file" in page
    assert "From the claim to the file" in page
    assert "There are" not in page  # too little text for the chart of distances
    # The same by a receipt; and without leave to run the predictor, a page that says so.
    verify = [
        "verify",
        "corpus.jsonl",
        "--documents",
        "--predictor",
        SPEC,
        "--json",
        "r.json",
        "-q",
    ]
    assert main(verify) == 0
    of_receipt = ["report", "r.json", "--text", "corpus.jsonl", "--documents", "-q"]
    assert main([*of_receipt, "--predictor", SPEC, "-o", "b.html"]) == 0
    heat = page[page.index("Every symbol by its bits") : page.index("Along the text")]
    assert heat in Path("b.html").read_text()
    assert main([*of_receipt, "-o", "c.html"]) == 0
    assert "no page runs foreign code by itself" in Path("c.html").read_text()
    capsys.readouterr()
    # Another predictor is not the one of the receipt.
    (folder / "folding.py").write_text(FOLDING.replace("+= 3", "+= 4"))
    assert main([*of_receipt, "--predictor", SPEC, "-o", "d.html"]) == 1
    assert "bits for the symbols, folding.py:Folding now says" in capsys.readouterr().err
    assert not Path("d.html").exists()
    receipt = read_receipt(Path("r.json").read_bytes())
    with pytest.raises(VerificationError, match="now says"):
        report_receipt(
            dataclasses.replace(receipt, entropy_bits=receipt.entropy_bits + 1),
            "r",
            text=Text(DOCUMENTS),
            predictor=SPEC,
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["corpus.jsonl", "--documents"], "--documents goes with --predictor"),
        (["corpus.jsonl", "--seconds", "5"], "--seconds and --memory go with --predictor"),
        (["corpus.jsonl", "--predictor", SPEC, "-m", "nano"], "don't go with a predictor"),
        (["r.json", "--predictor", SPEC], "--predictor and --documents need --text"),
        (["r.json", "--text", "corpus.jsonl", "-m", "nano"], "don't go with a predictor"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_calls(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = PredictorReceipt(
        input_sha256="", input_bytes=0, model_name=SPEC, model_fingerprint="", model_bytes=0,
        entropy_bits=0.0, coded_bits=0, file_bytes=0, bpb_entropy=None, bpb_coded=None,
        bpb_file=None, decoder_sha256="", decoder_error="", versions={}, encode_seconds=0.0,
        decode_seconds=0.0, verified=True, claims=dict.fromkeys(PREDICTOR_CLAIMS, True),
        claimed_bits=0.0, claimed_bytes=0, claimed_bpb=None, n_documents=0, n_symbols_coded=0,
        order_bytes=0, residual_bytes=0, isolation="none",
    )  # fmt: skip
    Path("r.json").write_text(receipt.to_json())
    assert cli.main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_what_eval_says_is_no_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    Path("e.json").write_text('{\n "nothing_was_coded": true, "input_sha256": "00"}')
    assert cli.main(["report", "e.json"]) == 1
    assert "of `eval`: nothing was coded" in capsys.readouterr().err
