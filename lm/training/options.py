"""Options of training, for ``python -m pgolf_codec.lm.train`` and for the verb ``train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import ModelConfig, TrainConfig, with_settings
from pgolf_codec.lm.presets import load_preset


def add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="as --config")
    parser.add_argument("--config", metavar="NAME", help="a preset, or the file of a recipe")
    parser.add_argument(
        "--tokens",
        type=Path,
        required=True,
        metavar="DIR",
        help="token shards of data fineweb or data build, or the tokens folder of a build",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="checkpoint, metrics, log and curve"
    )
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--minutes", type=float, metavar="M", help="of training; the recipe's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another key of the recipe's [train] table; may be repeated",
    )
    parser.add_argument(
        "--no-compile", dest="compile", action="store_false", help="start at once, train slowly"
    )


def train_settings(options: argparse.Namespace) -> tuple[ModelConfig, TrainConfig]:
    """What to train and how; raises :class:`ConfigError`."""
    name = options.config or options.recipe
    if not name or (options.config and options.recipe):
        raise ConfigError("one recipe must be named: --config NAME")
    preset = load_preset(name)
    return preset.model, with_settings(preset.train, all_settings(options))


def all_settings(options: argparse.Namespace) -> list[str]:
    """``key=value`` for every key that the options name."""
    named = {"seed": options.seed, "minutes": options.minutes}
    given = [f"{key}={value}" for key, value in named.items() if value is not None]
    return [*options.set, *given]
