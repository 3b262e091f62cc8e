"""A text coded with anyone's predictor: everything a decoder needs but the predictor.

    "PGF1"  n_documents  (n_ids of each)  order  residual  digest (8)  coded stream

Numbers are LEB128; ``order`` and ``residual`` are a number of bytes and as many bytes,
none where documents stand in order and tokens lose nothing.  The stream is one of
:mod:`pgolf_codec.codec.range_coder`, its frequencies those of
:mod:`pgolf_codec.eval.quantise`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import range_coder
from pgolf_codec.codec.frequencies import TOTAL
from pgolf_codec.errors import CorruptError, NotAnArchiveError, TruncatedError
from pgolf_codec.eval import permutation, residual
from pgolf_codec.eval.quantise import cuts, weights
from pgolf_codec.eval.stream import Stream
from pgolf_codec.eval.subject import Ids, Steps, Subject

MAGIC = b"PGF1"
DIGEST_BYTES = 8

Progress = Callable[[int], None]
"""Called with the number of symbols done."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive, and where its bytes went."""

    archive: bytes
    n_symbols: int
    """Symbols coded."""
    stepped_bits: float
    """−Σ log2 p of the predictor's own float64 probabilities, neither scaled nor rounded;
    infinite if one is zero."""
    entropy_bits: float
    """−Σ log2 of the integer frequencies, and all of order and residual."""
    coded_bits: int
    """What the range coder wrote, and all of order and residual."""
    order_bytes: int
    residual_bytes: int


def pack(subject: Subject, documents: Sequence[bytes], progress: Progress) -> Packed:
    """Code ``documents`` with one pass of the predictor over their symbols.

    Raises :class:`PredictorError`; what the predictor raises passes through.
    """
    order = subject.order(documents)
    tokens = [subject.tokenise(documents[i]) for i in order]
    lost = residual.encode(
        [documents[i] for i in order], [subject.detokenise(ids) for ids in tokens]
    )
    moved = permutation.encode(order)
    cum, freq, stepped_bits = _intervals(subject, tokens, progress)
    stream = range_coder.encode(cum, freq)
    head = [MAGIC, _number(len(documents)), *(_number(len(ids)) for ids in tokens)]
    parts = [*head, _number(len(moved)), moved, _number(len(lost)), lost, _digest(documents)]
    beside_bits = 8 * (len(moved) + len(lost))
    return Packed(
        archive=b"".join([*parts, stream]),
        n_symbols=len(cum),
        stepped_bits=stepped_bits,
        entropy_bits=math.fsum(24.0 - np.log2(freq)) + beside_bits,
        coded_bits=8 * len(stream) + beside_bits,
        order_bytes=len(moved),
        residual_bytes=len(lost),
    )


def symbol_bits(subject: Subject, tokens: Sequence[Ids], progress: Progress) -> NDArray[np.float64]:
    """(n,) −log2 of the integer frequency of each symbol: what :func:`pack` pays for it."""
    _, freq, _ = _intervals(subject, tokens, progress)
    bits: NDArray[np.float64] = 24.0 - np.log2(freq.astype(np.float64))
    return bits


def unpack(subject: Subject, archive: bytes, progress: Progress) -> list[bytes]:
    """The documents, by repeating the pass with nothing but what has been decoded.

    Raises :class:`FormatError` for what is no such archive or was made otherwise.
    """
    reader = _Reader(archive)
    if reader.take(len(MAGIC)) != MAGIC:
        raise NotAnArchiveError("not an archive of the referee")
    n_documents = reader.number()
    if n_documents > len(archive):
        raise CorruptError(f"{n_documents} documents in {len(archive)} bytes")
    lengths = [reader.number() for _ in range(n_documents)]
    order = permutation.decode(reader.take(reader.number()), n_documents)
    lost = reader.take(reader.number())
    digest, stream = reader.take(DIGEST_BYTES), reader.rest()
    tokens = _symbols(subject, stream, lengths, progress)
    found = residual.decode(lost, [subject.detokenise(ids) for ids in tokens])
    documents = [b""] * n_documents
    for index, document in zip(order, found, strict=True):
        documents[index] = document
    if _digest(documents) != digest:
        raise CorruptError("the decoded text is not the one that was coded")
    return documents


def joined(archives: Sequence[bytes]) -> bytes:
    """One file of several archives: each behind its number of bytes."""
    return b"".join(_number(len(archive)) + archive for archive in archives)


def joined_bytes(n_bytes: int) -> int:
    """What an archive of ``n_bytes`` takes of such a file."""
    return len(_number(n_bytes)) + n_bytes


def warm() -> None:
    """Compile, or load, all kernels that coding needs; foreign code is not involved."""

    class Uniform:
        n_symbols = 2

        def start(self) -> None: ...

        def next_distribution(self) -> list[float]:
            return [0.5, 0.5]

        def observe(self, symbol: int) -> None: ...

        def encode(self, data: bytes) -> Ids:
            return np.array([byte & 1 for byte in data])

        def decode(self, ids: Ids) -> bytes:
            return bytes(ids.tolist())

    subject = Subject(Uniform)
    unpack(subject, pack(subject, [b"abc"], _ignore).archive, _ignore)


def _intervals(
    subject: Subject, tokens: Sequence[Ids], progress: Progress
) -> tuple[np.ndarray, np.ndarray, float]:
    """(cum, freq) uint32 of every symbol, and the bits of the float64 probabilities."""
    cum, freq, probabilities = [], [], []
    steps = Steps(subject)
    for ids in tokens:
        steps.start_document()
        for symbol in ids.tolist():
            p = steps.next_distribution()
            at, end = cuts(weights(p))[symbol : symbol + 2].tolist()
            cum.append(at)
            freq.append(end - at)
            probabilities.append(float(p[symbol]))
            steps.observe(symbol)
            progress(len(cum))
    bits = math.fsum(-math.log2(p) if p > 0 else math.inf for p in probabilities)
    return np.array(cum, np.uint32), np.array(freq, np.uint32), bits


def _symbols(
    subject: Subject, stream: bytes, lengths: Sequence[int], progress: Progress
) -> list[Ids]:
    n_total = sum(lengths)
    # A symbol takes at least log2(2**24 / (2**24 - V + 1)) bits; a stream of nothing is refused.
    least = -math.log2(1 - (subject.n_symbols - 1) / TOTAL) if subject.n_symbols > 1 else 0.0
    if n_total * least > 8 * len(stream) + 64:
        raise CorruptError(f"{n_total} symbols in {len(stream)} bytes")
    coded = Stream(stream)
    steps = Steps(subject)
    tokens, n_done = [], 0
    for length in lengths:
        steps.start_document()
        ids = []
        for _ in range(length):
            ends = cuts(weights(steps.next_distribution()))
            symbol = int(np.searchsorted(ends, coded.target(), side="right")) - 1
            coded.advance(int(ends[symbol]), int(ends[symbol + 1]))
            ids.append(symbol)
            steps.observe(symbol)
            n_done += 1
            progress(n_done)
        tokens.append(np.array(ids, np.int64))
    coded.finish()
    return tokens


def _ignore(n_done: int) -> None: ...


def _digest(documents: Sequence[bytes]) -> bytes:
    """Of the documents and of where each ends."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(len(document).to_bytes(8, "little") + document)
    return digest.digest()[:DIGEST_BYTES]


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, n_bytes: int) -> bytes:
        if n_bytes > len(self._data) - self._at:
            raise TruncatedError(f"the archive ends at {len(self._data)} bytes")
        self._at += n_bytes
        return self._data[self._at - n_bytes : self._at]

    def number(self) -> int:
        value = 0
        for shift in range(0, 42, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CorruptError("a number is too large")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)
