"""``verify`` and ``demo`` as commands: what is printed, written, and the exit status."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pgolf_codec.cli import demo
from pgolf_codec.eval import decoder
from pgolf_codec.eval.receipt import CLAIMS, Receipt

Main = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_readable_receipt(main: Main, source: Path, capsys: Capture) -> None:
    assert main("verify", source) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.endswith("\nverified\n")
    assert all(f"\nok        {meaning}\n" in said.out for meaning in CLAIMS.values())
    assert os.listdir(source.parent) == ["text"]


def test_receipt_as_json(main: Main, source: Path, text: bytes, capsys: Capture) -> None:
    receipt_path = source.with_name("receipt.json")
    receipt_path.write_text("an older one")
    assert main("verify", "--json", receipt_path, "-q", source) == 0
    assert capsys.readouterr() == ("", "")
    values = json.loads(receipt_path.read_text())
    assert values["verified"] is True
    assert values["input_bytes"] == len(text)
    assert values["bpb_file"] == 8 * values["file_bytes"] / len(text)
    assert Receipt.from_json(receipt_path.read_bytes()).verified
    assert main("verify", "--json", "-", source) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["input_sha256"] == values["input_sha256"]


def test_failed_claim(
    main: Main, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(decoder, "BOOT", "raise SystemExit('the decoder is broken')")
    assert main("verify", source, "--json", "receipt.json") == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"pgolf-codec: {source}: does not hold: decoder_finished, ")
    assert said.err.endswith("(exit status 1: the decoder is broken)\n")
    assert said.out.endswith("\nNOT VERIFIED\n")
    values = json.loads(Path("receipt.json").read_text())
    assert (values["verified"], values["decoder_sha256"]) == (False, "")


def test_file_that_is_not_there(main: Main, tmp_path: Path, capsys: Capture) -> None:
    assert main("verify", "missing", "--json", "receipt.json") == 1
    assert capsys.readouterr().err == "pgolf-codec: missing: no such file or directory\n"
    assert main("verify", tmp_path) == 1
    assert "is a directory" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_receipt_that_could_not_be_written_is_refused_at_once(
    main: Main, source: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "BOOT", "raise SystemExit('nothing should be decoded')")
    assert main("verify", source, "--json", source.parent) == 1
    assert capsys.readouterr().err == f"pgolf-codec: {source.parent}: is a directory\n"
    assert main("verify", source, "--json", "none/receipt.json") == 1
    assert capsys.readouterr().err == "pgolf-codec: none: is not a folder\n"


def test_an_archive_is_told_from_its_text(main: Main, source: Path, capsys: Capture) -> None:
    assert main("compress", "-q", source) == 0
    assert main("verify", f"{source}.pgz", "--json", "receipt.json") == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"pgolf-codec: {source}.pgz: is an archive, coded here once more")
    assert said.out.endswith("\nverified\n")
    assert main("verify", f"{source}.pgz", "-q") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--claim", "1"], "--claim goes with --predictor"),
        (["--predictor", "a.py:A", "-T", "1"], "--threads doesn't go with --predictor"),
        (["--predictor", "a.py:A", "--no-adapt"], "--adapt doesn't go with --predictor"),
    ],
)
def test_options_that_mean_nothing(
    main: Main, source: Path, options: list[str], said: str, capsys: Capture
) -> None:
    assert main("verify", source, *options) == 2
    assert said in capsys.readouterr().err


def test_documents_are_not_in_a_text_file(main: Main, source: Path, capsys: Capture) -> None:
    text = source.rename(source.with_suffix(".txt"))
    assert main("verify", text, "--documents", "--predictor", "a.py:A") == 1
    assert "text.txt: a .txt is one document, not one a line" in capsys.readouterr().err


def test_demo(main: Main, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    topics = demo.python_topics(3000)
    monkeypatch.setattr(demo, "python_topics", lambda: topics)
    assert main("demo") == 0
    said = capsys.readouterr().out
    for name in ("zlib -9", "bzip2 -9", "xz -9e", "zstd -19", "order-1"):
        assert f"\n{name} " in said
    assert said.endswith("\nverified\n")
    assert "model's own 7 bytes are not in the column" in said


def test_demo_text_is_english_and_the_same_each_time() -> None:
    topics = demo.python_topics()
    assert topics == demo.python_topics()
    assert len(topics) == demo.MAX_TEXT_BYTES
    assert topics.count(b" the ") > 300


def test_break_even() -> None:
    ours, peer = demo.Row("ours", 200, 1, 1), demo.Row("peer", 300, 1, 1)
    assert "break even with peer at about 3 MB" in demo.honesty([peer], ours, 1000, 300_000)
    assert "peer is smaller" in demo.honesty([peer], demo.Row("ours", 300, 1, 1), 1000, 300_000)
