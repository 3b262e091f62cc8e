"""The processes of ``torchrun``, as verbs see them; without it there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgolf_codec.codec.sharding import Ranks


def all_ranks() -> Ranks:
    """Join the others, if there are some."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        from pgolf_codec.codec.sharding import OneRank

        return OneRank()
    from pgolf_codec.lm.gpu.ranks import TorchRanks

    return TorchRanks()


def is_first() -> bool:
    """Whether this is the process that speaks for all."""
    return int(os.environ.get("RANK", "0")) == 0
