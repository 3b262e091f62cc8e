"""The tiny model of tests/lm, and a smaller one for tests that flip every bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for reference_coders.py
sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))  # for tiny_model.py, reference.py

from tiny_model import hot_weights, tiny_tokenizer, tiny_weights

from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant.artifact import dump_artifact


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def weights(tokenizer: Tokenizer) -> IntegerWeights:
    return tiny_weights(tokenizer)


@pytest.fixture(scope="session")
def artifact(weights: IntegerWeights, tokenizer: Tokenizer) -> bytes:
    return dump_artifact(weights, tokenizer, name="tiny", bpb=2.5)


@pytest.fixture(scope="session")
def smallest_artifact() -> bytes:
    """One layer, 258 symbols."""
    config = ModelConfig(
        vocab_size=258,
        n_layers=1,
        d_model=8,
        n_heads=1,
        n_kv_heads=1,
        d_head=2,
        d_hidden=8,
        windows=(3,),
        rope_dims=2,
    )
    pieces = [
        Piece("<unk>", 0.0, PieceType.UNKNOWN),
        Piece("<s>", 0.0, PieceType.CONTROL),
        *(Piece(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256)),
    ]
    return dump_artifact(hot_weights(config, 1), Tokenizer(pieces, Kind.BPE), name="smallest")
