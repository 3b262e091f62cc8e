"""The fused kernels, where triton is installed: in its interpreter, and compiled for GPUs."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from environments import digest
from tiny_model import PARTS, hot_weights, prose_ids, tiny_config

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@needs_triton
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["tiny", "hot", "all", "all tied"])
def test_interpreted(name: str) -> None:
    """One stream, a few steps: the interpreter takes seconds for each."""
    done = subprocess.run(
        [sys.executable, str(HERE / "interpreted.py"), name, "10"],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


@needs_triton
@pytest.mark.timeout(600)
@pytest.mark.parametrize("capability", [80, 90])
def test_compiled(capability: int) -> None:
    """To machine code, which needs no GPU."""
    done = subprocess.run(
        [sys.executable, str(HERE / "compiled.py"), str(capability)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = {"_activation": 2, "_attention": 2, "_residual": 4, "_to_bytes": 1}
    assert Counter(done.stdout.split()) == names


@needs_gpu
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("name", "n_streams"), [("tiny", 1), ("tiny", 130), ("all tied", 5)])
def test_on_the_gpu(
    tiny: IntegerWeights, tokenizer: Tokenizer, name: str, n_streams: int, fused: bool
) -> None:
    device = torch.device("cuda")
    if fused and not TorchEngine.fuses(device):
        pytest.skip("triton is not installed")
    config = dataclasses.replace(tiny_config(tokenizer.n_symbols), **PARTS.get(name, {}))
    weights = tiny if name == "tiny" else hot_weights(config, 3)
    ids = prose_ids(tokenizer, n_streams, 150)
    expected = Engine(weights, bytes(32)).session(n_streams).intervals(ids)
    on_gpu = TorchEngine(weights, bytes(32), device, fused=fused)
    assert digest(*on_gpu.session(n_streams).intervals(ids)) == digest(*expected)
