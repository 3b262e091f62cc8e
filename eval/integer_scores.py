"""Bits of symbols by a model's integers, in any contexts; nothing is coded.

Contexts are plans of :mod:`pgolf_codec.eval.contexts`: a window is a stream of its own,
which has BOS and then what it sees.  The adaptive stage of the format sits behind them all,
so that it knows the whole text, or document, whatever the model sees of it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import payload, workers
from pgolf_codec.codec.adaptation import AdaptedPredictor
from pgolf_codec.codec.frequencies import PRECISION
from pgolf_codec.codec.predictor import Predictor, Session
from pgolf_codec.eval.contexts import Window

Bits = NDArray[np.float64]
Ids = NDArray[np.int32]
U32 = NDArray[np.uint32]

_CHUNK = 256
"""Symbols that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Run:
    """Symbols that are scored one after the other; nothing is known before the first."""

    ids: Ids
    plan: tuple[Window, ...]
    """Empty: a rolling context, as in archives."""


def bits_of_runs(
    runs: Sequence[Run],
    predictor: Predictor,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Bits:
    """−log2 of the frequency of every symbol of all runs, one run after the other.

    ``progress`` gets the number of symbols done.
    """
    parts = [part for run in runs for part in _parts(run, predictor)]

    def job(first: int, last: int) -> Callable[[workers.Tick], list[Bits]]:
        return lambda tick: [_bits(part, tick) for part in parts[first:last]]

    n_jobs = min(threads or workers.default_threads(), len(parts))
    if not n_jobs:
        return np.zeros(0)
    shares = payload.edges(len(parts), n_jobs)
    found = workers.run([job(a, b) for a, b in itertools.pairwise(shares)], progress)
    return np.concatenate([bits for share in found for bits in share])


@dataclass(frozen=True, slots=True)
class _Part:
    """What one session scores: symbols from ``first`` on, those before are context."""

    session: Callable[[], Session]
    ids: Ids
    first: int = 0


def _parts(run: Run, predictor: Predictor) -> list[_Part]:
    """The run itself; or each of its windows, if nothing goes from one to the next."""
    if not run.ids.size:
        return []
    if not run.plan:
        return [_Part(lambda: predictor.session(1), run.ids)]
    if isinstance(predictor, AdaptedPredictor):
        planned = dataclasses.replace(predictor, base=Planned(predictor.base, run.plan))
        return [_Part(lambda: planned.session(1), run.ids)]
    return [
        _Part(lambda: predictor.session(1), run.ids[one.begin : one.end], one.first - one.begin)
        for one in run.plan
    ]


def _bits(part: _Part, tick: workers.Tick) -> Bits:
    session = part.session()
    out = np.empty(part.ids.size)
    for at in range(0, part.ids.size, _CHUNK):
        chunk = np.ascontiguousarray(part.ids[None, at : at + _CHUNK])
        _, freq = session.intervals(chunk)
        out[at : at + _CHUNK] = PRECISION - np.log2(freq[0].astype(np.float64))
        tick(max(0, min(at + _CHUNK, part.ids.size) - max(at, part.first)))
    return out[part.first :]


@dataclass(frozen=True, slots=True)
class Planned:
    """A predictor whose sessions see what a plan lets them see, one stream each.

    Satisfies :class:`~pgolf_codec.codec.predictor.Predictor`.
    """

    base: Predictor
    plan: tuple[Window, ...]

    @property
    def n_symbols(self) -> int:
        return self.base.n_symbols

    @property
    def fingerprint(self) -> bytes:
        return self.base.fingerprint

    @property
    def numerics_version(self) -> int:
        return self.base.numerics_version

    def session(self, n_streams: int) -> PlannedSession:
        assert n_streams == 1
        return PlannedSession(self.base, self.plan)


class PlannedSession:
    """A session of the base for each window.  Satisfies ``codec.predictor.Session``."""

    def __init__(self, base: Predictor, plan: Sequence[Window]) -> None:
        self._base = base
        self._windows = iter(plan)
        self._past = np.zeros(plan[-1].end, np.int32)
        self._n_past = 0
        self._end = 0  # of the window
        self._session: Session

    def intervals(self, ids: Ids) -> tuple[U32, U32]:
        cum, freq = np.empty(ids.shape, np.uint32), np.empty(ids.shape, np.uint32)
        at = 0
        while at < ids.shape[1]:
            self._open()
            part = slice(at, min(ids.shape[1], at + self._end - self._n_past))
            known = np.ascontiguousarray(ids[:, part])
            cum[:, part], freq[:, part] = self._session.intervals(known)
            self._note(known[0])
            at = part.stop
        return cum, freq

    def weights(self, previous: Ids | None) -> U32:
        if previous is not None:
            self._note(previous)
            if self._n_past < self._end:
                return self._session.weights(previous)
        self._open()
        return self._session.weights(None)

    def _note(self, ids: Ids) -> None:
        self._past[self._n_past : self._n_past + ids.size] = ids
        self._n_past += ids.size

    def _open(self) -> None:
        """The next window, if this one is at its end."""
        if self._n_past < self._end:
            return
        window = next(self._windows)
        self._session, self._end = self._base.session(1), window.end
        if window.begin < window.first:
            self._session.intervals(self._past[None, window.begin : window.first])
