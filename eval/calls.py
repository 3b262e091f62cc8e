"""The calls of a predictor's methods in one pass: the referee's, and those that it makes itself.

A scorer that calls its own ``score`` may do so to work in windows; or to try several
settings and return the best, which is selection.  So each answer that it gave itself is
laid beside the one that it returned.  What it does by other names is not seen.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

NAMES = ("start", "start_document", "next_distribution", "observe", "score", "learn")
DIFFERENT_BITS = 0.01
"""By which answers for one symbol have to differ to be two."""
LEAST_CHOICES = 16
"""So many times in a row nobody is lucky."""


@dataclass(slots=True)
class Scored:
    """One call of ``score`` by the referee, with the answers that were given within it."""

    ids: Ids
    own: list[tuple[Ids, Floats]] = field(default_factory=list)
    """What was asked, and the probabilities of those symbols."""
    returned: Floats | None = None


@dataclass(slots=True)
class Calls:
    """All calls of one pass."""

    asked: Counter[str] = field(default_factory=Counter)
    """By the referee."""
    own: Counter[str] = field(default_factory=Counter)
    """By the predictor's own code, whichever instance of its class they reach."""
    scored: list[Scored] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Choice:
    """Answers that were chosen after the symbols were known."""

    position: int
    """Of the first symbol with two answers."""
    n_symbols: int
    """With two answers or more."""
    gain_bits: float
    """What the choice saves against the worst answers."""
    among_runs: bool
    """Whole runs were compared, rather than symbols."""


@contextlib.contextmanager
def recorded(predictor: Any) -> Iterator[Calls]:
    """Note every call of the protocol's methods on the predictor's class, inside ``with``."""
    calls, kind, depth = Calls(), type(predictor), [0]
    replaced: dict[str, Any] = {}

    def noting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            (calls.own if depth[0] else calls.asked)[name] += 1
            scores = name == "score" and len(arguments) == 1
            if scores and not depth[0]:
                calls.scored.append(Scored(np.array(arguments[0])))
            depth[0] += 1
            try:
                answer = method(self, *arguments, **named)
            finally:
                depth[0] -= 1
            if scores:
                _note(calls, np.array(arguments[0]), answer, is_own=depth[0] > 0)
            return answer

        return call

    for name in NAMES:
        method = getattr(kind, name, None)
        if callable(method):
            replaced[name] = vars(kind).get(name)
            setattr(kind, name, noting(name, method))
    try:
        yield calls
    finally:
        for name, before in replaced.items():
            if before is None:
                delattr(kind, name)
            else:
                setattr(kind, name, before)


def _note(calls: Calls, ids: Ids, answer: Any, *, is_own: bool) -> None:
    if not calls.scored or ids.ndim != 1 or not ids.size:
        return
    rows = np.asarray(answer, np.float64)
    if rows.shape[:1] != ids.shape:
        return
    p = rows if rows.ndim == 1 else rows[np.arange(len(ids)), ids]
    if is_own:
        calls.scored[-1].own.append((ids, p.copy()))
    else:
        calls.scored[-1].returned = p.copy()


def choice(calls: Calls) -> Choice | None:
    """The selection that the answers show, if they show one."""
    offsets = np.cumsum([0, *(len(one.ids) for one in calls.scored)])
    found = [
        (int(offset), _answers(one), _bits(one.returned))
        for offset, one in zip(offsets, calls.scored, strict=False)
        if one.returned is not None and len(one.own) > 1
    ]
    chosen = [(at, *_differing(answers, bits)) for at, answers, bits in found]
    chosen = [one for one in chosen if one[1].size]
    if not chosen:
        return None
    position = min(at + int(places[0]) for at, places, _, _, _ in chosen)
    n_symbols = sum(len(places) for _, places, _, _, _ in chosen)
    worst = sum(float((most - told).sum()) for _, _, told, _, most in chosen)
    by_symbol = all((told <= least + DIFFERENT_BITS).all() for _, _, told, least, _ in chosen)
    if by_symbol and n_symbols >= LEAST_CHOICES:
        return Choice(position, n_symbols, worst, among_runs=False)
    if all(_is_best_run(answers, bits) for _, answers, bits in found):
        return Choice(position, n_symbols, worst, among_runs=True)
    return None


def _answers(one: Scored) -> Floats:
    """(answers, n) bits of each symbol by each own call; NaN where it was not asked for."""
    rows, at = [], 0
    for ids, p in one.own:
        at = _place(one.ids, ids, at)
        if at < 0:
            at = 0
            continue
        row = np.full(len(one.ids), np.nan)
        row[at : at + len(ids)] = _bits(p)
        rows.append(row)
    return np.array(rows).reshape(len(rows), len(one.ids))


def _place(ids: Ids, part: Ids, at: int) -> int:
    """Where ``part`` stands in ``ids``, from ``at`` on if it can; −1 if nowhere."""
    starts = [*range(at, len(ids) - len(part) + 1), *range(at)]
    return next((i for i in starts if np.array_equal(ids[i : i + len(part)], part)), -1)


def _differing(answers: Floats, told: Floats) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Places with two answers; there the bits returned, the least and the most."""
    counts = (~np.isnan(answers)).sum(axis=0) if len(answers) else np.zeros(len(told))
    places = np.flatnonzero(counts > 1)
    least, most = np.nanmin(answers[:, places], axis=0), np.nanmax(answers[:, places], axis=0)
    apart = most - least > DIFFERENT_BITS
    return places[apart], told[places[apart]], least[apart], most[apart]


def _is_best_run(answers: Floats, told: Floats) -> bool:
    """Whether what was returned is the best of at least two whole runs that differ."""
    runs = answers[~np.isnan(answers).any(axis=1)]
    if len(runs) < 2:
        return False
    sums = runs.sum(axis=1)
    same = np.abs(runs - told).max(axis=1) <= DIFFERENT_BITS
    differ = np.abs(runs - told).max(axis=1) > DIFFERENT_BITS
    return bool(same.any() and differ.any() and sums[same].min() <= sums.min())


def _bits(p: Floats | None) -> Floats:
    assert p is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        bits: Floats = -np.log2(np.maximum(p, 2.0**-200))
    return bits
