"""A tiny model and a hot one, on numba and on torch's CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))  # for tiny_model.py, environments.py

from tiny_model import hot_weights, tiny_config, tiny_tokenizer, tiny_weights

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights

Engines = tuple[Engine, TorchEngine]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: Tokenizer) -> IntegerWeights:
    return tiny_weights(tokenizer)


@pytest.fixture(scope="session", params=["tiny", "hot"])
def engines(request: pytest.FixtureRequest, tokenizer: Tokenizer, tiny: IntegerWeights) -> Engines:
    """The same model twice: on numba, on torch."""
    weights = tiny
    if request.param == "hot":
        weights = hot_weights(tiny_config(tokenizer.n_symbols), 3)
    return Engine(weights, bytes(32)), TorchEngine(weights, bytes(32), torch.device("cpu"))
