"""A short text, and two ways to run the command line: here, and in a process of its own."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

DRIVER = Path(__file__).parents[1] / "stand_in_models.py"
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def _walk(n_bytes: int) -> bytes:
    """One of three letters follows each letter: the stand-in model sees it, zstd does not."""
    chance, letters = random.Random(1), b"mouseply"
    walk = [0]
    while len(walk) < n_bytes:
        walk.append((walk[-1] + chance.choice((1, 2, 5))) % len(letters))
    return bytes(letters[at] for at in walk)


TEXT = _walk(4000)


@pytest.fixture
def text() -> bytes:
    return TEXT


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A text file in a folder of its own, which is also the working folder."""
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def main(
    stand_in_models: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., int]:
    """``main("compress", path, ...)`` in this process, with the stand-in model."""
    from pgolf_codec import cli

    monkeypatch.chdir(tmp_path)
    return lambda *arguments: cli.main([str(argument) for argument in arguments])


@pytest.fixture
def command() -> list[str]:
    """The beginning of a command line in a process of its own, with the stand-in model."""
    return [sys.executable, str(DRIVER)]


@pytest.fixture
def run(command: list[str], tmp_path: Path) -> Run:
    """Run the command line in a process of its own."""

    def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *map(str, arguments)],
            input=stdin,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )

    return run
