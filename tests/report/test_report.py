"""The report of a text: its numbers add up, its text is inert, and the verb is careful."""

from __future__ import annotations

import html
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pgolf_codec import cli
from pgolf_codec.codec.container import Method
from pgolf_codec.errors import RefusedError, VerificationError, WrongModelError
from pgolf_codec.eval import report_page
from pgolf_codec.eval.peers import primed, read_training
from pgolf_codec.eval.receipt import Receipt, read_receipt
from pgolf_codec.eval.report import Page, report, report_receipt
from pgolf_codec.eval.report_text import cells, level, visible, worst_passages
from pgolf_codec.eval.trace import Costs, Trace, trace
from pgolf_codec.eval.verify import encode

HOSTILE = (
    b"<script>alert(1)</script><img src=x onerror=alert(2)></div></style></title><!-- & \"'` \n"
    b"\x00\x1b[31m \xff\xfe \xe2\x80\xae esrever \xe2\x80\xa8 \xf0\x9f\x98\x80"
    b" \xc3 \xed\xa0\x80 ]]>\r\n"
    b"{{7*7}} ${x} javascript:alert(3) <meta http-equiv=refresh content=0>\n"
) * 3


@pytest.fixture
def model(stand_in_models: ModuleType) -> object:
    return stand_in_models.load_model()


def traced(data: bytes, model: object, folder: Path) -> Trace:
    archive = folder / "archive"
    encoded = encode(data, archive, model)  # type: ignore[arg-type]
    found = trace(data, archive, model)  # type: ignore[arg-type]
    assert found.bits.sum() == pytest.approx(encoded.sizes.entropy_bits, rel=1e-12)
    assert found.costs.file_bytes == pytest.approx(encoded.disk_bytes, abs=1e-6)
    return found


@pytest.fixture(scope="session")
def made() -> dict[str, Page]:
    """Pages that were made, so that each is made once."""
    return {}


@pytest.fixture
def page(made: dict[str, Page], prose: bytes, model: object, tmp_path: Path) -> Page:
    """Of ``prose.txt``, which lies in the test's folder."""
    path = tmp_path / "prose.txt"
    path.write_bytes(prose)
    if "prose" not in made:
        made["prose"] = report(path, model=model)  # type: ignore[arg-type]
    return made["prose"]


@pytest.fixture
def receipt(page: Page) -> Receipt:
    return page.receipt


def test_every_bit_is_somewhere(prose: bytes, model: object, tmp_path: Path) -> None:
    found = traced(prose, model, tmp_path)
    assert found.n_bytes == len(prose)
    assert found.is_symbol.all()
    assert found.starts.tolist() == [0]
    assert (found.bits > 0).all()
    assert found.bits_until(np.array([0.0, len(prose)])).tolist() == [
        0.0, pytest.approx(found.bits.sum())
    ]  # fmt: skip


def test_what_no_model_coded_is_one_item(model: object, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, 3000, np.uint8).tobytes()
    found = traced(noise, model, tmp_path)
    assert found.frames[0].method is Method.STORED
    assert found.is_symbol.tolist() == [False]
    assert found.bits.tolist() == [8 * len(noise)]
    assert found.costs.unmodelled_bytes == len(noise)


def test_nothing(model: object, tmp_path: Path) -> None:
    found = traced(b"", model, tmp_path)
    assert (found.n_bytes, len(found.bits)) == (0, 0)
    assert "0 bytes, coded with" in report(b"", model=model).html  # type: ignore[arg-type]


def test_cells_hold_the_text_and_its_bits(prose: bytes, model: object, tmp_path: Path) -> None:
    found = traced(prose, model, tmp_path)
    shown, stop = cells(prose, found, 0, len(found.bits), 10**9)
    assert stop == len(found.bits)
    words = html.unescape(re.sub(r"<[^>]*>", "", shown))
    assert words == prose.decode().replace("\n", "↵\n")
    told = [float(bits) for bits in re.findall(r'data-b="?(?:\d+ symbols, )?([\d.]+)', shown)]
    assert sum(told) == pytest.approx(found.bits.sum(), abs=0.01 * len(told))
    assert 'data-b="3 symbols, ' in shown  # the dash, whose bytes are three


def test_cells_keep_to_their_budget(prose: bytes, model: object, tmp_path: Path) -> None:
    found = traced(prose, model, tmp_path)
    shown, stop = cells(prose, found, 0, len(found.bits), 5000)
    assert 0 < stop < len(found.bits)
    assert 4000 < len(shown.encode()) <= 5000


def test_level_is_by_bits_a_byte() -> None:
    assert [level(bpb) for bpb in (0, 0.25, 0.49, 1.2, 5.9, 6, 24)] == [0, 1, 1, 3, 7, 8, 8]


def test_worst_passages() -> None:
    bits = np.ones(4000)
    bits[1000:1240], bits[3000:3100] = 5, 9
    found = Trace(
        edges=np.arange(4001),
        bits=bits,
        is_symbol=np.ones(4000, bool),
        starts=np.zeros(1, np.int64),
        frames=(),
        costs=Costs(0, 0, 0, 0, 0, 0),
    )
    first, second, third = worst_passages(found, 3)
    assert (first.first, first.end) == (1000, 1240)
    assert first.bpb == 5
    assert 2860 <= second.first <= 3000 < 3100 <= second.end
    assert third.bpb == 1
    found.is_symbol[1100] = False  # part of a passage that no model coded: none of it
    assert all(p.end <= 1100 or p.first > 1100 for p in worst_passages(found, 3))


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        (b"\x00\x1b\x7f", "␀␛␡"),
        (b"\xff\xc3", "⟨FF⟩⟨C3⟩"),
        ("\u202e\u2028\ufeff\u0085".encode(), "⟨U+202E⟩⟨U+2028⟩⟨U+FEFF⟩⟨U+0085⟩"),
        ("é😀\t\n".encode(), "é😀⇥\t↵\n"),
    ],
)
def test_visible(data: bytes, shown: str) -> None:
    assert visible(data) == shown


def test_hostile_text_is_inert(model: object, tmp_path: Path) -> None:
    path = tmp_path / "<script>alert('name')<"
    path.write_bytes(HOSTILE)
    page = report(path, model=model).html  # type: ignore[arg-type]
    assert "<script" not in page
    assert "alert(2)>" not in page
    assert "</div></style>" not in page
    assert page.count("</style>") == 1
    assert page.count("<title>") == page.count("</title>")
    assert not [char for char in page if ord(char) < 32 and char not in "\n\t"]
    assert "\u202e" not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_numbers_of_the_page(page: Page) -> None:
    receipt = page.receipt
    assert receipt.verified
    assert f'<div class="score">{receipt.bpb_file:.3f}</div>' in page.html
    rows = re.findall(r'<tr class="(\w*)"><td>(.*?)</td>', page.html)
    names = [name for _, name in rows]
    assert names[0] == "zstd --ultra -22" or "pgolf-codec, order-1" in names
    assert {"zlib -9", "bzip2 -9", "xz -9e", "zstd -19", "zstd --ultra -22"} <= set(names)
    assert "Not shown: a primed control" in page.html
    assert "http" not in re.sub(r"http-equiv", "", page.html)


def test_break_even(prose: bytes, receipt: Receipt) -> None:
    gain_bpb = 0.5
    other_bpb = 8 * receipt.file_bytes / len(prose) + gain_bpb
    n = report_page.break_even_bytes(receipt, other_bpb)
    assert n is not None
    ours = receipt.model_bytes + n * receipt.bpb_file / 8  # type: ignore[operator]
    assert ours == pytest.approx(n * other_bpb / 8)
    assert report_page.break_even_bytes(receipt, receipt.bpb_file or 0.0) is None


def test_long_text_stays_small(
    prose: bytes, model: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "TEXT_BUDGET_BYTES", 5000)
    page = report(prose, model=model).html  # type: ignore[arg-type]
    assert "Here is its first " in page
    assert page.count("<i class=") < 5000 / len("<i class=c1 data-b=1.23>a</i>") + 8 * 240


def test_primed_control(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    words = ["".join(chance.choice(list("abcdefgh"), 6)) for _ in range(400)]
    texts = [" ".join(chance.choice(words, 3000)).encode() for _ in range(6)]
    found = primed(texts[0], texts[1:], 30_000)
    assert found.is_trained
    assert found.dictionary_bytes <= 30_000
    alone = primed(texts[0], [], 30_000)
    assert (alone.is_trained, alone.dictionary_bytes) == (False, 0)
    assert found.n_bytes < 0.95 * alone.n_bytes
    little = primed(texts[0], texts[1:2], 10**6)
    assert (little.is_trained, little.dictionary_bytes) == (False, len(texts[1]))


def test_priming_with_the_text_itself_is_refused(tmp_path: Path) -> None:
    text = b"a line that is long enough to tell one text from any other text there is, surely\n" * 3
    other = tmp_path / "other.txt"
    other.write_bytes(b"another text\n" * 9)
    assert read_training([other], text) == [other.read_bytes()]
    other.write_bytes(b"before " + text + b"after")
    with pytest.raises(RefusedError, match="holds some of the text itself"):
        read_training([other], text)
    lines = tmp_path / "documents.jsonl"
    lines.write_text(json.dumps({"text": text.decode().splitlines()[0]}) + "\n")
    with pytest.raises(RefusedError, match="holds some of the text itself"):
        read_training([lines], text)
    with pytest.raises(RefusedError, match="is a directory"):
        read_training([tmp_path], text)


def test_receipt_alone(receipt: Receipt) -> None:
    page = report_receipt(receipt, "receipt.json").html
    assert f'<div class="score">{receipt.bpb_file:.3f}</div>' in page
    assert "Every symbol by its bits" not in page
    assert "give its text with <code>--text</code>" in page


def test_receipt_with_its_text(prose: bytes, receipt: Receipt, tmp_path: Path) -> None:
    page = report_receipt(receipt, "receipt.json", text=tmp_path / "prose.txt")
    assert "Every symbol by its bits" in page.html
    (tmp_path / "other.txt").write_bytes(prose + b"!")
    with pytest.raises(RefusedError, match="is not the text of the receipt"):
        report_receipt(receipt, "receipt.json", text=tmp_path / "other.txt")
    values = json.loads(receipt.to_json())
    larger = read_receipt(json.dumps(values | {"file_bytes": values["file_bytes"] + 1}))
    with pytest.raises(VerificationError, match="the archive has"):
        report_receipt(larger, "receipt.json", text=tmp_path / "prose.txt")
    other = read_receipt(json.dumps(values | {"model_fingerprint": "00" * 32}))
    with pytest.raises(WrongModelError):
        report_receipt(other, "receipt.json", text=tmp_path / "prose.txt")


def test_receipt_of_a_predictor(prose: bytes, receipt: Receipt) -> None:
    values = json.loads(receipt.to_json()) | {
        "claimed_bits": 100.0, "claimed_bytes": len(prose), "claimed_bpb": 100 / len(prose),
        "n_documents": 1, "n_symbols_coded": 9, "order_bytes": 0, "residual_bytes": 0,
        "isolation": "<none>", "verified": False,
    }  # fmt: skip
    values["claims"] |= {"claim_is_coded": False, "claim_divides_by_the_file": True}
    page = report_receipt(read_receipt(json.dumps(values)), "receipt.json").html
    assert "From the claim to the file" in page
    assert "not verified" in page
    assert "does not hold: claim_is_coded" in page


# The verb


@pytest.fixture
def source(prose: bytes, model: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prose.txt"
    path.write_bytes(prose)
    return path


Capture = pytest.CaptureFixture[str]


def test_verb(source: Path, capsys: Capture) -> None:
    assert cli.main(["report", "prose.txt"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "pgolf-codec: prose.txt.html: " in said.err
    assert (source.parent / "prose.txt.html").read_text().startswith("<!DOCTYPE html>")
    assert cli.main(["report", "prose.txt"]) == 1
    assert "prose.txt.html: already exists; -f overwrites" in capsys.readouterr().err
    assert cli.main(["report", "prose.txt", "-f", "-q", "-o", "prose.txt.html"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["report", "prose.txt", "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")


def test_no_page_on_a_terminal(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["report", "prose.txt", "-o", "-"]) == 1
    assert "(stdout): is a terminal; use -o PAGE" in capsys.readouterr().err


def test_verb_of_a_receipt(source: Path, capsys: Capture) -> None:
    assert cli.main(["verify", "-q", "prose.txt", "--json", "receipt.json"]) == 0
    assert cli.main(["report", "receipt.json", "-o", "a.html"]) == 0
    assert cli.main(["report", "receipt.json", "--text", "prose.txt", "-o", "b.html"]) == 0
    sizes = [(source.parent / name).stat().st_size for name in ("a.html", "b.html")]
    assert sizes[0] < sizes[1]
    (source.parent / "receipt.json").write_text('{"input_sha256": 1, "claims": {}}')
    assert cli.main(["report", "receipt.json", "-o", "c.html"]) == 1
    assert "receipt: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["missing"], 1, "missing: no such file or directory"),
        (["."], 1, ".: is a directory"),
        (["prose.txt", "-o", "no/page.html"], 1, "no: is not a folder"),
        (["prose.txt", "-o", "."], 1, ".: is a directory"),
        (["prose.txt", "-f", "-o", "prose.txt"], 1, "prose.txt: is also the input"),
        (["prose.txt", "--text", "prose.txt"], 2, "--text goes with a receipt"),
        (["prose.txt", "--prime", "missing"], 1, "missing: no such file or directory"),
        (["prose.txt", "--prime", "prose.txt"], 1, "holds some of the text itself"),
        (["prose.txt", "-m", "missing"], 1, "missing: no model of this name"),
        ([], 2, "RECEIPT|TEXT"),
    ],
)
def test_wrong_calls(
    source: Path, arguments: list[str], status: int, said: str, capsys: Capture
) -> None:
    assert cli.main(["report", *arguments]) == status
    assert said in capsys.readouterr().err
    assert os.listdir(source.parent) == ["prose.txt"]
