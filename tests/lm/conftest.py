"""A tiny model, a hot one, and their engines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_model.py, reference.py, environments.py

from tiny_model import hot_weights, tiny_config, tiny_tokenizer, tiny_weights

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def weights(tokenizer: Tokenizer) -> IntegerWeights:
    return tiny_weights(tokenizer)


@pytest.fixture(scope="session")
def engine(weights: IntegerWeights) -> Engine:
    return Engine(weights, bytes(32))


@pytest.fixture(scope="session")
def hot_engine(tokenizer: Tokenizer) -> Engine:
    return Engine(hot_weights(tiny_config(tokenizer.n_symbols), 3), bytes(32))
