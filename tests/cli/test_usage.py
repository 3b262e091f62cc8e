"""Calls that are wrong, help, and aliases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pgolf_codec
from pgolf_codec import cli

Main = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pgolf-codec {pgolf_codec.__version__}\n"


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help(verb: str, capsys: Capture) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: pgolf-codec {verb} ")
    assert cli.main(["--help"]) == 0
    assert f"\n  {verb} " in capsys.readouterr().out


def test_help_has_every_group(capsys: Capture) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    places = [said.index(f"\n{title}:\n") for title in cli.GROUPS]
    assert places == sorted(places)
    assert sum(map(len, cli.GROUPS.values())) == len(cli.VERBS)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["--frobnicate"],
        ["compress", "--frobnicate"],
        ["compress", "-T", "-1"],
        ["compress", "-T", "many"],
        ["compress", "--streams", "0"],
        ["compress", "-o", "x", "one", "two"],
        ["compress", "-o", "x", "-c", "one"],
        ["compress", "--rm", "-c", "one"],
        ["compress", "--json", "-c", "one"],
        ["decompress", "--json", "-o", "-", "one"],
        ["compress", "--json"],
        ["list"],
        ["verify"],
        ["verify", "one", "two"],
        ["models", "one"],
        ["audit", "text"],
        ["audit", "--predictor", "x.py:X", "--tolerance", "-1", "text"],
        ["verify", "--predictor", "x.py:X", "--claim", "nan", "text"],
        ["verify", "--predictor", "x.py:X", "--claim", "low", "text"],
        ["verify", "--claim", "1", "text"],
    ],
)
def test_wrong_calls(main: Main, source: Path, arguments: list[str], capsys: Capture) -> None:
    assert main(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "usage: pgolf-codec" in said.err
    assert [path.name for path in source.parent.iterdir()] == ["text"]


def test_a_device_does_not_adapt(main: Main, source: Path, capsys: Capture) -> None:
    """Said before anything is written, and whether or not there is such a device."""
    assert main("compress", "--adapt", "--device", "cuda", "-c", source) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "pgolf-codec: only the processor adapts (device cpu, or --no-adapt)\n"


def test_file_instead_of_a_verb(main: Main, source: Path, capsys: Capture) -> None:
    assert main("text") == 2
    assert "try: pgolf-codec compress text" in capsys.readouterr().err


@pytest.mark.parametrize("aliases", [("c", "d", "t", "l"), ("-z", "-d", "-t", "-l")])
def test_aliases(main: Main, source: Path, text: bytes, aliases: tuple[str, ...]) -> None:
    pack, unpack, test, show = aliases
    assert main(pack, "--rm", source) == 0
    assert main(test, "text.pgz") == main(show, "text.pgz") == 0
    assert main(unpack, "text.pgz") == 0
    assert source.read_bytes() == text
