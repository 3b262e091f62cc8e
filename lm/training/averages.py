"""Means of the weights over a run: what is kept in place of the last ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pgolf_codec.lm.config import TrainConfig


class WeightAverage:
    """An exponential mean (``ema``), or the plain mean of every ``swa_every``-th step's weights.

    The memory of the exponential one is (n + 1) / (n + 10) while that is less, so
    that the weights at first are soon forgotten.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.config = config
        self.n_seen = 0
        self.mean = {
            name: p.detach().clone().float().contiguous() for name, p in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, factor: float) -> None:
        """After a step, at which learning rates were multiplied by ``factor``."""
        c = self.config
        if not c.ema and (factor > c.swa_at or step % c.swa_every):
            return
        if c.ema:
            keep = min(c.ema, (self.n_seen + 1) / (self.n_seen + 10))
        else:
            keep = self.n_seen / (self.n_seen + 1)
        self.n_seen += 1
        for name, p in model.named_parameters():
            self.mean[name].lerp_(p.float(), 1 - keep)

    def state_dict(self) -> dict[str, Any]:
        return {"n_seen": self.n_seen, "mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n_seen = state["n_seen"]
        for name, mean in state["mean"].items():
            self.mean[name].copy_(mean)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights and their mean, if there is one by now; twice is nothing."""
        if not self.n_seen:
            return
        for name, p in model.named_parameters():
            mean = self.mean[name]
            before = p.detach().clone()
            p.copy_(mean)
            mean.copy_(before)


def make_average(model: nn.Module, config: TrainConfig) -> WeightAverage | None:
    return WeightAverage(model, config) if config.ema or config.swa_every else None
