"""Bits of symbols by a model's integers, in any contexts; nothing is coded.

Contexts are plans of :mod:`pgolf_codec.eval.contexts`: a window is a stream of its own,
which has BOS and then what it sees.  The adaptive stage of the format sits behind them all,
so that it knows the whole text, or document, whatever the model sees of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import workers
from pgolf_codec.codec.adaptation import AdaptedPredictor, AdaptedSession, new_state
from pgolf_codec.codec.frequencies import PRECISION, TOTAL
from pgolf_codec.codec.predictor import Predictor, Session
from pgolf_codec.eval.contexts import Contexts, Window
from pgolf_codec.eval.quantise import cuts

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

    jobs = [partial(_bits, part) for part in parts]
    found = workers.run(jobs, progress, threads=threads or workers.default_threads())
    return np.concatenate([np.zeros(0), *found])


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
        return [_Part(lambda: session_over(predictor, iter(run.plan))[0], run.ids)]
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


class PlannedSession:
    """One stream, whose windows are sessions of their own.

    Satisfies :class:`~pgolf_codec.codec.predictor.Session`.
    """

    def __init__(self, base: Predictor, windows: Iterator[Window]) -> None:
        self._base, self._windows = base, windows
        self._past: list[int] = []
        self._end = 0  # of the window
        self._session: Session

    def turn(self, at: int, windows: Iterator[Window]) -> None:
        """From position ``at`` on, where the next symbol is, there are other windows."""
        self._end, self._windows = at, windows

    def intervals(self, ids: Ids) -> tuple[U32, U32]:
        cum, freq = np.empty(ids.shape, np.uint32), np.empty(ids.shape, np.uint32)
        at = 0
        while at < ids.shape[1]:
            self._open()
            part = slice(at, min(ids.shape[1], at + self._end - len(self._past)))
            known = np.ascontiguousarray(ids[:, part])
            cum[:, part], freq[:, part] = self._session.intervals(known)
            self._past += known[0].tolist()
            at = part.stop
        return cum, freq

    def weights(self, previous: Ids | None) -> U32:
        if previous is not None:
            self._past += previous.tolist()
            if len(self._past) < self._end:
                return self._session.weights(previous)
        self._open()
        return self._session.weights(None)

    def _open(self) -> None:
        """The next window, if this one is at its end."""
        if len(self._past) < self._end:
            return
        window = next(self._windows)
        self._session, self._end = self._base.session(1), window.end
        if window.begin < window.first:
            seen = np.array([self._past[window.begin : window.first]], np.int32)
            self._session.intervals(seen)


class IntegerPredictor:
    """The same bits asked for symbol by symbol, as a decoder has to.

    Satisfies :class:`pgolf_codec.eval.predictor.Predictor`.  Its distributions are integer
    frequencies over 2**24, exact in float64.
    """

    def __init__(self, predictor: Predictor, reading: Contexts) -> None:
        self.n_symbols = predictor.n_symbols
        self.independent_documents = reading.independent
        self._predictor, self._reading = predictor, reading

    def start(self) -> None:
        windows = self._reading.onward(0)
        self._session, self._planned = session_over(self._predictor, windows)
        self._last: Ids | None = None
        self._n_seen = 0
        self._row: NDArray[np.float64] | None = None

    def start_document(self) -> None:
        if self._reading.carried:
            self._planned.turn(self._n_seen, self._reading.onward(self._n_seen))

    def next_distribution(self) -> NDArray[np.float64]:
        if self._row is None:
            self._row = np.diff(cuts(self._session.weights(self._last)[0])) / TOTAL
        return self._row

    def observe(self, symbol: int) -> None:
        self.next_distribution()  # the session has to take every symbol in turn
        self._last, self._row = np.array([symbol], np.int32), None
        self._n_seen += 1


def session_over(predictor: Predictor, windows: Iterator[Window]) -> tuple[Session, PlannedSession]:
    """A session whose model sees ``windows`` only, and its part that knows them.

    They are the same, or the stage of the format is before the second one.
    """
    if not isinstance(predictor, AdaptedPredictor):
        planned = PlannedSession(predictor, windows)
        return planned, planned
    planned = PlannedSession(predictor.base, windows)
    return AdaptedSession(planned, new_state(predictor.widths, 1)), planned
