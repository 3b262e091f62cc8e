"""A group of frames dealt to the processes of one job.

All processes (*ranks*) run the same program over the same input; each codes its share
of every group, and all get all results, so that they go on alike.  torch is not needed
here: :mod:`pgolf_codec.lm.gpu.ranks` has the ranks of ``torchrun``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pgolf_codec.codec.frame_coder import CodedFrame, FrameCoder, Progress
from pgolf_codec.codec.frames import EncodedFrame
from pgolf_codec.codec.model import Model
from pgolf_codec.errors import FormatError

T = TypeVar("T")

SHARE_BYTES = 1 << 23
"""Raw bytes of a group for each rank, at least: so many frames that shares are about even."""


class Ranks(Protocol):
    """The processes of one job, ``size`` of them."""

    rank: int
    """This one: 0 .. size - 1."""
    size: int

    def all_gather(self, mine: T) -> list[T]:
        """What every rank has brought, by rank.  Waits for all of them."""
        ...


class OneRank:
    """A job of one process."""

    rank, size = 0, 1

    def all_gather(self, mine: T) -> list[T]:
        return [mine]


def together(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """The results of all ranks; if one of them fails all raise its error, none waits."""
    result: T | None = None
    failure: Exception | None = None
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised again below, here and on all other ranks
        failure = error
    found = ranks.all_gather((result, failure))
    for _, its_failure in found:
        if its_failure is not None:
            raise its_failure
    return [result for result, _ in found]  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class ShardedCoder:
    """Satisfies :class:`~pgolf_codec.codec.frame_coder.FrameCoder`; used by all ranks alike."""

    coder: FrameCoder
    ranks: Ranks

    @property
    def group_bytes(self) -> int:
        return max(self.coder.group_bytes, SHARE_BYTES) * self.ranks.size

    def encode(
        self,
        raws: Sequence[bytes],
        model: Model,
        *,
        streams: int | None,
        threads: int,
        progress: Progress | None,
    ) -> list[EncodedFrame]:
        mine = raws[self.ranks.rank :: self.ranks.size]
        return self._dealt(
            lambda: self.coder.encode(
                mine, model, streams=streams, threads=threads, progress=progress
            )
        )

    def decode(
        self, coded: Sequence[CodedFrame], *, threads: int, progress: Progress | None
    ) -> list[bytes | FormatError]:
        mine = coded[self.ranks.rank :: self.ranks.size]
        return self._dealt(lambda: self.coder.decode(mine, threads=threads, progress=progress))

    def _dealt(self, work: Callable[[], list[T]]) -> list[T]:
        """The results of all ranks, in the order of the frames."""
        shares = together(self.ranks, work)
        out: list[T] = [shares[0][0]] * sum(map(len, shares)) if shares[0] else []
        for rank, share in enumerate(shares):
            out[rank :: self.ranks.size] = share
        return out
