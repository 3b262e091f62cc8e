"""Toy runs of a bundled train_gpt.py, where only what the challenge has can be imported."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))  # for toy_recipe.py

import toy_recipe

from pgolf_codec.eval.bundle import make_bundle
from pgolf_codec.lm.data.dataset_writer import DatasetOptions, build_dataset

RECIPE = f"{toy_recipe.RECIPE}minutes = 0.01\n"

REQUIREMENTS = ("torch", "numpy", "sentencepiece")


@dataclass(frozen=True)
class Golf:
    """A folder with nothing but ``train_gpt.py``, and what it needs elsewhere."""

    folder: Path
    data: Path
    packages: Path

    def run(self, seed: int, n_ranks: int | None = None) -> subprocess.CompletedProcess[str]:
        """``python train_gpt.py``, or under torchrun; -S: without the packages of this Python."""
        program = [sys.executable, "-S", "train_gpt.py", "--no-compile"]
        if n_ranks is not None:
            torchrun = [sys.executable, "-S", "-m", "torch.distributed.run", "--standalone"]
            program = [*torchrun, f"--nproc_per_node={n_ranks}", "--no-python", *program]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.packages),
            "OMP_NUM_THREADS": "1",
            "DATA_PATH": str(self.data),
            "SEED": str(seed),
            "RUN_ID": f"seed{seed}",
        }
        return subprocess.run(
            program,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )


def requirements_only(folder: Path) -> Path:
    """A folder of links to the requirements, and to what these require themselves."""
    from packaging.requirements import Requirement

    folder.mkdir()
    waiting, seen = list(REQUIREMENTS), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # a dependency of other systems
            continue
        tops = {file.parts[0] for file in package.files or () if ".." not in file.parts}
        for top in tops - {"__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(package.locate_file(top))
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return folder


@pytest.fixture(scope="session")
def golf(tmp_path_factory: pytest.TempPathFactory) -> Golf:
    root = tmp_path_factory.mktemp("golf")
    rng = random.Random(5)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 8))) for _ in range(300)]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(200)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (root / "documents.jsonl").write_text(lines)
    data = build_dataset(
        [root / "documents.jsonl"],
        root / "data",
        320,
        DatasetOptions(name="toy", val_share=0.1),
        log=lambda line: None,
    )
    (root / "empty").mkdir()
    (root / "empty" / "train_gpt.py").write_bytes(make_bundle(RECIPE, name="Toy"))
    return Golf(root / "empty", data, requirements_only(root / "packages"))


@pytest.fixture(scope="session")
def two_runs(golf: Golf) -> list[Path]:
    """Folders of two finished seeds: one alone, one of two ranks."""
    for seed, n_ranks in ((1, None), (2, 2)):
        done = golf.run(seed, n_ranks)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [golf.folder / "logs" / "seed1", golf.folder / "logs" / "seed2"]
