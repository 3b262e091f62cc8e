"""The processes that ``torchrun`` has started, as :class:`pgolf_codec.codec.sharding.Ranks`.

What they exchange is coded frames and names, so the backend is gloo, on GPUs too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


class TorchRanks:
    """Satisfies ``Ranks``; made by :func:`joined`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def all_gather(self, mine: T) -> list[T]:
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found  # type: ignore[return-value]


@contextlib.contextmanager
def joined() -> Iterator[TorchRanks]:
    """Join the others, as the environment of ``torchrun`` says."""
    dist.init_process_group("gloo")
    try:
        yield TorchRanks()
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """The number of this process on its machine: that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
