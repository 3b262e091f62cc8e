"""Options of training, for ``python -m pgolf_codec.lm.train`` and for the verb ``train``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import ModelConfig, TrainConfig, with_settings
from pgolf_codec.lm.data.variants import VARIANTS
from pgolf_codec.lm.presets import load_preset


def add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="as --config")
    parser.add_argument("--config", metavar="NAME", help="a preset, or the file of a recipe")
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="DIR",
        help="token shards of data fineweb or data build, or the tokens folder of a build; by "
        "default $DATA_PATH, or what data fineweb gets for the recipe's vocabulary",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="checkpoint, metrics, log and curve; by default runs/CONFIG-SEED",
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
    """What to train and how; ``tokens`` and ``out`` are set if they are not.

    Raises :class:`ConfigError`.
    """
    name = options.config or options.recipe
    if not name or (options.config and options.recipe):
        raise ConfigError("one recipe must be named: --config NAME")
    preset = load_preset(name)
    config = with_settings(preset.train, all_settings(options))
    options.tokens = options.tokens or default_tokens(preset.model.vocab_size)
    options.out = options.out or Path("runs") / f"{Path(name).stem}-{config.seed}"
    return preset.model, config


def default_tokens(vocab_size: int) -> Path:
    """``DATA_PATH``, or where ``data fineweb`` puts the challenge's shards of these symbols.

    Raises :class:`ConfigError` if they are not there.
    """
    if named := os.environ.get("DATA_PATH"):
        return Path(named)
    variant = f"sp{vocab_size}"
    if variant not in VARIANTS:
        raise ConfigError(
            f"the challenge has no shards of {vocab_size} symbols: name others by --tokens"
        )
    folder = Path("data") / "datasets" / VARIANTS[variant].dataset
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is not there: `pgolf-codec data fineweb --variant {variant}` gets it, "
            "or name others by --tokens"
        )
    return folder


def all_settings(options: argparse.Namespace) -> list[str]:
    """``key=value`` for every key that the options name."""
    named = {"seed": options.seed, "minutes": options.minutes}
    given = [f"{key}={value}" for key, value in named.items() if value is not None]
    return [*options.set, *given]
