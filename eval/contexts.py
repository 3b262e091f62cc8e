"""What each symbol is predicted from, as far as a decoder can know it.

A *window* is a run of positions that is scored from one call of a model: position t sees
positions begin .. t − 1, never t or later.  Every plan here depends on t alone, not on
how much text is still to come, so a decoder that has decoded up to t knows its window.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True, slots=True)
class Window:
    """Positions ``first`` .. ``end`` − 1 are scored; what is seen starts at ``begin``."""

    begin: int
    first: int
    end: int


def rows(n: int, length: int) -> list[Window]:
    """The text cut into rows: each starts with no context, as in the challenge's baseline."""
    return sliding(n, length, length)


def sliding(n: int, length: int, stride: int) -> list[Window]:
    """Windows of ``length``, each a ``stride`` further, which scores what is new in it.

    A position sees at least ``length − stride`` others before it, once there are as many.
    The last window ends with the text and scores only what no other has scored.
    """
    plan: list[Window] = []
    for window in onward(0, length, stride):
        if window.first >= n:
            break
        plan.append(Window(window.begin, window.first, min(n, window.end)))
    return plan


def onward(start: int, length: int, stride: int) -> Iterator[Window]:
    """The same windows from ``start`` on, while nobody knows where the text ends."""
    if not 1 <= stride <= length:
        raise ValueError(f"a stride of {stride} in windows of {length}")
    first = start
    while True:
        begin = max(start, first + stride - length)
        yield Window(begin, first, begin + length)
        first = begin + length


def rolling(n: int, length: int) -> list[Window]:
    """Each position sees the ``length − 1`` before it: what a cache of keys and values holds."""
    return sliding(n, length, 1)


def by_document(starts: Sequence[int], n: int, length: int, stride: int) -> list[Window]:
    """Sliding windows that never reach back over the start of a document.

    ``starts`` are the positions of documents' first symbols, in ascending order; the
    first is 0 unless the text is empty.
    """
    bounds = [*starts, n]
    return [
        Window(start + window.begin, start + window.first, start + window.end)
        for start, end in pairwise(bounds)
        for window in sliding(end - start, length, stride)
    ]


def continued(first: int, end: int, length: int, stride: int) -> list[Window]:
    """Windows that score positions ``first`` .. ``end`` − 1, each ``stride`` of them at most.

    As in :func:`sliding`, but for a part of a text that is learned from when it is scored:
    no window reaches over its end, and all see what stands before it.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"a stride of {stride} in windows of {length}")
    return [
        Window(max(0, at + stride - length), at, min(end, at + stride))
        for at in range(first, end, stride)
    ]


def seen_from(plan: Sequence[Window]) -> Iterator[int]:
    """For each position in turn, where what it sees begins."""
    for window in plan:
        yield from (window.begin for _ in range(window.first, window.end))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contexts:
    """What each symbol of a text is predicted from."""

    length: int | None = None
    """Symbols of a window; None: a rolling context, as archives have it."""
    stride: int | None = None
    """Symbols by which windows follow each other; None: half their length."""
    joined: bool = False
    """Contexts cross from one document into the next."""
    carried: bool = False
    """What was learned from a document is kept for the next."""

    @property
    def step(self) -> int | None:
        """The stride."""
        if self.length is None or self.stride is not None:
            return self.stride
        return max(1, self.length // 2)

    @property
    def independent(self) -> bool:
        """Nothing at all crosses from one document into the next."""
        return not (self.joined or self.carried)

    def plan(self, lengths: Sequence[int]) -> tuple[Window, ...]:
        """Windows over documents of so many symbols, side by side; empty if one rolls on."""
        if self.length is not None and self.step is not None:
            starts = [*accumulate(lengths[:-1], initial=0)]
            return tuple(by_document(starts, sum(lengths), self.length, self.step))
        if len(lengths) < 2:
            return ()
        ends = accumulate(lengths, initial=0)
        return tuple(Window(a, a, b) for a, b in pairwise(ends) if a < b)

    def onward(self, start: int) -> Iterator[Window]:
        """The windows of a document that starts there, while nobody knows where it ends."""
        if self.length is not None and self.step is not None:
            return onward(start, self.length, self.step)
        return iter([Window(start, start, sys.maxsize)])
