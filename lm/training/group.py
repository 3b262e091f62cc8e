"""The ranks that train one model together, or the only one.

Every rank trains on its own GPU if there are any; else on the CPU, where ranks of one thread
each (``OMP_NUM_THREADS=1``) are faster than threads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from pgolf_codec.errors import ConfigError


def pick_device() -> torch.device:
    """This rank's own GPU, Apple's, or the CPU if there are none."""
    n_gpus = torch.cuda.device_count()
    if not n_gpus:  # Apple's is for one rank: gloo sums nothing there
        alone = os.environ.get("WORLD_SIZE", "1") == "1"
        return torch.device("mps" if alone and torch.backends.mps.is_available() else "cpu")
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > n_gpus:
        raise ConfigError(f"more ranks than GPUs, of which there are {n_gpus}")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that ``torchrun`` has started."""

    device: torch.device
    rank: int
    world: int

    def average_gradients(self, model: torch.nn.Module) -> None:
        """All-reduce every gradient as one flat buffer."""
        if self.world == 1:
            return
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for g, f in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            torch.div(f.view_as(g), self.world, out=g)

    def sums(self, *values: float) -> list[float]:
        """Each value, summed over the ranks; the same on all."""
        if self.world == 1:
            return list(values)
        # No float64 on Apple's GPUs, where there are no ranks either.
        both = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(both)
        return both.tolist()


def join() -> Group:
    """Join the others, as the environment of ``torchrun`` says; :func:`leave` when done.

    Raises :class:`ConfigError` if there are more ranks than GPUs.
    """
    device = pick_device()
    if "WORLD_SIZE" not in os.environ:
        return Group(device, 0, 1)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Group(device, dist.get_rank(), dist.get_world_size())


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
