"""A training run of seconds: its configuration, and tokens with something to learn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for toy_recipe.py

from toy_recipe import TINY

from pgolf_codec.lm.config import ModelConfig


@pytest.fixture
def tiny() -> ModelConfig:
    return TINY


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Each id is followed by one of four; ids 2..319."""
    rng = np.random.default_rng(3)
    ids = [2]
    for choice in rng.integers(0, 4, 20000).tolist():
        ids.append(2 + (ids[-1] * 4 + choice) % 318)
    folder = tmp_path / "tokens"
    folder.mkdir()
    np.array(ids, "<u2").tofile(folder / "train.bin")
    np.array(ids[:2000], "<u2").tofile(folder / "val.bin")
    (folder / "val.json").write_text(json.dumps({"n_bytes": 6000}))
    return folder
