"""Checkpoints: all that a run needs to go on exactly where it was, in one atomic file.

model         weights by name: those to use, which are the mean's if one is kept
trained       weights by name to go on from, if they are not the same
average       state of the mean of weights, if there is one
optimizers    a list of their states
step          steps that are done
seconds       that they took, as the schedules count them
step_seconds  that the last ones took
model_config  of :meth:`ModelConfig.to_dict`
settings      what must not change before the run goes on: :func:`settings_of`
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.files import replacing
from pgolf_codec.lm.config import CADENCE, TrainConfig
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.model_config import ModelConfig
from pgolf_codec.lm.training.averages import WeightAverage

FILE = "checkpoint.pt"


@dataclass(slots=True)
class Done:
    """How far a run is."""

    step: int = 0
    """Steps that are done."""
    seconds: float = 0.0
    """That they took: compiling, validating and saving are not counted."""
    step_seconds: float = 0.0
    """That the last ones took, about."""


def settings_of(config: TrainConfig, tokens: str) -> dict[str, Any]:
    """All that makes a run another one: its config but for :data:`CADENCE`, and the digest
    of its tokens."""
    values = {key: value for key, value in asdict(config).items() if key not in CADENCE}
    return {**values, "tokens": tokens}


def save_checkpoint(
    path: Path,
    model: Transformer,
    optimizers: list[torch.optim.Optimizer],
    average: WeightAverage | None,
    done: Done,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write ``path`` as a whole, or leave what is there."""
    state: dict[str, Any] = {
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        **asdict(done),
        "model_config": model.config.to_dict(),
        "settings": dict(settings or {}),
    }
    if average is not None:
        state["trained"] = {name: p.detach().clone() for name, p in model.state_dict().items()}
        state["average"] = average.state_dict()
        average.swap(model)
        state["model"] = {name: p.detach().clone() for name, p in model.state_dict().items()}
        average.swap(model)
    else:
        state["model"] = model.state_dict()
    with replacing(path, overwrite=True) as file:
        torch.save(state, file)


def load_checkpoint(
    path: Path,
    model: Transformer,
    optimizers: list[torch.optim.Optimizer],
    average: WeightAverage | None,
    settings: Mapping[str, Any] | None = None,
) -> Done:
    """Take over a checkpoint's state; tell what is behind it.

    Raises :class:`ConfigError` if it is another model's or of other settings, which are
    named, and :class:`CorruptError` if it is none.
    """
    state = read_checkpoint(path, "step", "seconds", "optimizers")
    if ModelConfig.from_dict(state["model_config"]) != model.config:
        raise ConfigError(f"{path} is a checkpoint of another model")
    if ("average" in state) != (average is not None):
        raise ConfigError(f"{path} was trained with other settings of ema and swa_every")
    _need_same(path, state.get("settings", {}), settings or {})
    try:
        model.load_state_dict(state.get("trained", state["model"]))
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            _load_optimizer(optimizer, saved)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path} is of other settings: {error}") from None
    if average is not None:
        average.load_state_dict(state["average"])
    return Done(state["step"], state["seconds"], state.get("step_seconds", 0.0))


def read_checkpoint(path: Path, *more: str) -> dict[str, Any]:
    """Its state: the model, and ``more`` entries.

    Raises :class:`CorruptError` if it is damaged, or something else.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        if {"model", "model_config", *more} <= set(state):
            return dict(state)
    except FileNotFoundError:
        raise
    except (RuntimeError, OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError):
        pass
    raise CorruptError(f"{path}: damaged, or no checkpoint; a run without one starts anew")


def _need_same(path: Path, saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for what is known of both and differs."""
    changed = [key for key in settings if key in saved and saved[key] != settings[key]]
    if changed == ["tokens"]:
        raise ConfigError(f"{path} was trained on other tokens; take another folder")
    if changed:
        told = ", ".join(f"{key} {saved[key]}" for key in changed if key != "tokens")
        raise ConfigError(f"{path} was trained with {told}; take another folder, or the same")


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Its state; rates and the like are those of the config, not those that were saved."""
    groups = [
        {**ours, "params": theirs["params"]}
        for ours, theirs in zip(
            optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True
        )
    ]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
