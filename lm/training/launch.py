"""Training in several processes of this machine, as ``torchrun --standalone`` starts them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import uuid

from pgolf_codec.lm.training.options import all_settings


def default_ranks(batch_rows: int) -> int:
    """As many as there are GPUs, or else CPUs, among which a batch can be dealt out evenly.

    One for Apple's GPU.
    """
    import torch

    if not torch.cuda.device_count() and torch.backends.mps.is_available():
        return 1
    most = torch.cuda.device_count() or os.cpu_count() or 1
    return max(n for n in range(1, most + 1) if batch_rows % n == 0)


def train_in_ranks(options: argparse.Namespace, ranks: int) -> int:
    """Train as the options of :func:`add_train_options` say; the exit status.

    A rank says itself why it ends; what torch's agent would add to that is kept quiet.
    """
    from torch.distributed.elastic.agent.server import api as agent
    from torch.distributed.elastic.multiprocessing import api as processes
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    arguments = ["-m", "pgolf_codec.lm.train", "--config", options.config or options.recipe]
    arguments += ["--tokens", str(options.tokens), "--out", str(options.out)]
    for setting in all_settings(options):
        arguments += ["--set", setting]
    arguments += [] if options.compile else ["--no-compile"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # ranks are faster than threads
    for module in (agent, processes):
        logging.getLogger(module.__name__).setLevel(logging.CRITICAL)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(launch, sys.executable)(*arguments)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        status = int(failure.exitcode)
        return status if status > 0 else 128 - status
    return 0
