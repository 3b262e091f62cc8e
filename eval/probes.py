"""The dynamic checks of an audit: change what must not matter, and see what moves.

Each check is a function of a :class:`Probe`.  What a check can't see is told in
docs/REFEREE.md.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval import permutation
from pgolf_codec.eval.foreign import Files, Text
from pgolf_codec.eval.host import Host
from pgolf_codec.eval.subject import Ids
from pgolf_codec.eval.verdict import Check, Finding

Rows = NDArray[np.float64]

FLOOR = 2.0**-24
"""Added to probabilities before they are compared: the coder's unit."""
SUM_TOLERANCE = 1e-3
"""By which a sum of probabilities may miss one: half precision does."""
MAX_ROW_VALUES = 1 << 24
"""Of one run: 128 MiB."""
N_FLIPS, N_SCRAMBLES, N_REPLAYS, N_WHOLE = 8, 4, 12, 4
OTHER_SHAPES = 20.0
"""By so much more may a row move when arrays have other shapes: floats are rounded otherwise."""
N_SEARCH = 24
"""Symbols from the start on that are flipped to find the first place, once there is one."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A predictor in its process, the beginning of a text, and what it says of that."""

    host: Host
    text: Text
    tokens: tuple[Ids, ...]
    """Symbols of each document, in the predictor's order."""
    order: tuple[int, ...]
    base: Rows
    """(T, V) distributions, or (T,) probabilities of the symbols alone."""
    tolerance_bits: float
    seed: int

    @classmethod
    def start(
        cls, host: Host, text: Text, n_symbols: int, tolerance_bits: float, seed: int
    ) -> Probe:
        """Tokenise, cut to ``n_symbols`` of them, and run the author's evaluation once."""
        answer = host.ask("tokenise", data=text.data, lengths=text.lengths)
        most = min(n_symbols, max(1, MAX_ROW_VALUES // host.about["n_symbols"]))
        tokens = cut(answer["ids"], answer["n_ids"], most)
        base = run(host, tokens)
        order = tuple(answer["order"])
        return cls(host, text, tokens, order, base, tolerance_bits, seed)

    @property
    def ids(self) -> Ids:
        return np.concatenate([*self.tokens, np.zeros(0, np.int64)])

    @property
    def gold_only(self) -> bool:
        return self.base.ndim == 1

    @property
    def mark(self) -> int | None:
        """The symbol that starts each of the independent documents, if one does.

        A decoder knows where documents start; so a scorer may look for this symbol to
        start anew, and it is neither changed nor written anywhere else.
        """
        first = {int(part[0]) for part in self.tokens if len(part)}
        return first.pop() if self.host.about["independent"] and len(first) == 1 else None

    def starts(self) -> NDArray[np.int64]:
        """Where the documents start."""
        ends = np.cumsum([0, *(len(part) for part in self.tokens)]).tolist()
        return np.array([at for at, end in itertools.pairwise(ends) if at < end], np.int64)

    def others(self, ids: Ids, chance: np.random.Generator) -> Ids:
        """Other symbols than ``ids``, each at random; none of them the mark."""
        n_symbols = self.host.about["n_symbols"]
        out: Ids = (ids + chance.integers(1, max(2, n_symbols), len(ids))) % n_symbols
        if self.mark is not None:
            out[out == self.mark] = (self.mark + 1) % n_symbols
        return out

    def random(self, purpose: str) -> np.random.Generator:
        seed = hashlib.sha256(f"{self.seed} {purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(seed[:8], "little"))

    def rows(self, ids: Ids) -> Rows:
        """A fresh run over other symbols, in documents of the same lengths."""
        return run(self.host, cut(ids, [len(part) for part in self.tokens], len(ids)))

    def moved(self, one: Rows, other: Rows) -> NDArray[np.float64]:
        """(T,) bits by which rows differ, at the symbol where they differ most."""
        if one.size == 0:
            return np.zeros(len(one))
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = np.abs(np.log2(np.abs(one) + FLOOR) - np.log2(np.abs(other) + FLOOR))
        difference = np.where(np.isnan(one) == np.isnan(other), np.nan_to_num(difference), np.inf)
        return difference if difference.ndim == 1 else difference.max(axis=1)

    def first_moved(
        self, one: Rows, other: Rows, *, times: float = 1.0
    ) -> tuple[int, float] | None:
        """(row, bits) of the first row that differs by more than ``times`` the tolerance."""
        bits = self.moved(one, other)
        found = np.flatnonzero(bits > times * self.tolerance_bits)
        return (int(found[0]), float(bits[found[0]])) if found.size else None

    def finding(self, rule: str, kind: str, position: int, evidence: str) -> Finding:
        ends = np.cumsum([len(part) for part in self.tokens])
        document = int(np.searchsorted(ends, position, side="right"))
        return Finding(
            rule=rule,
            kind=kind,
            evidence=evidence,
            position=position,
            document=self.order[document] if document < len(self.tokens) else None,
        )


def run(host: Host, tokens: Sequence[Ids], *, times: int = 1) -> Rows:
    """The author's evaluation of ``tokens``; the last of ``times`` runs of one instance."""
    ids = np.concatenate([*tokens, np.zeros(0, np.int64)])
    answer = host.ask("rows", ids=ids, n_ids=[len(part) for part in tokens], times=times)
    rows: Rows = answer["rows"]
    return rows


def cut(ids: Ids, n_ids: Sequence[int], most: int) -> tuple[Ids, ...]:
    """Documents again, the first ``most`` symbols of them."""
    ends = np.minimum(np.cumsum([0, *n_ids]), most).tolist()
    parts = [ids[a:b] for a, b in itertools.pairwise(ends)]
    while len(parts) > 1 and len(parts[-1]) == 0:
        parts.pop()
    return tuple(parts)


def spread(n: int, count: int) -> list[int]:
    """At most ``count`` of 0 .. n − 1, evenly, the first and the last among them."""
    return sorted({round(i * (n - 1) / (count - 1)) for i in range(count)}) if n else []


# C1


def causality(probe: Probe) -> list[Check]:
    """Flip a symbol, or all from some place on: rows up to there must not move.

    Where rows are probabilities of the symbols alone, that of a flipped symbol is
    another symbol's, so only rows before are compared; C2 sees to the rest.
    """
    changes = [change for change in _changes(probe) if change.place < len(probe.ids)]
    seen = [leak for change in changes if (leak := _leak(probe, change)) is not None]
    for place in range(min([N_SEARCH, *(leak.row for leak in seen)]) if seen else 0):
        leak = _leak(probe, _flip(probe, place))
        if leak is not None:
            seen.append(leak)
            break
    findings = []
    if seen:
        first = min(seen, key=lambda leak: (leak.row, leak.place))
        itself = first.place == first.row and first.what == _FLIPPED
        kind = "sees the symbol itself" if itself else "sees later symbols"
        evidence = f"{first.what} at {first.place} moves its distribution by {first.bits:.3g} bits"
        findings = [probe.finding("C1", kind, first.row, evidence)]
    n_flips = sum(change.what == _FLIPPED for change in changes)
    detail = f"{n_flips} symbols flipped, {len(changes) - n_flips} tails replaced"
    checks = [Check.of("C1", "later symbols", detail, findings)]
    last = len(probe.ids) - 1
    through = [leak for leak in seen if leak.place == last and leak.row < last // 2]
    findings = []
    if through:
        evidence = f"its distribution depends on the last symbol, {last - through[0].row} further"
        kind = "read through before it is scored"
        findings = [probe.finding("C4", kind, through[0].row, evidence)]
    checks.append(Check.of("C4", "two passes", "the last symbol flipped", findings))
    return checks


_FLIPPED = "another symbol"


@dataclass(frozen=True, slots=True)
class _Change:
    """Other symbols from ``place`` on, or there alone."""

    place: int
    ids: Ids
    what: str


@dataclass(frozen=True, slots=True)
class _Leak:
    """The first row that a change moved, though it should not."""

    row: int
    place: int
    bits: float
    what: str


def _leak(probe: Probe, change: _Change) -> _Leak | None:
    n_rows = change.place if probe.gold_only else change.place + 1
    moved = probe.first_moved(probe.base[:n_rows], probe.rows(change.ids)[:n_rows])
    return None if moved is None else _Leak(moved[0], change.place, moved[1], change.what)


def _changes(probe: Probe) -> list[_Change]:
    ids, chance = probe.ids, probe.random("changes")
    changes = [_flip(probe, place) for place in spread(len(ids), N_FLIPS)]
    for place in spread(len(ids), N_SCRAMBLES + 1)[:-1]:
        other = ids.copy()
        other[place:] = probe.others(ids[place:], chance)
        if probe.mark is not None:
            other[probe.starts()] = probe.mark
        differs = np.flatnonzero(other != ids)
        if differs.size:
            changes.append(_Change(int(differs[0]), other, "another text from there on"))
    return changes


def _flip(probe: Probe, place: int) -> _Change:
    other = probe.ids
    free = np.arange(len(other))
    if probe.mark is not None:
        free = np.setdiff1d(free, probe.starts())
    if not free.size:
        return _Change(0, other, "nothing")
    place = int(free[min(int(np.searchsorted(free, place)), free.size - 1)])
    other[place] = probe.others(other[place : place + 1], probe.random(f"flip {place}"))[0]
    return _Change(place, other, _FLIPPED)


def documents(probe: Probe) -> list[Check]:
    """Replace one document: rows of the others must not move, if they are independent.

    A first symbol that all documents share (a mark of their start) is left out.
    """
    name = "other documents"
    if not probe.host.about["independent"]:
        return [Check.skipped("C1", name, "contexts are not said to end with a document")]
    if len(probe.starts()) < 2:
        return [Check.skipped("C1", name, "there are no two documents among the audited symbols")]
    marked = probe.mark is not None
    starts = np.cumsum([0, *(len(part) for part in probe.tokens)])
    chance = probe.random("documents")
    worst: Finding | None = None
    changed = sorted({0, len(probe.tokens) // 2, len(probe.tokens) - 1})
    for index in changed:
        other = probe.ids
        inside = slice(starts[index] + marked, starts[index + 1])
        other[inside] = probe.others(other[inside], chance)
        rows = probe.rows(other)
        bits = probe.moved(probe.base, rows)
        bits[starts[index] : starts[index + 1]] = 0
        if marked:
            bits[probe.starts()] = 0
        found = np.flatnonzero(bits > probe.tolerance_bits)
        if found.size and (worst is None or found[0] < (worst.position or 0)):
            evidence = (
                f"another text of document {probe.order[index]} moves its distribution by "
                f"{bits[found[0]]:.3g} bits, but documents are said to be independent"
            )
            worst = probe.finding("C1", "sees another document", int(found[0]), evidence)
    detail = f"{len(changed)} documents replaced, all rows of the others compared"
    return [Check.of("C1", name, detail, [worst] if worst else [])]


def replay(probe: Probe) -> list[Check]:
    """Ask as a decoder must, with nothing behind: the rows must be those of the claim."""
    name = "as a decoder asks"
    if not probe.host.about["is_scorer"]:
        return [Check.skipped("C1", name, "a predictor is never asked otherwise")]
    if probe.gold_only:
        return [Check.skipped("C1", name, "it gives no distribution to compare; see C2")]
    starts = set() if probe.mark is None else set(probe.starts().tolist())
    places = [place for place in spread(len(probe.ids), N_REPLAYS) if place not in starts]
    rows = _replayed(probe, places)
    found = probe.first_moved(probe.base[places], rows, times=OTHER_SHAPES)
    findings = []
    if found is not None:
        index, bits = found
        evidence = f"cut off there, its distribution is another one by {bits:.3g} bits"
        findings = [probe.finding("C1", "sees what is not there yet", places[index], evidence)]
    return [Check.of("C1", name, f"{len(places)} rows, the text cut off behind each", findings)]


# C2


def normalisation(probe: Probe) -> list[Check]:
    """Sums, signs, NaN, and zeros where a symbol does come."""
    name = "whole distributions"
    places = list(range(len(probe.base)))
    rows = probe.base
    if probe.gold_only:
        places = spread(len(probe.ids), N_WHOLE)
        rows = _replayed(probe, places)
    findings = []
    for place, row in zip(places, rows, strict=True):
        wrong = _not_normalised(row, int(probe.ids[place]), probe.mark)
        if wrong is not None:
            kind, evidence = wrong
            findings.append(probe.finding("C2", kind, place, evidence))
            break
    asked = "asked for every symbol in turn" if probe.gold_only else "as claimed"
    return [Check.of("C2", name, f"{len(places)} rows, {asked}", findings)]


def _not_normalised(row: Rows, symbol: int, mark: int | None) -> tuple[str, str] | None:
    if not np.isfinite(row).all():
        at = int(np.flatnonzero(~np.isfinite(row))[0])
        return "not a number", f"symbol {at} has probability {row[at]}"
    if row.min() < 0:
        at = int(row.argmin())
        return "negative", f"symbol {at} has probability {row[at]:.6g}"
    total = math.fsum(row.tolist())
    least, most = 1 - SUM_TOLERANCE, 1 + SUM_TOLERANCE
    if mark is not None:  # asked about, it may be told from another state
        least, most = 0.0, most + float(row[mark])
    if not least <= total <= most:
        return "not normalised", f"the probabilities of all {len(row)} symbols sum to {total:.6g}"
    if row[symbol] == 0:
        return "zero", f"symbol {symbol}, which comes, has probability 0"
    return None


# C3


def purity(probe: Probe, leaks: bool) -> list[Check]:
    """Ask twice before anything is learned: both answers must be the same.

    A scorer without ``learn`` may learn as it scores; then a second answer that differs
    counts only if, by C1, it sees (``leaks``) what it has not scored yet.
    """
    name = "asked twice"
    about = probe.host.about
    if about["is_scorer"] and not about["learns"] and not leaks:
        return [Check.skipped("C3", name, "it has no learn of its own, and C1 holds")]
    n = len(probe.ids)
    if about["independent"] and probe.tokens:
        n = len(probe.tokens[0])
    if about["is_scorer"]:
        n = min(n, about["block"] or n)
    answer = probe.host.ask("twice", ids=probe.ids[:n])
    found = probe.first_moved(answer["first"], answer["second"])
    findings = []
    if found is not None:
        row, bits = found
        evidence = f"asked again before it may learn, it says otherwise by {bits:.3g} bits"
        findings = [probe.finding("C3", "learns before it scores", row, evidence)]
    return [Check.of("C3", name, f"{n} rows", findings)]


# C4


def repetition(probe: Probe, elsewhere: Callable[[], Host]) -> list[Check]:
    """Run it in another process, by another instance and by one that has run: all agree."""
    with elsewhere() as host:
        other = run(host, probe.tokens)
    carried = "carried over from an earlier run"
    trials = [
        ("not repeatable", "a run in another process", other),
        (carried, "a run by another instance", probe.rows(probe.ids)),
        (carried, "a second run", run(probe.host, probe.tokens, times=2)),
    ]
    findings = []
    for kind, what, rows in trials:
        found = probe.first_moved(probe.base, rows)
        if found is not None:
            row, bits = found
            findings = [probe.finding("C4", kind, row, f"{what} differs by {bits:.3g} bits")]
            break
    same = "bit for bit" if np.array_equal(other, probe.base, equal_nan=True) else "nearly"
    return [Check.of("C4", "runs", f"another process: {same} the same; two runs here", findings)]


def selection(probe: Probe) -> list[Check]:
    """Count the calls of one evaluation: answers must not be chosen when symbols are known."""
    answer = probe.host.ask("calls", ids=probe.ids, n_ids=[len(part) for part in probe.tokens])
    findings = []
    made = answer["choice"]
    if made is not None:
        kind = "the best of its runs" if made["among_runs"] else "the better of its answers"
        evidence = (
            f"it scores {made['n_symbols']} symbols again, otherwise, and returns what costs "
            f"least: {made['gain_bits']:.3g} bits below what costs most"
        )
        findings = [probe.finding("C4", kind, made["position"], evidence)]
    own = f", of its own {_told(answer['own'])}" if answer["own"] else ", none of its own"
    return [Check.of("C4", "calls", f"{_told(answer['asked'])}{own}", findings)]


def _told(counts: dict[str, int]) -> str:
    """``start 1, score 4``."""
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "none"


# What is counted


def accounting(probe: Probe) -> list[Check]:
    """The author's bytes against those that the symbols stand for, and against the file."""
    answer = probe.host.ask("count", data=probe.text.data, lengths=probe.text.lengths)
    counts, actual = answer["counts"], answer["actual"]
    counted, raw = int(answer["counted_bytes"]), len(probe.text.data)
    findings = []
    if len(counts) and counted > raw:
        excess = np.flatnonzero(np.cumsum(counts) > np.cumsum(actual))
        place = int(excess[0]) if excess.size else 0
        evidence = f"the score is too low by a factor of {counted / max(1, raw):.4f}"
        findings = [
            Finding(rule="accounting", kind="bytes that are not there",
                    evidence=evidence, position=place)
        ]  # fmt: skip
    detail = f"{counted} are counted, the file has {raw}"
    if answer["residual_bytes"]:
        n_lost = int(answer["residual_bytes"])
        price = f"{n_lost} bytes, {8 * n_lost / max(1, raw):.4f} bpb"
        detail += f"; the tokens lose some of it, to restore it takes {price}"
    return [Check.of("accounting", "bytes", detail, findings)]


def order(probe: Probe) -> Check:
    """Documents out of their order, and the price of telling a decoder so."""
    moved = [place for place, index in enumerate(probe.order) if place != index]
    findings = []
    if moved:
        n_bytes = permutation.n_bytes(len(probe.order))
        bpb = 8 * n_bytes / max(1, len(probe.text.data))
        evidence = (
            f"document {probe.order[moved[0]]} is scored in place {moved[0]}; to tell the order of "
            f"{len(probe.order)} documents takes {n_bytes} bytes, {bpb:.4f} bpb"
        )
        findings = [
            Finding(rule="order", kind="not the order of the file", evidence=evidence,
                    document=probe.order[moved[0]])
        ]  # fmt: skip
    return Check.of("order", "documents", _counted(probe.order), findings)


def _counted(documents: Sequence[object]) -> str:
    return f"{len(documents)} document{'' if len(documents) == 1 else 's'}"


def overlap(text: Text, manifest: frozenset[str] | None) -> Check:
    """SHA-256 of each document against those of the training documents."""
    if manifest is None:
        return Check.skipped("overlap", "documents", "no manifest of training documents is given")
    hits = [
        index
        for index, document in enumerate(text.documents)
        if hashlib.sha256(document).hexdigest() in manifest
    ]
    findings = []
    if hits:
        n_bytes = sum(len(text.documents[index]) for index in hits)
        evidence = f"{len(hits)} of {len(text.documents)} documents, {n_bytes} bytes"
        findings = [Finding(rule="overlap", kind="trained on", evidence=evidence, document=hits[0])]
    detail = f"{_counted(text.documents)}, {len(manifest)} hashes"
    return Check.of("overlap", "documents", detail, findings)


def size(files: Files, text: Text, max_bytes: int | None) -> list[Check]:
    """All files that the predictor's process opened; and none of them may be the text."""
    listed = ", ".join(f"{path.name} {n_bytes}" for path, (n_bytes, _) in files.entries.items())
    digests = {hashlib.sha256(text.data).hexdigest()}
    digests |= {hashlib.sha256(text.path.read_bytes()).hexdigest()} if text.path else set()
    read = [path for path, (_, digest) in files.entries.items() if digest in digests]
    findings = [
        Finding(rule="size", kind="reads the text", evidence=f"{path} is the text itself")
        for path in read
    ]
    checks = [Check.of("size", "files", f"{listed}: {files.n_bytes} bytes", findings)]
    if max_bytes is None:
        return [*checks, Check.skipped("size", "limit", "no size is given to compare with")]
    findings = []
    if files.n_bytes > max_bytes:
        evidence = f"the decoder needs {files.n_bytes} bytes, {files.n_bytes - max_bytes} too many"
        findings = [Finding(rule="size", kind="larger than it may be", evidence=evidence)]
    return [*checks, Check.of("size", "limit", f"at most {max_bytes} bytes", findings)]


def _replayed(probe: Probe, places: Sequence[int]) -> Rows:
    answer: dict[str, Any] = probe.host.ask(
        "replay", ids=probe.ids, n_ids=[len(part) for part in probe.tokens], places=list(places)
    )
    rows: Rows = answer["rows"]
    return rows
