"""What ``import pgolf_codec`` costs, told by what it imports; and who may import torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pgolf_codec

ROOT = Path(__file__).parents[2]
HEAVY = {"numpy", "numba", "constriction", "sentencepiece", "zstandard", "torch", "brotli"}
TORCH_MAY_BE_IN = {
    "eval/readers.py",
    "eval/torch_model.py",
    "eval/tuning.py",
    "lm/conversion/calibration.py",
    "lm/conversion/dequantize.py",
    "lm/conversion/export.py",
    "lm/conversion/fold.py",
    "lm/counting.py",
    "lm/floats/attention.py",
    "lm/floats/blocks.py",
    "lm/floats/loss.py",
    "lm/floats/model.py",
    "lm/floats/part.py",
    "lm/golf.py",
    "lm/gpu/ranks.py",
    "lm/gpu/torch_device.py",
    "lm/gpu/torch_engine.py",
    "lm/gpu/torch_lanes.py",
    "lm/gpu/torch_ops.py",
    "lm/gpu/triton_ops.py",
    "lm/train.py",
    "lm/training/averages.py",
    "lm/training/checkpoints.py",
    "lm/training/fake_quantization.py",
    "lm/training/flops.py",
    "lm/training/group.py",
    "lm/training/launch.py",
    "lm/training/optim.py",
    "lm/training/rows.py",
    "lm/training/run_log.py",
    "quant/checkpoints.py",
}  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "import pgolf_codec; pgolf_codec.compress, pgolf_codec.PgolfError",
        "from pgolf_codec.cli import main; assert main(['--help']) == 0",
        "from pgolf_codec.cli import main; assert main(['compress', '--help']) == 0",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.split())
    assert "pgolf_codec" in modules
    assert not modules & HEAVY


def test_all_is_there() -> None:
    assert [name for name in pgolf_codec.__all__ if not hasattr(pgolf_codec, name)] == []


def test_torch_is_for_training() -> None:
    importers = set()
    for folder in ("codec", "lm", "quant", "eval", "pgolf_codec"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                else:
                    continue
                if any(name.split(".")[0] == "torch" for name in names):
                    importers.add(path.relative_to(ROOT).as_posix())
    assert "lm/floats/model.py" in importers
    assert importers <= TORCH_MAY_BE_IN
