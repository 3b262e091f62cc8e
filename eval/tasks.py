"""What a foreign predictor's process is asked to do; each returns a message."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval import archive
from pgolf_codec.eval.archive import Progress
from pgolf_codec.eval.subject import Ids, Subject

Task = Callable[..., dict[str, Any]]


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
        bits = bits_of(rows, np.concatenate([*tokens, np.zeros(0, np.int64)]))
    return {"bits": bits, "counted_bytes": told or len(data)}


TASKS: dict[str, Task] = {"pack": pack, "unpack": unpack, "claim": claim}
"""By the name that a request gives; ``files`` is answered by the process itself."""


def split(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    """The documents that stand in ``data``."""
    ends = np.cumsum([0, *lengths]).tolist()
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def bits_of(rows: NDArray[np.float64], ids: Ids) -> float:
    """−Σ log2 of the probabilities that ``rows`` (T, V) or (T,) give to ``ids``."""
    p = rows if rows.ndim == 1 else rows[np.arange(len(ids)), ids]
    return math.fsum(-math.log2(x) if x > 0 else math.inf for x in p.tolist())
