"""Training in several processes of this machine, by ``torchrun``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from pgolf_codec.lm.build import run_to_the_end
from pgolf_codec.lm.train_options import all_settings


def default_ranks(batch_rows: int) -> int:
    """As many as there are GPUs, or else CPUs, among which a batch can be dealt out evenly."""
    import torch

    most = torch.cuda.device_count() or os.cpu_count() or 1
    return max(n for n in range(1, most + 1) if batch_rows % n == 0)


def train_in_ranks(options: argparse.Namespace, ranks: int) -> int:
    """Train as the options of :func:`add_train_options` say; the exit status of ``torchrun``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={ranks}", "-m", "pgolf_codec.lm.train"]
    command += ["--config", options.config or options.recipe]
    command += ["--tokens", str(options.tokens), "--out", str(options.out)]
    for setting in all_settings(options):
        command += ["--set", setting]
    command += [] if options.compile else ["--no-compile"]
    environment = {**os.environ}
    environment.setdefault("OMP_NUM_THREADS", "1")  # ranks are faster than threads
    try:
        run_to_the_end(command, environment)
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 128 - error.returncode
    return 0
