"""The tokens of a text that is scored: ours, or the challenge's with its count of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.sentencepiece_model import parse
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.config import BOS_ID

if TYPE_CHECKING:
    from pgolf_codec.lm.data.tokenizers import ByteCounts

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How documents become symbols, and what symbols say of them."""

    n_symbols: int
    encode: Callable[[bytes], Ids]
    decode: Callable[[Ids], bytes]
    counts: ByteCounts | None = None
    """The challenge's, of a tokenizer that folds what it reads; None of one that keeps all."""

    def joined(self, documents: list[bytes]) -> Ids:
        """Symbols of all documents as one text.

        Where bytes are folded it is the challenge's stream, in which each has a BOS; the
        first one stands before everything.
        """
        between = np.full(int(self.counts is not None), BOS_ID, np.int32)
        parts = [part for text in documents for part in (between, self.encode(text))]
        return np.concatenate([*parts[1:], np.zeros(0, np.int32)]).astype(np.int32)


def of_tokenizer(tokenizer: Tokenizer) -> Vocabulary:
    """Raises :class:`LossyTokenizerError` if some byte has no symbol."""
    tokenizer.need_lossless()
    return Vocabulary(tokenizer.n_symbols, tokenizer.encode, tokenizer.decode)


def read_vocabulary(name: str) -> Vocabulary:
    """Of a ``.pglm``, an embedded model's name, a SentencePiece ``.model``, or what a build of
    ours leaves as ``tokenizer.bin``.

    Raises :class:`FormatError` or :class:`ConfigError` for what is none of them.
    """
    from pgolf_codec import load_model
    from pgolf_codec.lm.data.tokenizers import (
        LosslessTokenizer,
        challenge_byte_counts,
        tokenizer_from,
    )

    path = Path(name)
    if path.suffix == ".pglm" or not path.is_file():
        return of_tokenizer(load_model(name).tokenizer)
    proto = path.read_bytes()
    found = tokenizer_from(proto)
    if isinstance(found, LosslessTokenizer):
        return of_tokenizer(found.tokenizer)
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_proto=proto)
    return Vocabulary(
        found.n_symbols,
        lambda data: found.encode(data).astype(np.int32),
        lambda ids: str(processor.decode(ids.tolist())).encode(),
        challenge_byte_counts(parse(proto)[0]),
    )
