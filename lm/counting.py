"""Parameters of a model, counted by what they are for; ``python -m pgolf_codec.lm.counting``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from pgolf_codec.lm.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers that a model is trained with, each counted once."""

    embedding: int
    """Tables by token, and heads of the logits."""
    pairs: int
    """The table of token pairs and its projection."""
    attention: int
    mlp: int
    rest: int
    """Gains, scales, mixing vectors, skips."""
    dropped: int
    """Heads that are only there in training; not in the total."""
    n_layers: int
    n_passes: int

    @property
    def total(self) -> int:
        return self.embedding + self.pairs + self.attention + self.mlp + self.rest

    def __str__(self) -> str:
        """A table of lines."""
        rows = [
            ("embedding, heads", self.embedding),
            ("token pairs", self.pairs),
            ("attention", self.attention),
            ("MLP", self.mlp),
            ("gains, scales, mixes", self.rest),
            ("total", self.total),
        ]
        if self.dropped:
            rows.append(("in training only", self.dropped))
        lines = [f"{name:<22}{n:>14,}" for name, n in rows]
        return "\n".join([*lines, f"{'layers, passes':<22}{self.n_layers:>10} {self.n_passes:>3}"])


def count(config: ModelConfig) -> Counts:
    """The parameters of the float model, of which no memory is taken."""
    import torch

    from pgolf_codec.lm.floats.model import MATRICES, Transformer

    with torch.device("meta"):
        parameters = list(Transformer(config, 1).named_parameters())
    sums = dict.fromkeys(("embedding", "pairs", "attention", "mlp", "rest", "dropped"), 0)
    for name, p in parameters:
        last = name.split(".")[-1]
        if last == "mtp":
            kind = "dropped"
        elif last.startswith(("embedding", "head", "value_table", "value_proj")):
            kind = "embedding"
        elif last.startswith("bigram"):
            kind = "pairs"
        elif last.removesuffix("_in") in MATRICES:
            kind = name.split(".")[2]
        else:
            kind = "rest"
        sums[kind] += p.numel()
    return Counts(**sums, n_layers=config.n_layers, n_passes=len(config.order))


def main() -> None:
    from pgolf_codec.lm.presets import load_preset, preset_names

    parser = argparse.ArgumentParser(description="Count the parameters of presets.")
    parser.add_argument("presets", nargs="*", help="names or recipes; all of them by default")
    for name in parser.parse_args().presets or preset_names():
        print(f"{name}\n{count(load_preset(name).model)}\n")


if __name__ == "__main__":
    main()
