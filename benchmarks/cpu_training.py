"""A training run on one core, timed by CPU seconds: what recipes.py and scaling.py do many of."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pgolf_codec.lm.config import ModelConfig, TrainConfig

if TYPE_CHECKING:
    from pgolf_codec.lm.train import Training

VAL_ROWS = 96
"""Of the held-out text, at its beginning: what a run is measured on."""


def train(
    model: ModelConfig, config: TrainConfig, tokens: Path, out: Path, *, compile: bool = True
) -> Training:
    """Train until the budget is spent, from ``out``'s checkpoint if there is one, and measure.

    Seconds are of this process's CPU, which others can't take from it.  A signal ends the
    process, behind a checkpoint.
    """
    import torch

    from pgolf_codec.lm.train import Training
    from pgolf_codec.lm.training.group import Group
    from pgolf_codec.lm.training.rows import open_tokens
    from pgolf_codec.lm.training.stopping import StopRequest

    torch.set_num_threads(1)
    data = open_tokens(tokens, config.seq_len)
    n_val = VAL_ROWS * config.seq_len
    n_bytes = round(data.val_bytes * n_val / len(data.val))
    data = dataclasses.replace(data, val=data.val[:n_val], val_bytes=n_bytes)
    config = dataclasses.replace(config, eval_seconds=1e9)
    out.mkdir(parents=True, exist_ok=True)
    training = Training(model, config, data, out, Group(torch.device("cpu"), 0, 1))
    training.clock = time.process_time
    training.resume()
    training.start(compile)
    with StopRequest() as request:
        while not (training.is_over or training.must_stop):
            training.advance(request)
        training.finish()
    if training.must_stop:
        sys.exit(128 + training.must_stop)
    return training


def in_a_process(script: str, *arguments: str | Path) -> None:
    """Run a script with one thread."""
    command = [sys.executable, script, *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
