"""Moments against the loss itself: a small random model, disturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pgolf_codec.errors import CorruptError
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.conversion.calibration import calibrate
from pgolf_codec.lm.conversion.dequantize import float_model
from pgolf_codec.lm.conversion.export import Search, balance, matrices, merge_scales, quantize
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant.coders.trellis import encode
from pgolf_codec.quant.moments import Moments, load_moments, save_moments
from pgolf_codec.quant.quantizers import Waterfilled, curvatures

CONFIG = ModelConfig(
    vocab_size=64,
    n_layers=2,
    d_model=32,
    n_heads=4,
    n_kv_heads=2,
    d_head=8,
    d_hidden=48,
    windows=(16, 32),
    rope_dims=4,
    bigram_buckets=128,
    bigram_dim=8,
)


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(CONFIG, 64)
    model.init_weights(3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("wo", "down", "bigram")):
                p.normal_(std=0.3 * p.size(1) ** -0.5, generator=generator)
            elif name.endswith("scale"):
                p.uniform_(0.5, 1.5, generator=generator)
        model.embedding.mul_(10)  # logits that are not all alike
    return merge_scales(model.eval())


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.randint(2, 64, (24, 64), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def moments(model: Transformer, rows: torch.Tensor) -> dict[str, Moments]:
    return calibrate(model, rows, rows.numpy().reshape(-1))


def log_p(model: Transformer, rows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(rows)).log_softmax(-1)


def changed(model: Transformer, name: str, error: np.ndarray) -> Transformer:
    """A copy whose matrix ``name`` has an error."""
    out = merge_scales(model)
    p = dict(out.named_parameters())
    block, _, matrix = name.rpartition(".")
    e = torch.from_numpy(error).float()
    with torch.no_grad():
        if matrix == "qkv":
            for part, to in zip(e.split((32, 16, 16)), ("wq", "wk", "wv"), strict=True):
                p[f"{block}.attention.{to}"].add_(part)
        elif block:
            p[f"{block}.{'attention' if matrix == 'wo' else 'mlp'}.{matrix}"].add_(e)
        else:
            p[name].add_(e)
    return out


@pytest.mark.parametrize(
    "name",
    ["embedding", "bigram", "bigram_proj", "blocks.0.qkv", "blocks.0.wo", "blocks.1.up"]
    + ["blocks.1.down"],
)
def test_told_loss_is_the_divergence(
    name: str, model: Transformer, rows: torch.Tensor, moments: dict[str, Moments]
) -> None:
    """Nats a token, between the model and the same with noise on one matrix."""
    w = matrices(model)[name]
    error = np.random.default_rng(1).standard_normal(w.shape) * 0.03 * w.std()
    before, after = log_p(model, rows), log_p(changed(model, name, error), rows)
    divergence = float((before.exp() * (before - after)).sum(-1).mean())
    assert moments[name].loss(error) == pytest.approx(divergence, rel=0.35)


def test_names_are_the_artifacts(model: Transformer, moments: dict[str, Moments]) -> None:
    shapes = {name: w.shape for name, w in matrices(model).items()}
    assert {n: (m.outputs.size, m.inputs.shape[0]) for n, m in moments.items()} == shapes


def test_balanced_is_the_same_function(
    model: Transformer, rows: torch.Tensor, moments: dict[str, Moments]
) -> None:
    even, even_moments = balance(model, moments)
    assert not torch.equal(dict(even.named_parameters())["blocks.0.mlp.up"], model.blocks[0].mlp.up)
    assert torch.allclose(log_p(even, rows), log_p(model, rows), atol=1e-4)
    again = calibrate(even, rows, rows.numpy().reshape(-1))
    for name, m in again.items():
        assert np.allclose(m.inputs, even_moments[name].inputs, rtol=0.02, atol=1e-7), name
        assert np.allclose(m.outputs, even_moments[name].outputs, rtol=0.02, atol=1e-9), name
    spread, even_spread = (
        np.log2(curvatures(m)["blocks.0.down"].column_weights).std()
        for m in (moments, even_moments)
    )
    assert even_spread < spread / 3  # not 0: the order of the columns is another


def test_moments_can_be_kept(moments: dict[str, Moments], tmp_path: Path) -> None:
    path = tmp_path / "moments.npz"
    save_moments(path, moments)
    back = load_moments(path)
    assert list(back) == list(moments)
    assert all(np.array_equal(back[name].inputs, m.inputs) for name, m in moments.items())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptError, match="moments"):
        load_moments(path)


@pytest.mark.parametrize("n_states", [1, 8])
def test_export_takes_a_quantizer(
    n_states: int, model: Transformer, rows: torch.Tensor, moments: dict[str, Moments]
) -> None:
    quantizer = Waterfilled(curvatures(moments), 1e-7, n_states)
    weights = quantize(model, rows, quantizer)
    assert np.array_equal(
        weights.tensors["blocks.1.up.q"],
        quantizer("blocks.1.up", matrices(model)["blocks.1.up"], "rows").values,
    )
    before, after = log_p(model, rows), log_p(float_model(weights, 64), rows)
    divergence = float((before.exp() * (before - after)).sum(-1).mean())
    assert divergence == pytest.approx(1e-7 * weights.n_params, rel=0.5)


def test_a_model_lands_under_its_cap(
    model: Transformer, rows: torch.Tensor, moments: dict[str, Moments], tmp_path: Path
) -> None:
    asked: list[int] = []

    def weigh(weights: IntegerWeights) -> int:
        named = weights.tensors.items()
        asked.append(sum(len(encode(t, 8)) for name, t in named if name.endswith(".q")))
        return asked[-1]

    def found(log: Callable[[str], None]) -> IntegerWeights:
        search = Search(merge_scales(model), rows, moments, 8)
        return search.within(weigh, 8800, keep=tmp_path / "tries", log=log)

    lines: list[str] = []
    weights = found(lines.append)
    assert 8791 <= weigh(weights) <= 8800
    assert len(lines) == len(asked) - 1 > 1
    asked.clear()
    again = found(lines.append)
    assert asked == []  # all known
    assert all(np.array_equal(t, again.tensors[name]) for name, t in weights.tensors.items())
