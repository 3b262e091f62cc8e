"""Test-time training, score first; and the same with its update in the wrong place."""

from __future__ import annotations

import dataclasses

import torch

from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.tuning import Learner, Schedule, TunedPredictor

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


SLIDING = Contexts(length=24, stride=8)


def tuned(schedule, reading=SLIDING, chunk=8):
    return TunedPredictor(Transformer(), V, schedule, reading, first=256, chunk=chunk)


def full():
    return tuned(Schedule(learning_rate=0.02))


def full_sgd():
    return tuned(Schedule(learning_rate=0.3, optimizer="sgd", passes=2))


def low_rank(chunk=8, **documents):
    reading = dataclasses.replace(SLIDING, **documents)
    return tuned(Schedule(learning_rate=0.05, rank=4), reading, chunk)


class ScoreFirst:
    """The same as an evaluation script has it: blocks, each learned from behind its score."""

    n_symbols, block = V, 8

    def __init__(self):
        self.learner = Learner(Transformer(), Schedule(learning_rate=0.02))

    def start(self):
        self.learner.reset()
        self.past = [256]

    def score(self, ids):
        return self.learner.distributions([*self.past, *ids[:-1].tolist()], len(ids))

    def learn(self, ids):
        self.learner.step([*self.past, *ids[:-1].tolist()], ids)
        self.past = [*self.past, *ids.tolist()][-17:]


class UpdateFirst(ScoreFirst):
    """Takes its steps on a block before it says how probable the block was."""

    def score(self, ids):
        self.learner.step([*self.past, *ids[:-1].tolist()], ids)
        return super().score(ids)

    def learn(self, ids):
        self.past = [*self.past, *ids.tolist()][-17:]
