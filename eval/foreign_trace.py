"""Where the bits of a foreign predictor's archive went: it is run over the text once more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import PredictorError, VerificationError
from pgolf_codec.eval import residual
from pgolf_codec.eval.foreign import Text
from pgolf_codec.eval.host import Host, Limits
from pgolf_codec.eval.receipt import PredictorReceipt
from pgolf_codec.eval.tasks import split
from pgolf_codec.eval.trace import Floats, Trace

Offsets = NDArray[np.int64]
Document = tuple[Floats, Offsets]
"""(n,) bits of its symbols, and (n,) how far each reaches into its raw bytes."""


def trace_predictor(
    spec: str,
    text: Text,
    receipt: PredictorReceipt,
    *,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """The bits of each symbol over the raw bytes that it stands for.

    Where tokens lose something, these are the bytes that their own were aligned with; a
    symbol that stands for none is counted with the next one.  Raises
    :class:`VerificationError` if the bits are not those of the receipt, and
    :class:`PredictorError`.
    """
    documents: list[Document] = []
    with Host(spec, limits) as host:
        independent = bool(host.about["independent"])
        for bundle in text.bundles(independent=independent):
            values = {"data": bundle.data, "lengths": bundle.lengths}
            documents += _documents(bundle, host.ask("trace", progress, **values))
    told = receipt.entropy_bits - 8 * (receipt.order_bytes + receipt.residual_bytes)
    found = math.fsum(float(bits.sum()) for bits, _ in documents)
    if not math.isclose(told, found, rel_tol=1e-9, abs_tol=1e-6):
        raise VerificationError(
            f"the receipt says {told:.1f} bits for the symbols, {spec} now says {found:.1f}",
            receipt,
        )
    return _joined(documents, text.lengths, independent=independent)


def _documents(bundle: Text, answer: Mapping[str, Any]) -> list[Document]:
    """Those of a bundle, in their own order; the answer is foreign, and is checked."""
    try:
        cuts = np.cumsum([0, *answer["n_ids"]]).tolist()
        spelled = split(answer["decoded"], answer["decoded_lengths"])
        if cuts[-1] != len(answer["bits"]) or cuts[-1] != len(answer["ends"]):
            raise ValueError("the numbers of symbols differ")
        found: list[Document] = [(np.zeros(0), np.zeros(0, np.int64))] * len(bundle.documents)
        for (a, b), decoded, index in zip(
            itertools.pairwise(cuts), spelled, answer["order"], strict=True
        ):
            raw, ends = bundle.documents[index], answer["ends"][a:b]
            if raw != decoded:
                ends = residual.places(raw, decoded)[ends]
            if len(ends) and (ends[0] < 0 or ends[-1] != len(raw) or (np.diff(ends) < 0).any()):
                raise ValueError("symbols that overlap")
            found[index] = (answer["bits"][a:b], ends)
    except (ValueError, IndexError, TypeError, KeyError) as error:
        raise PredictorError(f"the predictor's symbols can't be placed: {error}") from None
    return found


def _joined(documents: list[Document], lengths: list[int], *, independent: bool) -> Trace:
    """One after the other, each symbol with the bytes since the one before."""
    begins = [0, *itertools.accumulate(lengths)]
    ends = [begin + ends for begin, (_, ends) in zip(begins, documents, strict=False)]
    edges = np.concatenate([np.zeros(1, np.int64), *ends])
    edges[-1] = begins[-1]
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([np.zeros(0), *_bits(documents)]))])
    kept = np.flatnonzero(np.diff(edges) > 0)
    bounds = np.concatenate([[0], kept[:-1] + 1, [len(edges) - 1]]) if kept.size else kept
    counts = [len(bits) for bits, _ in documents]
    firsts = [
        first
        for first, n in zip(itertools.accumulate(counts, initial=0), counts, strict=False)
        if n
    ]
    starts = np.searchsorted(kept, firsts if independent else firsts[:1])
    return Trace(
        edges=np.concatenate([edges[:1], edges[kept + 1]]),
        bits=np.diff(sums[bounds]) if kept.size else np.zeros(0),
        is_symbol=np.ones(len(kept), bool),
        starts=np.unique(np.minimum(starts, max(0, len(kept) - 1))).astype(np.int64),
        frames=(),
        costs=None,
    )


def _bits(documents: list[Document]) -> Iterator[Floats]:
    return (bits for bits, _ in documents)
