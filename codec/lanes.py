"""Streams of many frames, coded side by side on a device with a fixed number of lanes.

A lane takes the next stream when its own has ended, so that frames of any sizes keep
a device busy.  What a stream becomes depends on its own symbols only, not on the lane
or on its neighbours: the bytes are those of :mod:`pgolf_codec.codec.range_coder`, whose
decoder is here a second time in numpy, because the symbol is looked up by the device:
its ``point`` goes there, the interval comes back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import range_coder
from pgolf_codec.codec.frequencies import PRECISION, TOTAL
from pgolf_codec.codec.payload import CodedStream

S = TypeVar("S", bound=np.generic)

STEPS = 256
"""Of known symbols that a device gets at a time."""

Tick = Callable[[int], None]
"""Gets the number of symbols done since the last call."""


class Lanes(Protocol):
    """``n`` streams of a model that advance in lock step."""

    n: int

    def encode(
        self, ids: NDArray[np.int32], restart: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Intervals (cum, freq), (t, n), of known symbols (t, n); where ``restart`` (t, n)
        is set a symbol is the first of a new stream."""
        ...

    def decode(self, points: NDArray[np.int64], restart: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Symbols, cum and freq, (3, n), of the intervals that hold ``points`` (n)."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Stream s runs in lane[s] from step start[s] on."""

    lane: NDArray[np.int64]
    start: NDArray[np.int64]
    n_lanes: int
    n_steps: int

    @classmethod
    def of(cls, sizes: Sequence[int], max_lanes: int) -> Schedule:
        """The longest first, each to the lane that is free first; rounds of equal size."""
        lengths = np.array(sizes, np.int64)
        n_rounds = max(1, -(-len(lengths) // max_lanes))
        n_lanes = max(1, -(-len(lengths) // n_rounds))
        lane, start = np.zeros((2, len(lengths)), np.int64)
        free = [(0, i) for i in range(n_lanes)]
        for s in np.argsort(-lengths, kind="stable").tolist():
            start[s], lane[s] = free[0]
            heapq.heapreplace(free, (int(start[s] + lengths[s]), int(lane[s])))
        return cls(lane, start, n_lanes, max(end for end, _ in free))

    def restarts(self) -> NDArray[np.bool_]:
        """(n_steps, n_lanes): where a stream begins."""
        flags = np.zeros((self.n_steps, self.n_lanes), np.bool_)
        flags[self.start, self.lane] = True
        return flags


def intervals(
    runs: Sequence[NDArray[np.int32]], lanes: Lanes, schedule: Schedule, tick: Tick
) -> list[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """(cum, freq) of every symbol of each run, which is a stream of its own."""
    ids = np.zeros((schedule.n_lanes, schedule.n_steps), np.int32)
    for run, lane, start in zip(runs, schedule.lane, schedule.start, strict=True):
        ids[lane, start : start + run.size] = run
    restarts = schedule.restarts()
    cum, freq = np.empty((2, *ids.shape), np.uint32)
    for at in range(0, schedule.n_steps, STEPS):
        part = slice(at, at + STEPS)
        found = lanes.encode(_wide(ids[:, part].T, lanes.n), _wide(restarts[part], lanes.n))
        cum[:, part], freq[:, part] = (bound[:, : schedule.n_lanes].T for bound in found)
        tick(ids[:, part].size)
    return [
        (cum[lane, start : start + run.size], freq[lane, start : start + run.size])
        for run, lane, start in zip(runs, schedule.lane, schedule.start, strict=True)
    ]


def encode(
    runs: Sequence[NDArray[np.int32]], lanes: Lanes, schedule: Schedule, tick: Tick
) -> list[tuple[bytes, float]]:
    """(coded bytes, entropy in bits) of each run."""
    return [
        (range_coder.encode(cum, freq), entropy_bits(freq))
        for cum, freq in intervals(runs, lanes, schedule, tick)
    ]


def entropy_bits(freq: NDArray[np.uint32]) -> float:
    """-log2(freq / 2**24), summed."""
    return float(np.sum(PRECISION - np.log2(freq.astype(np.float64))))


def decode(
    streams: Sequence[CodedStream], lanes: Lanes, schedule: Schedule, tick: Tick
) -> list[NDArray[np.int32] | None]:
    """The symbols of each stream; None of a damaged one."""
    coder = _RangeDecoders([stream.data for stream in streams], lanes.n)
    lengths = np.array([stream.n_symbols for stream in streams], np.int64)
    ids = np.empty((schedule.n_steps, lanes.n), np.int32)
    restarts = _wide(schedule.restarts(), lanes.n)
    starting = _by_step(schedule.start, schedule.n_steps)
    ending = _by_step(schedule.start + lengths, schedule.n_steps + 1)
    for at in range(schedule.n_steps):
        coder.finish(schedule.lane[next(ending)])
        new = next(starting)
        coder.begin(schedule.lane[new], new)
        symbols, cum, freq = lanes.decode(coder.points(), restarts[at])
        coder.advance(cum, freq)
        ids[at] = symbols
        tick(schedule.n_lanes)
    coder.finish(schedule.lane[next(ending)])
    return [
        ids[start : start + n, lane].copy() if sound else None
        for start, lane, n, sound in zip(
            schedule.start, schedule.lane, lengths, coder.sound, strict=True
        )
    ]


def _by_step(steps: NDArray[np.int64], n_steps: int) -> Iterator[NDArray[np.int64]]:
    """For each step the streams whose ``steps`` it is."""
    order = np.argsort(steps, kind="stable")
    bounds = np.searchsorted(steps[order], np.arange(n_steps + 1))
    return (order[bounds[i] : bounds[i + 1]] for i in range(n_steps))


def _wide(array: NDArray[S], n: int) -> NDArray[S]:
    """(t, at most n) with zeros for the lanes that are not used."""
    return np.pad(array, ((0, 0), (0, n - array.shape[1])))


_BITS = np.uint64(PRECISION)
_WORD = np.uint64(32)
_RENORM = np.uint64(1 << 32)
_LAST_POINT = np.uint64(TOTAL - 1)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


class _RangeDecoders:
    """The state of a range decoder for each lane; docs/FORMAT.md, "Range coder".

    A lane without a stream decodes zeros.
    """

    def __init__(self, streams: Sequence[memoryview], n_lanes: int) -> None:
        n_words = np.array([-(-len(stream) // 4) for stream in streams], np.int64)
        padded = [bytes(stream) + bytes(-len(stream) % 4 + 4) for stream in streams]
        # The word behind a stream is zero: whoever reads on stays there.
        self._words = np.frombuffer(b"".join(padded) + bytes(4), ">u4").astype(np.uint64)
        self._n_words = n_words
        self._first = np.cumsum(n_words + 1) - (n_words + 1)
        self.sound = np.ones(len(streams), np.bool_)
        self._stream = np.full(n_lanes, -1)
        self._start = np.full(n_lanes, self._words.size - 1)
        self._size = np.zeros(n_lanes, np.int64)
        self._read = np.zeros(n_lanes, np.int64)
        self._lower = np.zeros(n_lanes, np.uint64)
        self._span = np.full(n_lanes, _FULL)
        self._point = np.zeros(n_lanes, np.uint64)
        self._damaged = np.zeros(n_lanes, np.bool_)

    def begin(self, lanes: NDArray[np.int64], streams: NDArray[np.int64]) -> None:
        self._stream[lanes] = streams
        self._start[lanes], self._size[lanes] = self._first[streams], self._n_words[streams]
        self._read[lanes] = 0
        self._lower[lanes], self._span[lanes] = 0, _FULL
        self._damaged[lanes] = False
        first = self._next_words()
        self._read[lanes] = 1
        self._point[lanes] = (first << _WORD | self._next_words())[lanes]
        self._read[lanes] = 2

    def finish(self, lanes: NDArray[np.int64]) -> None:
        """The streams of these lanes have had their last symbol: was all of them read?"""
        ended = (self._read[lanes] > self._size[lanes]) & ~self._damaged[lanes]
        self.sound[self._stream[lanes]] = ended

    def points(self) -> NDArray[np.int64]:
        """(n,) in units of 2**-24 of the range."""
        self._scale = self._span >> _BITS
        target = (self._point - self._lower) // self._scale
        self._damaged |= target > _LAST_POINT  # a state that no encoder leaves
        return np.minimum(target, _LAST_POINT).astype(np.int64)

    def advance(self, cum: NDArray[np.int64], freq: NDArray[np.int64]) -> None:
        lower = self._lower + self._scale * cum.astype(np.uint64)
        span = self._scale * freq.astype(np.uint64)
        short = span < _RENORM
        self._lower = np.where(short, lower << _WORD, lower)
        self._span = np.where(short, span << _WORD, span)
        self._point = np.where(short, self._point << _WORD | self._next_words(), self._point)
        self._read += short
        # One word that is not there may have been zero.
        self._damaged |= self._read > self._size + 2

    def _next_words(self) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = self._words[self._start + np.minimum(self._read, self._size)]
        return words
