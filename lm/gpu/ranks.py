"""The processes that ``torchrun`` has started, as :class:`pgolf_codec.codec.sharding.Ranks`.

What they exchange is coded frames and names, so the backend is gloo, on GPUs too.
"""

from __future__ import annotations

import atexit
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


class TorchRanks:
    """Satisfies ``Ranks``.  Joins the others, as the environment of ``torchrun`` says.

    The first one of a process joins and stays to the end: whoever leaves and joins again
    meets the traces of the first time.
    """

    def __init__(self) -> None:
        if not dist.is_initialized():
            dist.init_process_group("gloo")
            atexit.register(dist.destroy_process_group)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def all_gather(self, mine: T) -> list[T]:
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found  # type: ignore[return-value]
