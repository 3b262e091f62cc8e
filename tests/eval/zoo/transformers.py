"""A small causal transformer with random weights, asked in each of the ways there are."""

from __future__ import annotations

import torch

from pgolf_codec.eval.torch_model import CachedTorchPredictor, TorchPredictor, TorchScorer

torch.set_num_threads(1)
V, D, CONTEXT = 257, 16, 24


class Transformer(torch.nn.Module):
    def __init__(self, mask_offset=0):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        shapes = {"embed": (V, D), "qkv": (D, 3 * D), "out": (D, D), "head": (D, V)}
        self.w = {
            name: torch.randn(shape, generator=generator) / shape[0] ** 0.25
            for name, shape in shapes.items()
        }
        self.mask_offset = mask_offset

    def forward(self, ids, cache=None):
        x = self.w["embed"][ids]  # (1, t, D)
        q, k, v = (x @ self.w["qkv"]).split(D, dim=-1)
        if cache is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip(cache, (k, v), strict=True))
        t, s = q.shape[1], k.shape[1]
        mask = torch.ones(t, s, dtype=torch.bool).tril(s - t + self.mask_offset)
        scores = (q @ k.transpose(1, 2) / D**0.5).masked_fill(~mask, float("-inf"))
        x = x + scores.softmax(-1) @ v @ self.w["out"]
        return x @ self.w["head"], (k, v)


def without_cache():
    model = Transformer()
    return TorchPredictor(lambda ids: model(ids)[0], V, first=256, context=CONTEXT)


def with_cache():
    return CachedTorchPredictor(Transformer(), V, first=256, context=CONTEXT)


def scorer():
    model = Transformer()
    return TorchScorer(lambda ids: model(ids)[0], V, first=256, length=CONTEXT, stride=8)


def half_precision():
    """bfloat16 rounds otherwise when a row is computed among others."""
    model = Transformer()
    model.w = {name: w.bfloat16() for name, w in model.w.items()}
    return TorchScorer(lambda ids: model(ids)[0], V, first=256, length=CONTEXT, stride=8)


def peeking_scorer():
    """The mask lets each position see one more than it may."""
    model = Transformer(mask_offset=1)
    return TorchScorer(lambda ids: model(ids)[0], V, first=256, length=CONTEXT, stride=8)
