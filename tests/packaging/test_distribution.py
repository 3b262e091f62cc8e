"""Wheel and sdist hold what the tree holds, and the wheel works where nothing else is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import pgolf_codec

ROOT = Path(__file__).parents[2]
PACKAGES = {"pgolf_codec": ".", "codec": "codec", "lm": "lm", "quant": "quant", "eval": "eval"}
"""Folder of the tree, and of the package ``pgolf_codec``."""
SHIPPED = ("*.py", "*/*.py", "py.typed", "embedded/*.pglm", "configs/*.toml", "*.css")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a fresh sdist and the wheel that was built from it."""
    tree = tmp_path_factory.mktemp("tree") / "pgolf-codec"
    shutil.copytree(
        ROOT,
        tree,
        symlinks=True,
        ignore=shutil.ignore_patterns(
            ".git", ".venv*", ".work", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"
        ),
    )
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return tree / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def shipped_files() -> dict[str, Path]:
    """Name in the wheel → file of the tree."""
    found = {}
    for folder, below in PACKAGES.items():
        for pattern in SHIPPED:
            for path in (ROOT / folder).glob(pattern):
                if path.parent.is_symlink():  # a folder of the tree, as type checkers see it
                    continue
                name = Path("pgolf_codec") / below / path.relative_to(ROOT / folder)
                found[name.as_posix()] = path
    return found


def test_wheel_is_the_tree(wheel: Path) -> None:
    expected = shipped_files()
    assert "pgolf_codec/py.typed" in expected
    assert "pgolf_codec/lm/config.py" in expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == expected.keys()
        for name, path in expected.items():
            assert archive.read(name) == path.read_bytes(), name


def test_wheel_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert f"Version: {pgolf_codec.__version__}\n" in metadata
    assert "License-Expression: MIT\n" in metadata
    required = [
        line.removeprefix("Requires-Dist: ").split(";")[0]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert not [line for line in required if line.startswith("torch")]
    assert "constriction<0.6,>=0.5" in required


def test_sdist_can_be_tested_and_built(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "Makefile", "constraints.txt",
        "pyproject.toml", "tests/conftest.py", "tests/packaging/test_distribution.py",
    }  # fmt: skip
    needed |= {path.relative_to(ROOT).as_posix() for path in shipped_files().values()}
    assert not needed - names


def test_installed_wheel_runs_by_itself(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        + ["--target", str(target), str(wheel)],
        check=True,
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*command: str) -> str:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    script = str(target / "bin" / "pgolf-codec")
    assert run(sys.executable, script, "--version").split()[-1] == pgolf_codec.__version__
    imported = run(
        sys.executable, "-c",
        "import pgolf_codec, pgolf_codec.codec, pgolf_codec.lm, pgolf_codec.quant as q, "
        "pgolf_codec.eval as e; print(pgolf_codec.__file__, q.__file__, e.__file__)",
    )  # fmt: skip
    assert all(Path(name).is_relative_to(target) for name in imported.split())


@pytest.mark.skipif(not [*ROOT.glob("pgolf_codec/embedded/*.pglm")], reason="no model yet")
def test_installed_wheel_verifies_a_text(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    (tmp_path / "text").write_text("It was the best of times, it was the worst of times.\n" * 3)
    done = subprocess.run(
        [sys.executable, "-m", "pgolf_codec", "verify", "text"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nverified\n")
