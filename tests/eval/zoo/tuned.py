"""Test-time training, score first; and the same with its update in the wrong place."""

from __future__ import annotations

import torch

from pgolf_codec.eval.tuning import Schedule, TunedScorer

torch.set_num_threads(1)
V, D = 257, 16


class Transformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for name, shape in {"embed": (V, D), "qkv": (D, 3 * D), "head": (D, V)}.items():
            weights = torch.randn(shape, generator=generator) / shape[0] ** 0.25
            setattr(self, name, torch.nn.Parameter(weights))

    def forward(self, ids):
        x = self.embed[ids]
        q, k, v = (x @ self.qkv).split(D, dim=-1)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        scores = (q @ k.transpose(1, 2) / D**0.5).masked_fill(~mask, float("-inf"))
        return (x + scores.softmax(-1) @ v) @ self.head


def full():
    return TunedScorer(Transformer(), V, Schedule(learning_rate=0.02, block=8), first=256)


def full_sgd():
    schedule = Schedule(learning_rate=0.3, optimizer="sgd", block=8, passes=2)
    return TunedScorer(Transformer(), V, schedule, first=256)


def low_rank():
    schedule = Schedule(learning_rate=0.05, block=8, rank=4)
    return TunedScorer(Transformer(), V, schedule, first=256)


def each_document():
    schedule = Schedule(learning_rate=0.05, block=8, rank=4)
    return TunedScorer(Transformer(), V, schedule, first=256, independent_documents=True)


class UpdateFirst(TunedScorer):
    """Takes its steps on a block before it says how probable the block was."""

    def score(self, ids):
        past = self._past
        super().learn(ids)
        self._past = past
        return super().score(ids)

    def learn(self, ids):
        self._past = [*self._past, *ids.tolist()][-self._schedule.context :]


def update_first():
    return UpdateFirst(Transformer(), V, Schedule(learning_rate=0.02, block=8), first=256)
