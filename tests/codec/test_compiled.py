"""Machine code on disk: found again, replaced where it is damaged, not needed where it can't be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pgolf_codec import notices
from pgolf_codec.codec import compiled
from pgolf_codec.codec.compiled import SOURCES, Kernel, flat
from pgolf_codec.codec.frequencies import interval, locate
from pgolf_codec.codec.machine import SETS, instruction_set
from pgolf_codec.quant.coders.machine_code import SOURCES as CODER_SOURCES
from pgolf_codec.quant.coders.machine_code import STATIC_SOURCES

ROOT = Path(__file__).parents[2]
WEIGHTS = np.array([0, 5, 1 << 24, 3], np.uint32)
ASK = """
import sys, numpy as np
from pgolf_codec import notices
notices.tell = print
from pgolf_codec.codec.frequencies import interval
print(*interval(np.array([0, 5, 1 << 24, 3], np.uint32), 2), "numba" in sys.modules)
"""


def ask(cache: Path | str, **variables: str) -> list[str]:
    """What another process says, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=os.environ | {"PGOLF_CODEC_CACHE": str(cache)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expected(numba: bool) -> str:
    return "{} {} {}".format(*interval(WEIGHTS, 2), numba)


def test_compiled_once_then_loaded_without_numba(tmp_path: Path) -> None:
    first = ask(tmp_path)
    assert len(first) == 2
    assert "compiling" in first[0]
    assert first[1] == expected(numba=True)
    assert ask(tmp_path) == [expected(numba=False)]
    (found,) = tmp_path.glob("kernels-*/*.o")
    found.write_bytes(found.read_bytes()[:-100])
    assert ask(tmp_path) == first
    whole = found.read_bytes()
    found.write_bytes(whole[:50] + b"?" + whole[51:])
    assert ask(tmp_path) == first
    assert found.read_bytes() == whole
    assert len(list(found.parent.iterdir())) == 1


@pytest.mark.parametrize("cache", ["", "/proc/nowhere"])
def test_without_a_folder_to_write_to(cache: str) -> None:
    assert ask(cache)[-1] == expected(numba=True)


def test_a_cache_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file")[-1] == expected(numba=True)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of the name ``~`` is made, wherever one happens to be."""
    monkeypatch.delenv("PGOLF_CODEC_CACHE", raising=False)
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody is known
    assert compiled.cache_folder.__wrapped__(SOURCES) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    assert compiled.cache_folder.__wrapped__(SOURCES) is None


def test_folders_of_other_versions_go(tmp_path: Path) -> None:
    for i in range(compiled.KEPT_FOLDERS + 3):
        (tmp_path / f"kernels-{i}").mkdir()
        os.utime(tmp_path / f"kernels-{i}", (i, i))
    ask(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == compiled.KEPT_FOLDERS
    assert f"kernels-{compiled.KEPT_FOLDERS + 2}" in left
    assert "kernels-0" not in left


def test_every_instruction_set_has_a_folder_of_its_own(tmp_path: Path) -> None:
    for name in SETS[: SETS.index(instruction_set()) + 1]:
        assert ask(tmp_path, PGOLF_CODEC_ISA=name)[-1] == expected(numba=True)
    assert len(list(tmp_path.iterdir())) == min(
        SETS.index(instruction_set()) + 1, compiled.KEPT_FOLDERS
    )


def test_an_instruction_set_that_is_not_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgolf_codec", "compress", "-c", __file__],
        env=os.environ | {"PGOLF_CODEC_ISA": "mmx"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pgolf-codec: ")
    assert "PGOLF_CODEC_ISA=mmx" in done.stderr


def test_every_file_with_kernels_is_in_the_digest() -> None:
    """What imports the compiler, and what these files import by name from the package."""
    files = [
        p.relative_to(ROOT).as_posix()
        for f in ("codec", "lm", "quant", "quant/coders")
        for p in (ROOT / f).rglob("*.py")
    ]
    kernels = {f for f in files if "codec.jit import jit" in (ROOT / f).read_text()}
    known = {*SOURCES, *CODER_SOURCES, *STATIC_SOURCES}
    assert kernels - {"codec/compiled.py"} <= known
    for name in kernels - {"codec/compiled.py"}:
        for module in re.findall(
            r"^from pgolf_codec\.(\S+) import", (ROOT / name).read_text(), re.MULTILINE
        ):
            path = module.replace(".", "/") + ".py"
            assert path in known or path in CONSTANTS_ONLY, f"{name} imports {module}"


CONSTANTS_ONLY = {
    "codec/frequencies.py",
    "codec/range_coder.py",
    "quant/coders/trellis.py",
    "quant/ans_words.py",
}
"""Kernels take numbers of the format from them, which don't change without its version."""


def test_arguments() -> None:
    """Slices, columns, frozen arrays and prepared ones are the same to a kernel."""
    table = np.zeros((4, 6), np.uint32)
    table[:, 1] = WEIGHTS
    frozen = WEIGHTS.copy()
    frozen.setflags(write=False)
    wide = np.repeat(WEIGHTS, 3)
    for weights in (table[:, 1], np.asfortranarray(table)[:, 1], frozen, wide[1::3]):
        assert interval(weights, np.int64(2)) == interval(WEIGHTS, 2)
        assert locate(weights, 1 << 20) == locate(WEIGHTS, 1 << 20)
    out = np.zeros(2, np.int64)
    kernel = Kernel("pgolf_codec.codec.coding_kernels", "put_interval")
    assert kernel(flat(WEIGHTS), 2, flat(out)) == 0
    assert tuple(out) == interval(WEIGHTS, 2)


def test_the_notice_comes_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    monkeypatch.setattr(notices, "tell", told.append)
    monkeypatch.setattr(compiled, "cache_folder", lambda sources: tmp_path)
    compiled._tell_once.cache_clear()
    for name in ("put_interval", "put_location"):
        Kernel("pgolf_codec.codec.coding_kernels", name)(WEIGHTS, 2, np.zeros(3, np.int64))
    assert len(told) == 1
    assert len(list(tmp_path.glob("*.o"))) == 2
