"""What changes in the course of a run: learning rates, momentum, weight decay.

Learning rates follow the part of the budget that is spent, so that the warmdown ends with the
time that there is, however long a step takes; the warmups count steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgolf_codec.lm.config import TrainConfig


def progress(seconds: float, step: int, config: TrainConfig) -> float:
    """The part of the budget that is spent, of the time or of the steps: whichever is more."""
    spent = seconds / (60 * config.minutes)
    return max(spent, step / config.iterations) if config.iterations else spent


def is_over(seconds: float, step: int, step_seconds: float, config: TrainConfig) -> bool:
    """Whether one more step, of ``step_seconds``, would not fit into the budget."""
    if config.iterations and step >= config.iterations:
        return True
    return seconds + step_seconds > 60 * config.minutes


def learning_rate_factor(progress: float, step: int, config: TrainConfig) -> float:
    """Of every base learning rate; ``progress`` is that of :func:`progress`."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    down = min(1.0, max(0.0, 1.0 - progress) / config.warmdown)
    return warm * down


def momentum_at(step: int, config: TrainConfig) -> float:
    """Muon's."""
    if not config.momentum_start or step >= config.momentum_warmup_steps:
        return config.momentum
    part = step / config.momentum_warmup_steps
    return config.momentum_start + part * (config.momentum - config.momentum_start)


def set_rates(optimizers: Sequence[Any], factor: float, step: int, config: TrainConfig) -> None:
    """Tell the optimizers of :mod:`pgolf_codec.lm.training.optim` what the step is."""
    decay = factor**config.weight_decay_taper
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
            group["weight_decay"] = group["base_decay"] * decay
            if "momentum" in group:
                group["momentum"] = momentum_at(step, config)
