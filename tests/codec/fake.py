"""A model small enough to read, and an example of how to write a Predictor.

It learns, for each previous symbol, how often each symbol followed, in integers.
Its state is a pure function of the symbols before, which is all that the codec asks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.frequencies import interval
from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType
from pgolf_codec.codec.tokenizer import BLANK, Tokenizer

WORDS = ["t", "h", "e", "a", "n", "d", " ", "th", "he", "the", " the", "an", "and", " and", "\n"]


def small_tokenizer(words: list[str] = WORDS) -> Tokenizer:
    """258 + len(words) symbols: control ids, the bytes, and a few words, best first."""
    pieces = [
        Piece("<unk>", 0.0, PieceType.UNKNOWN),
        Piece("<s>", 0.0, PieceType.CONTROL),
        *(Piece(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256)),
        *(
            Piece(word.replace(" ", BLANK), -float(i), PieceType.NORMAL)
            for i, word in enumerate(words)
        ),
    ]
    return Tokenizer(pieces, Kind.BPE)


class Order1Session:
    """Counts of pairs, one table (V, V) a stream, as uint16 weights."""

    def __init__(self, n_streams: int, n_symbols: int) -> None:
        self._counts = np.ones((n_streams, n_symbols, n_symbols), np.uint16)
        self._counts[:, :, 258:] = 40  # words, rather than bytes
        self._lanes = np.arange(n_streams)
        self._context = np.ones(n_streams, np.int32)  # <s>
        self._weights = np.empty((n_streams, n_symbols), np.uint32)

    def intervals(self, ids: NDArray[np.int32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        cum, freq = np.empty(ids.shape, np.uint32), np.empty(ids.shape, np.uint32)
        for t in range(ids.shape[1]):
            for lane in self._lanes:
                weights = self._counts[lane, self._context[lane]].astype(np.uint32)
                cum[lane, t], freq[lane, t] = interval(weights, int(ids[lane, t]))
            self._learn(ids[:, t])
        return cum, freq

    def weights(self, previous: NDArray[np.int32] | None) -> NDArray[np.uint32]:
        if previous is not None:
            self._learn(previous)
        self._weights[:] = self._counts[self._lanes, self._context]
        return self._weights

    def _learn(self, ids: NDArray[np.int32]) -> None:
        seen = self._counts[self._lanes, self._context, ids]
        self._counts[self._lanes, self._context, ids] = np.minimum(seen, 60000) + np.uint16(40)
        self._context = ids.copy()


@dataclass(frozen=True)
class Order1Predictor:
    n_symbols: int
    fingerprint: bytes
    numerics_version: int = 7

    def session(self, n_streams: int) -> Order1Session:
        return Order1Session(n_streams, self.n_symbols)


@dataclass(frozen=True)
class FakeModel:
    """Stands for quant's loaded artifact."""

    name: str = "order-1"
    seed: bytes = b"order-1"
    tokenizer: Tokenizer = field(default_factory=small_tokenizer)
    n_bytes: int = 0

    @property
    def predictor(self) -> Order1Predictor:
        return Order1Predictor(self.tokenizer.n_symbols, hashlib.sha256(self.seed).digest())
