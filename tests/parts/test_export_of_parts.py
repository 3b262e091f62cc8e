"""Every part has integers: the float graph, that of the integers, and the engine agree."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_models import (  # noqa: E402
    LENGTH,
    PARTS,
    config_of,
    log_probabilities,
    random_ids,
    random_model,
)

from pgolf_codec.lm.conversion.dequantize import float_model  # noqa: E402
from pgolf_codec.lm.conversion.export import quantize  # noqa: E402
from pgolf_codec.lm.floats.model import Transformer  # noqa: E402
from pgolf_codec.lm.integers.engine import Engine  # noqa: E402
from pgolf_codec.lm.training.fake_quantization import activation_map  # noqa: E402

STEPS = {"matrix": 40.0, "embedding": 40.0, "bigram": 40.0}
"""Fine steps: it is the graph that is tested, not the price of rounding."""


@pytest.mark.parametrize("name", PARTS)
def test_integers_of_the_same_graph(name: str) -> None:
    model, ids = random_model(config_of(name)), random_ids()
    ids[0, LENGTH // 2] = 7  # streams have one document
    weights = quantize(model, ids, STEPS)
    assert weights.config.weights == "float"
    expected = log_probabilities(float_model(weights, LENGTH), ids)
    exact = log_probabilities(model, ids)
    assert (expected - exact).abs().mean() < 0.1
    session = Engine(weights, bytes(32)).session(2)
    found, previous = [], None
    for t in range(LENGTH):
        w = session.weights(previous).astype(np.float64)
        previous = ids[:, t + 1].numpy().astype(np.int32) if t + 1 < LENGTH else None
        found.append(np.log(np.maximum(w, 0.5) / w.sum(1, keepdims=True)))
    difference = np.abs(np.stack(found, 1) - expected.numpy())[expected.numpy() > -9]
    assert difference.mean() < 0.09
    other = log_probabilities(random_model(config_of(name), 5), ids)
    assert (other - expected).abs().mean() > 10 * difference.mean()


def test_late_rounding_is_that_of_the_engine() -> None:
    """With it the float graph comes nearer to the integers; behind one layer it still shows."""
    nearer, without = 0.0, 0.0
    for seed in (1, 2, 3):
        model = random_model(config_of("attention gate", n_layers=1, windows=(100,)), seed)
        ids = random_ids(seed)
        weights = quantize(model, ids, STEPS)
        _, freq = Engine(weights, bytes(32)).session(2).intervals(ids.numpy().astype(np.int32))
        found = -np.log(freq / 2.0**24)
        inputs = torch.cat((torch.ones(2, 1, dtype=torch.int64), ids[:, :-1]), dim=1)

        def distance(graph: Transformer) -> float:
            nats = -log_probabilities(graph, inputs).gather(2, ids[:, :, None])[..., 0]  # noqa: B023
            return float(np.abs(nats.numpy() - found).mean())  # noqa: B023

        graph = float_model(weights, LENGTH)
        without += distance(graph)
        graph.set_activation_map(activation_map)
        nearer += distance(graph)
    assert nearer < 0.8 * without


@pytest.mark.parametrize("name", ["ternary", "binary"])
def test_weights_of_few_levels_are_kept_exactly(name: str) -> None:
    model, ids = random_model(config_of(name)), random_ids()
    tensors = quantize(model, ids, {"matrix": 2.0, "embedding": 40.0, "bigram": 40.0}).tensors
    for matrix in ("qkv", "wo", "up", "down"):
        q = tensors[f"blocks.2.{matrix}.q"]
        assert set(np.unique(q)) == ({-1, 0, 1} if name == "ternary" else {-1, 1})
    assert np.abs(tensors["embedding.q"]).max() > 1
    up = model.blocks[2].mlp.weight("up").detach().numpy()
    stored = tensors["blocks.2.up.q"] * tensors["blocks.2.up.s"].astype(np.float32)[:, None]
    assert np.abs(stored - up).max() < 1e-3 * np.abs(up).max()


@pytest.mark.parametrize("name", ["ternary", "attention gate"])
def test_queries_and_keys_of_any_size(name: str) -> None:
    """They are normalised; the engine has multipliers of 31 bits for what comes before that."""
    model, ids = random_model(config_of(name)), random_ids()
    before = quantize(model, ids, STEPS)
    with torch.no_grad():
        for w in (model.blocks[0].attention.wq, model.blocks[0].attention.wk):
            w.mul_(1 << 10)
    after = quantize(model, ids, STEPS)
    c = before.config
    n = (c.n_heads + c.n_kv_heads) * c.d_head
    old, new = (w.tensors.pop("blocks.0.qkv.s").astype(np.float64) for w in (before, after))
    assert 1 / 8 <= new[:n].max() < 1 / 4
    assert np.unique(new[:n] / old[:n]).size == 1
    assert np.array_equal(new[n:], old[n:])
    for key, tensor in before.tensors.items():
        assert np.array_equal(after.tensors[key], tensor), key
