"""What a foreign predictor's process is asked to do; each returns a message."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval import archive, residual
from pgolf_codec.eval.archive import Progress
from pgolf_codec.eval.calls import choice, recorded
from pgolf_codec.eval.subject import Ids, Steps, Subject

_REACH = 4
"""Symbols before another that may change how it is spelled."""
Task = Callable[..., dict[str, Any]]

_MAX_PREFIXES = 4096
"""Symbols of a document whose bytes are told one by one."""


def describe(subject: Subject) -> dict[str, Any]:
    return {
        "n_symbols": subject.n_symbols,
        "independent": subject.independent,
        "is_scorer": subject.is_scorer,
        "learns": subject.learns,
        "block": subject.block,
        "claimed_bpb": subject.claimed_bpb,
        "declared_files": [str(path) for path in subject.files],
    }


def pack(subject: Subject, tell: Progress, data: bytes, lengths: Sequence[int]) -> dict[str, Any]:
    """The archive of documents that stand one after the other in ``data``."""
    packed = archive.pack(subject, split(data, lengths), tell)
    return {
        "archive": packed.archive,
        "n_symbols_coded": packed.n_symbols,
        "stepped_bits": packed.stepped_bits,
        "entropy_bits": packed.entropy_bits,
        "coded_bits": packed.coded_bits,
        "order_bytes": packed.order_bytes,
        "residual_bytes": packed.residual_bytes,
    }


def unpack(subject: Subject, tell: Progress, archive_bytes: bytes) -> dict[str, Any]:
    documents = archive.unpack(subject, archive_bytes, tell)
    return {"data": b"".join(documents), "lengths": [len(document) for document in documents]}


def claim(subject: Subject, tell: Progress, data: bytes, lengths: Sequence[int]) -> dict[str, Any]:
    """The bits and the bytes of the author's own evaluation."""
    documents = split(data, lengths)
    tokens = [subject.tokenise(documents[i]) for i in subject.order(documents)]
    counts = [subject.counted_bytes(ids) for ids in tokens]
    told = sum(int(count.sum()) for count in counts if count is not None)
    bits = None
    if subject.is_scorer:
        rows = subject.claimed(tokens)
        bits = bits_of(rows, _joined(tokens))
    return {"bits": bits, "counted_bytes": told or len(data)}


def tokenise(
    subject: Subject, tell: Progress, data: bytes, lengths: Sequence[int]
) -> dict[str, Any]:
    """Symbols of the documents, in the predictor's order."""
    documents = split(data, lengths)
    order = subject.order(documents)
    tokens = [subject.tokenise(documents[i]) for i in order]
    return {"ids": _joined(tokens), "n_ids": [len(ids) for ids in tokens], "order": order}


def rows(
    subject: Subject, tell: Progress, ids: Ids, n_ids: Sequence[int], times: int
) -> dict[str, Any]:
    """What the last of ``times`` evaluations by one instance says."""
    documents = _parted(ids, n_ids)
    one = subject.scorer()
    found = subject.claimed(documents, one)
    for _ in range(times - 1):
        found = subject.claimed(documents, one)
    return {"rows": found}


def replay(
    subject: Subject, tell: Progress, ids: Ids, n_ids: Sequence[int], places: Sequence[int]
) -> dict[str, Any]:
    """Whole distributions (len(places), V) at some positions, asked as a decoder asks."""
    wanted = set(places)
    steps = Steps(subject)
    found: list[NDArray[np.float64]] = []
    at = 0
    for document in _parted(ids, n_ids):
        steps.start_document()
        for symbol in document.tolist():
            if at in wanted:
                found.append(steps.next_distribution().copy())
            steps.observe(symbol)
            at += 1
    return {"rows": np.array(found).reshape(len(found), subject.n_symbols)}


def twice(subject: Subject, tell: Progress, ids: Ids) -> dict[str, Any]:
    """Two answers to the same question, before anything may be learned."""
    one = subject.scorer()
    if subject.is_scorer:
        one.start()
        first = np.array(one.score(ids.copy()), np.float64)
        return {"first": first, "second": np.array(one.score(ids.copy()), np.float64)}
    Steps(subject, one).start_document()
    answers: tuple[list[NDArray[np.float64]], ...] = ([], [])
    for symbol in ids.tolist():
        for answer in answers:
            answer.append(np.array(one.next_distribution(), np.float64))
        one.observe(symbol)
    return {"first": np.array(answers[0]), "second": np.array(answers[1])}


def calls(subject: Subject, tell: Progress, ids: Ids, n_ids: Sequence[int]) -> dict[str, Any]:
    """Who called what in one evaluation, and whether answers were chosen afterwards."""
    one = subject.scorer()
    with recorded(one) as found:
        subject.claimed(_parted(ids, n_ids), one)
    made = choice(found)
    return {
        "asked": dict(found.asked),
        "own": dict(found.own),
        "choice": None if made is None else dataclasses.asdict(made),
    }


def trace(subject: Subject, tell: Progress, data: bytes, lengths: Sequence[int]) -> dict[str, Any]:
    """What each symbol costs an encoder, and how far the decoded text is behind it.

    Documents are in the predictor's order.
    """
    documents = split(data, lengths)
    order = subject.order(documents)
    tokens = [subject.tokenise(documents[i]) for i in order]
    decoded = [subject.detokenise(ids) for ids in tokens]
    return {
        "bits": archive.symbol_bits(subject, tokens, tell),
        "n_ids": [len(ids) for ids in tokens],
        "ends": _joined(
            [_ends(subject, ids, len(text)) for ids, text in zip(tokens, decoded, strict=True)]
        ),
        "decoded": b"".join(decoded),
        "decoded_lengths": [len(text) for text in decoded],
        "order": order,
    }


def count(subject: Subject, tell: Progress, data: bytes, lengths: Sequence[int]) -> dict[str, Any]:
    """The bytes counted for each symbol, those that it adds, and what restoring the file takes."""
    documents = split(data, lengths)
    tokens = [subject.tokenise(document) for document in documents]
    decoded = [subject.detokenise(ids) for ids in tokens]
    counts = [subject.counted_bytes(ids) for ids in tokens]
    told = [count for count in counts if count is not None]
    counted = sum(int(count.sum()) for count in told) if told else len(data)
    actual = [_lengths(subject, ids) for ids in tokens] if told and counted > len(data) else told
    return {
        "counts": _joined(told),
        "actual": _joined(actual),
        "counted_bytes": counted,
        "residual_bytes": len(residual.encode(documents, decoded)),
    }


TASKS: dict[str, Task] = {
    task.__name__: task
    for task in (pack, unpack, claim, tokenise, rows, replay, twice, calls, trace, count)
}
"""By the name that a request gives; ``files`` is answered by the process itself."""


def split(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    """The documents that stand in ``data``."""
    ends = np.cumsum([0, *lengths]).tolist()
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def _joined(parts: Sequence[Ids]) -> Ids:
    return np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int64)


def _parted(ids: Ids, n_ids: Sequence[int]) -> list[Ids]:
    ends = np.cumsum([0, *n_ids]).tolist()
    return [ids[a:b] for a, b in itertools.pairwise(ends)]


def _lengths(subject: Subject, ids: Ids) -> Ids:
    """Bytes (n,) by which each symbol makes the decoded text longer."""
    n = min(len(ids), _MAX_PREFIXES)
    ends = [len(subject.detokenise(ids[:i])) for i in range(n + 1)]
    ends += [len(subject.detokenise(ids))] * (len(ids) - n)
    return np.diff(np.array(ends, np.int64)).astype(np.int64)


def _ends(subject: Subject, ids: Ids, n_bytes: int) -> Ids:
    """(n,): bytes of the decoded text, ``n_bytes`` long, up to the end of each symbol.

    By what a symbol adds to those before it, for a blank at its start may need them.
    """
    n_added = []
    for i in range(len(ids)):
        before = ids[max(0, i - _REACH) : i]
        with_it = subject.detokenise(ids[max(0, i - _REACH) : i + 1])
        n_added.append(len(with_it) - len(subject.detokenise(before)))
    ends = np.cumsum(np.array(n_added, np.int64))
    ends = np.clip(np.maximum.accumulate(ends), 0, n_bytes) if ends.size else ends
    ends[-1:] = n_bytes
    return ends


def bits_of(rows: NDArray[np.float64], ids: Ids) -> float:
    """−Σ log2 of the probabilities that ``rows`` (T, V) or (T,) give to ``ids``."""
    p = rows if rows.ndim == 1 else rows[np.arange(len(ids)), ids]
    return math.fsum(-math.log2(x) if x > 0 else math.inf for x in p.tolist())
