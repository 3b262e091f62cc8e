"""Every verb with --model names the file that is no model, and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import pgolf_codec
from pgolf_codec import cli
from pgolf_codec.models import DEFAULT, embedded_paths

VERBS = ("compress", "decompress", "test", "verify", "eval", "report", "compress-all", "verify-all")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "text").write_bytes(b"Some text that is no model.\n")
    (tmp_path / "text.pgz").write_bytes(pgolf_codec.compress(b"Some text that is no model.\n"))
    (tmp_path / "cut.pglm").write_bytes(embedded_paths()[DEFAULT].read_bytes()[:5000])
    (tmp_path / "folder.pglm").mkdir()
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("text", "text: not a model artifact: the magic number is missing"),
        ("cut.pglm", "cut.pglm: model artifact: 5000 bytes of "),
        ("folder.pglm", "no model 'folder.pglm': not a file, nor embedded"),
        ("none.pglm", "no model 'none.pglm': not a file, nor embedded"),
    ],
)
def test_wrong_model(
    folder: Path, verb: str, model: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    name = "text.pgz" if verb in ("decompress", "test") else "text"
    output = ["-o", "out"] if verb in ("compress-all", "decompress", "report") else []
    assert cli.main([verb, name, "-m", model, *output]) == 1
    assert said in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


@pytest.mark.usefixtures("folder")
def test_from_python() -> None:
    with pytest.raises(pgolf_codec.NotAnArchiveError, match=r"^text: not a model artifact"):
        pgolf_codec.load_model("text")
    with pytest.raises(pgolf_codec.TruncatedError, match=r"^cut\.pglm: "):
        pgolf_codec.compress(b"abc", model="cut.pglm")
