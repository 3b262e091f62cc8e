"""A training run of seconds: its configuration, and tokens with something to learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pgolf_codec.lm.config import ModelConfig

TINY = ModelConfig(
    vocab_size=320,
    n_layers=2,
    d_model=32,
    n_heads=2,
    n_kv_heads=1,
    d_head=16,
    d_hidden=64,
    windows=(8, 16),
    rope_dims=8,
    bigram_buckets=64,
    bigram_dim=64,
)


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
