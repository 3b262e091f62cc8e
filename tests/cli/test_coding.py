"""compress, decompress and test on files: what is written, kept, refused and told."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Main = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def archive(main: Main, source: Path) -> Path:
    """``text.pgz``; the source is gone."""
    assert main("compress", "--rm", source) == 0
    return source.with_name("text.pgz")


def test_round_trip_keeps_the_source(main: Main, source: Path, text: bytes) -> None:
    assert main("compress", source) == 0
    assert names(source.parent) == ["text", "text.pgz"]
    source.unlink()
    assert main("decompress", "text.pgz") == 0
    assert source.read_bytes() == text
    assert names(source.parent) == ["text", "text.pgz"]


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)) * 20, b"\xff\xfe<s>\r\n"])
def test_any_bytes(main: Main, source: Path, data: bytes) -> None:
    source.write_bytes(data)
    assert main("compress", source, "-o", "a") == 0
    assert main("test", "a") == 0
    assert main("decompress", "a", "-o", "b") == 0
    assert Path("b").read_bytes() == data


def test_mode_and_time_are_carried_over(main: Main, source: Path) -> None:
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18 + 987654321))
    assert main("compress", "--rm", source) == 0
    status = Path("text.pgz").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 10**18 + 987654321)
    assert main("decompress", "text.pgz") == 0
    status = source.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 10**18 + 987654321)


def test_rm_and_keep(main: Main, source: Path, text: bytes) -> None:
    assert main("compress", "--rm", source) == 0
    assert names(source.parent) == ["text.pgz"]
    assert main("decompress", "--rm", "text.pgz") == 0
    assert names(source.parent) == ["text"]
    assert main("compress", "--rm", "-k", source) == 0
    assert names(source.parent) == ["text", "text.pgz"]
    assert source.read_bytes() == text


def test_rm_keeps_the_source_after_an_error(main: Main, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-1])
    assert main("decompress", "--rm", archive) == 1
    assert names(archive.parent) == ["text.pgz"]


def test_existing_output_needs_force(main: Main, source: Path, capsys: Capture) -> None:
    Path("text.pgz").write_bytes(b"precious")
    assert main("compress", "--rm", source) == 1
    assert (
        capsys.readouterr().err
        == "pgolf-codec: text.pgz: already exists; not overwritten\n".replace(
            "text.pgz", f"{source}.pgz"
        )
    )
    assert Path("text.pgz").read_bytes() == b"precious"
    assert main("compress", "-f", source) == 0
    assert Path("text.pgz").read_bytes() != b"precious"
    assert names(source.parent) == ["text", "text.pgz"]


def test_wrong_suffix_is_skipped(main: Main, archive: Path, capsys: Capture) -> None:
    assert main("compress", archive) == 1
    assert capsys.readouterr().err == f"pgolf-codec: {archive}: already ends in .pgz; skipped\n"
    Path("other").write_bytes(archive.read_bytes())
    assert main("decompress", "other") == 1
    assert capsys.readouterr().err == "pgolf-codec: other: does not end in .pgz; skipped\n"
    assert main("decompress", "-q", "other") == 1
    assert capsys.readouterr().err == ""
    assert names(archive.parent) == ["other", "text.pgz"]
    assert main("decompress", "other", "-o", "out") == 0  # the name is said: suffixes don't matter
    assert main("compress", archive, "-o", "twice") == 0
    Path(".pgz").write_bytes(archive.read_bytes())
    assert main("decompress", ".pgz") == 1  # no name would be left


def test_an_error_does_not_stop_the_others(
    main: Main, source: Path, text: bytes, capsys: Capture
) -> None:
    Path("folder").mkdir()
    Path("second").write_bytes(text)
    assert main("compress", "missing", source, "folder", "second") == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        "pgolf-codec: missing: no such file or directory",
        "pgolf-codec: folder: is a directory",
    ]
    assert names(source.parent) == ["folder", "second", "second.pgz", "text", "text.pgz"]


def test_folder_that_is_missing(main: Main, source: Path, capsys: Capture) -> None:
    assert main("compress", source, "-o", "nowhere/x") == 1
    assert capsys.readouterr().err == "pgolf-codec: nowhere/x: no such file or directory\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable(main: Main, source: Path, capsys: Capture) -> None:
    source.parent.chmod(0o500)
    try:
        assert main("compress", source) == 1
    finally:
        source.parent.chmod(0o700)
    assert capsys.readouterr().err == f"pgolf-codec: {source}.pgz: permission denied\n"


def test_input_as_output(main: Main, source: Path, text: bytes, capsys: Capture) -> None:
    assert main("compress", "-f", source, "-o", "text") == 1
    assert "is also the input" in capsys.readouterr().err
    Path("link").symlink_to(source)
    assert main("compress", "-f", source, "-o", "link") == 1
    assert source.read_bytes() == text


def test_symbolic_links(main: Main, source: Path, text: bytes, capsys: Capture) -> None:
    Path("link").symlink_to(source)
    assert main("compress", "--rm", "link") == 1
    assert "is a symbolic link" in capsys.readouterr().err
    assert names(source.parent) == ["link", "text"]
    assert main("compress", "link") == 0
    assert not Path("link.pgz").is_symlink()
    assert main("decompress", "link.pgz", "-o", "back") == 0
    assert Path("back").read_bytes() == text


def test_damage_is_named_and_nothing_is_written(main: Main, archive: Path, capsys: Capture) -> None:
    whole = archive.read_bytes()
    for damaged, word in [
        (whole[:-3], "ends"),
        (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], "frame 0"),
        (b"PK\3\4" + whole, "not a .pgz archive"),
        (b"", "ends"),
    ]:
        archive.write_bytes(damaged)
        assert main("decompress", archive) == 1
        assert main("test", archive) == 1
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 2
        assert all(line.startswith(f"pgolf-codec: {archive}: ") for line in errors)
        assert all(word in line for line in errors)
        assert names(archive.parent) == ["text.pgz"]


def test_other_model(main: Main, source: Path, text: bytes, capsys: Capture) -> None:
    Path("other.pglm").write_bytes(b"other")
    assert main("compress", "-m", "other.pglm", source) == 0
    assert main("test", "text.pgz") == 1
    assert "no model with the fingerprint" in capsys.readouterr().err
    assert main("test", "-m", "order-1", "text.pgz") == 1
    assert "was made with model" in capsys.readouterr().err
    assert main("decompress", "-m", "other.pglm", "text.pgz", "-o", "back") == 0
    assert Path("back").read_bytes() == text
    assert main("compress", "-m", "nonsense", source) == 1
    assert capsys.readouterr().err.startswith("pgolf-codec: nonsense: no model of this name")


def test_options_after_files(main: Main, source: Path, text: bytes) -> None:
    Path("second").write_bytes(text)
    assert main("compress", source, "-T", "1", "second", "--streams", "2") == 0
    assert names(source.parent) == ["second", "second.pgz", "text", "text.pgz"]


def test_streams_change_the_archive_and_threads_do_not(main: Main, source: Path) -> None:
    blobs = {}
    for streams, threads in [(1, 1), (1, 2), (3, 1), (3, 2)]:
        assert main("compress", source, "-f", "--streams", streams, "-T", threads) == 0
        blobs[streams, threads] = Path("text.pgz").read_bytes()
    assert blobs[1, 1] == blobs[1, 2] != blobs[3, 1] == blobs[3, 2]


def test_json(main: Main, source: Path, text: bytes, capsys: Capture) -> None:
    assert main("compress", "--json", source, "missing", "x.pgz") == 1
    done, missing, skipped = map(json.loads, capsys.readouterr().out.splitlines())
    size = Path("text.pgz").stat().st_size
    assert done["ok"] is True
    assert (done["raw_bytes"], done["file_bytes"]) == (len(text), size)
    assert done["bpb"] == pytest.approx(8 * size / len(text))
    assert done["output"] == f"{source}.pgz"
    assert done["entropy_bits"] <= done["coded_bits"] <= 8 * size
    assert (missing["ok"], missing["error"]) == (False, "FileNotFoundError")
    assert (skipped["ok"], skipped["skipped"]) == (False, "already ends in .pgz")
    assert main("test", "--json", "text.pgz") == 0
    tested = json.loads(capsys.readouterr().out)
    assert (tested["raw_bytes"], tested["file_bytes"]) == (len(text), size)
    assert tested["output"] is None


def test_verbose(main: Main, source: Path, text: bytes, capsys: Capture) -> None:
    assert main("compress", "-v", source) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"pgolf-codec: {source}: {len(text)} bytes as ")
    assert " bpb, " in said


def test_quiet_by_default(main: Main, source: Path, capsys: Capture) -> None:
    assert main("compress", source) == main("test", "text.pgz") == 0
    assert capsys.readouterr() == ("", "")


def test_standard_streams_in_process(
    main: Main,
    text: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main("compress", "-") == 0
    blob = capsysbinary.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(blob)))
    assert main("decompress") == 0
    assert capsysbinary.readouterr().out == text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(blob[:-1])))
    assert main("test") == 1
    assert capsysbinary.readouterr().err.startswith(b"pgolf-codec: (stdin): ")


def test_list(main: Main, archive: Path, text: bytes, capsys: Capture) -> None:
    assert main("list", archive) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["Frames", "Archive", "Original", "Ratio", "bpb"]
    size = archive.stat().st_size
    assert line.split()[:3] == ["1", str(size), str(len(text))]
    assert line.endswith(str(archive))
    assert main("list", "-v", archive) == 0
    assert "frame 0: " in capsys.readouterr().out
    assert main("list", "--json", archive, "missing") == 1
    found, missing = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["file_bytes"], found["raw_bytes"]) == (size, len(text))
    assert sum(found["frames"].values()) == 1
    assert missing["ok"] is False


def test_models(main: Main, capsys: Capture) -> None:
    assert main("models") == 0
    assert "order-1" in capsys.readouterr().out
    assert main("models", "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "order-1"
