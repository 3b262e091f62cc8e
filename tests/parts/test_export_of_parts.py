"""What is exported of each part: its integers, or a refusal that names it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_models import LENGTH, PARTS, config_of, log_probabilities, random_ids, random_model  # noqa: E402

from pgolf_codec.errors import ExportError  # noqa: E402
from pgolf_codec.lm.dequantize import float_model  # noqa: E402
from pgolf_codec.lm.engine import Engine  # noqa: E402
from pgolf_codec.lm.export import MISSING, quantize  # noqa: E402

STEPS = {"matrix": 40.0, "embedding": 40.0, "bigram": 40.0}
"""Fine steps: it is the graph that is tested, not the price of rounding."""


def refused(name: str) -> list[str]:
    """Switches of a part that the engine has no integers for."""
    c = config_of(name)
    return [switch for switch, (needed, _) in MISSING.items() if getattr(c, switch) != needed]


@pytest.mark.parametrize("name", [name for name in PARTS if not refused(name)])
def test_integers_of_the_same_graph(name: str) -> None:
    """The float model, the float model of the integers, and the engine agree."""
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
        found.append(np.log(w / w.sum(1, keepdims=True)))
    difference = np.abs(np.stack(found, 1) - expected.numpy())[expected.numpy() > -11]
    assert difference.mean() < 0.03
    assert difference.max() < 0.4
    other = log_probabilities(random_model(config_of(name), 5), ids)
    assert (other - expected).abs().max() > difference.max()


@pytest.mark.parametrize("name", [name for name in PARTS if refused(name)])
def test_what_is_missing_is_named(name: str) -> None:
    model, ids = random_model(config_of(name)), random_ids()
    with pytest.raises(ExportError, match=refused(name)[0]):
        quantize(model, ids, STEPS)


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
