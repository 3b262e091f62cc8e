"""The float graph that is trained and the integer graph that codes are the same graph."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_model import prose_ids, tiny_config

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.config import BOS_ID, ModelConfig
from pgolf_codec.lm.graph import rope_phases
from pgolf_codec.lm.integers.engine import Engine

torch = pytest.importorskip("torch")

LENGTH = 160
STEPS = {"matrix": 40.0, "embedding": 40.0, "bigram": 40.0}
"""Fine steps: it is the graph that is tested, not the price of rounding."""


def config(vocab_size: int) -> ModelConfig:
    # The float model wants a whole number of windows.
    return dataclasses.replace(tiny_config(vocab_size), windows=(40, 32, 8))


def random_model(c: ModelConfig, seed: int):
    from pgolf_codec.lm.floats.model import Transformer

    generator = torch.Generator().manual_seed(seed)
    model = Transformer(c, LENGTH)
    model.init_weights(seed)

    def normal(p: torch.Tensor, std: float, mean: float = 0.0) -> None:
        p.copy_(torch.randn(p.shape, generator=generator) * std + mean)

    with torch.no_grad():
        normal(model.embedding, 0.5)
        normal(model.smear, 0.3)
        normal(model.bigram, 0.5)
        for block in model.blocks:
            normal(block.mix, 0.2)
            block.mix[0] += 1
            normal(block.attention.wo, 0.2)
            normal(block.attention.gain, 0.5, 1.5)
            normal(block.attention.scale, 0.2, 1.0)
            normal(block.mlp.down, 0.1)
            normal(block.mlp.scale, 0.2, 1.0)
    return model.eval()


@pytest.mark.parametrize("seed", [1, 2])
def test_same_graph(tokenizer: Tokenizer, seed: int) -> None:
    from pgolf_codec.lm.conversion.export import quantize

    c = config(tokenizer.n_symbols)
    model = random_model(c, seed)
    targets = prose_ids(tokenizer, 2, LENGTH)
    inputs = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=BOS_ID).astype(np.int64)
    ids = torch.from_numpy(inputs)
    weights = quantize(model, ids, STEPS)
    assert weights.tensors["rope_phases"].tolist() == rope_phases(c)
    restored = with_rounded_matrices(model, weights.tensors)

    def log_probabilities(model) -> np.ndarray:
        with torch.no_grad():
            return model.logits(model(ids)).double().log_softmax(-1).numpy()

    session, found, previous = Engine(weights, bytes(32)).session(2), [], None
    for t in range(LENGTH):
        w = session.weights(previous).astype(np.float64)
        previous = targets[:, t]
        found.append(np.log(np.maximum(w, 1) / w.sum(1, keepdims=True)))
    integers, expected = np.stack(found, axis=1), log_probabilities(restored)
    likely = expected > np.log(1e-5)
    assert likely.sum() > 5000

    def distance(other: np.ndarray) -> float:
        return float(np.abs(other - integers)[likely].mean())

    # Activations are bytes in the one and floats in the other.
    assert distance(expected) < 0.09
    # A graph that lacks any part of it is far away.
    for name, lesser in without_a_part(restored).items():
        assert distance(log_probabilities(lesser)) > 3 * distance(expected), name


def without_a_part(model):
    """Models that are each other in one thing."""
    import copy

    others = {name: copy.deepcopy(model) for name in ("smear", "bigram", "x0", "gain", "up")}
    with torch.no_grad():
        others["smear"].smear.zero_()
        others["bigram"].bigram.zero_()
        for block in others["x0"].blocks:
            block.mix[1].zero_()
        for block in others["gain"].blocks:
            block.attention.gain.mul_(0.5)
        others["up"].blocks[0].mlp.up.neg_()
    return others


def with_rounded_matrices(model, tensors):
    """The float model of the integers."""
    import copy

    c = model.config
    out = copy.deepcopy(model)

    def matrix(name: str):
        q = torch.from_numpy(tensors[f"{name}.q"].astype(np.float32))
        return q * torch.from_numpy(tensors[f"{name}.s"].astype(np.float32))[:, None]

    unit = np.log2(np.e) / np.sqrt(c.d_head) * 2.0**20
    with torch.no_grad():
        out.embedding.copy_(matrix("embedding"))
        out.smear.copy_(torch.from_numpy(tensors["smear"].astype(np.float32)))
        bigram = tensors["bigram.q"] * tensors["bigram.s"].astype(np.float32)[None, :]
        out.bigram.copy_(torch.from_numpy(bigram))
        out.bigram_proj.copy_(matrix("bigram_proj"))
        heads, groups = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
        for i, block in enumerate(out.blocks):
            name, attention, mlp = f"blocks.{i}", block.attention, block.mlp
            block.mix.copy_(torch.from_numpy(tensors[f"{name}.mix"].astype(np.float32)))
            parts = matrix(f"{name}.qkv").split((heads, groups, groups))
            for target, part in zip((attention.wq, attention.wk, attention.wv), parts, strict=True):
                target.copy_(part)
            attention.gain.copy_(torch.from_numpy(tensors[f"{name}.gain"] / unit))
            attention.wo.copy_(matrix(f"{name}.wo"))
            attention.scale.fill_(1.0)
            mlp.up.copy_(matrix(f"{name}.up"))
            mlp.down.copy_(matrix(f"{name}.down"))
            mlp.scale.fill_(1.0)
    return out
