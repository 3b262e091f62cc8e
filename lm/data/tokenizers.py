"""The tokenizers that shards are made with: ours, which keep every byte, and the challenge's.

The challenge's SentencePiece models fold white space and compatibility characters
(NFKC), so a score on their tokens is one for a normalised text; they are here to
compare with published results.  Their accounting of bytes is
:func:`challenge_byte_counts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType, parse
from pgolf_codec.codec.tokenizer import BLANK, Tokenizer, train_tokenizer
from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.data.case import fold_case, unfold_case

BYTE_VOCABULARY = 258
"""Symbols of :func:`byte_tokenizer`: unknown, BOS, and the 256 bytes."""

_PROBE = " Two  blanks,\ta tab\nand a line; ﬁ and Å are compatibility characters.\r\n "
"""What a model that loses anything does not give back."""


class TextTokenizer(Protocol):
    """What cuts documents into ids below ``n_symbols``."""

    @property
    def n_symbols(self) -> int: ...

    @property
    def case(self) -> bool:
        """Whether capital letters are written as operators."""
        ...

    @property
    def lossless(self) -> bool:
        """Whether the ids give every document back."""
        ...

    def encode(self, data: bytes) -> NDArray[np.uint16]:
        """Ids (n,) of a document's bytes, without BOS."""
        ...

    def model_file(self) -> bytes:
        """The bytes of a SentencePiece ``.model`` with these pieces."""
        ...


@dataclass(frozen=True, slots=True)
class LosslessTokenizer:
    """:class:`~pgolf_codec.codec.tokenizer.Tokenizer` as a :class:`TextTokenizer`."""

    tokenizer: Tokenizer
    case: bool = False
    """Whether it cuts the text behind the case operators (:mod:`pgolf_codec.lm.data.case`)."""
    lossless: bool = True

    @property
    def n_symbols(self) -> int:
        return self.tokenizer.n_symbols

    def encode(self, data: bytes) -> NDArray[np.uint16]:
        data = fold_case(data) if self.case else data
        return self.tokenizer.encode(data).astype(np.uint16)

    def decode(self, ids: NDArray[np.uint16]) -> bytes:
        """The bytes that :meth:`encode` was given."""
        data = self.tokenizer.decode(ids)
        return unfold_case(data) if self.case else data

    def model_file(self) -> bytes:
        return self.tokenizer.to_sentencepiece()


class LossyTokenizer:
    """A SentencePiece model as it is, with the normalisation that it states."""

    case = False
    lossless = False

    def __init__(self, proto: bytes) -> None:
        """Raises :class:`ConfigError` if its BOS or its size is not one that shards can have."""
        self._proto = proto
        self._processor = _processor(proto)
        self.n_symbols: int = self._processor.vocab_size()
        if self._processor.bos_id() != BOS_ID:
            raise ConfigError(f"tokenizer: BOS is {self._processor.bos_id()}, not {BOS_ID}")
        if self.n_symbols > 1 << 16:
            raise ConfigError(f"tokenizer: {self.n_symbols} symbols do not fit 16 bits")

    def encode(self, data: bytes) -> NDArray[np.uint16]:
        text = data.decode("utf-8", "replace")
        return np.array(self._processor.encode(text), np.uint16)

    def model_file(self) -> bytes:
        return self._proto


def load_tokenizer(path: Path, *, lossless: bool = False, case: bool = False) -> TextTokenizer:
    """From a SentencePiece ``.model``, as it is, or a blob of :meth:`Tokenizer.to_bytes`.

    With ``lossless`` the pieces of a lossy model are used without its normalisation,
    so that they carry every byte: other ids than the challenge's for the same text.
    With ``case`` they cut the text behind the case operators; only lossless ones can.
    Raises :class:`CorruptError`, :class:`ConfigError` or :class:`LossyTokenizerError`.
    """
    return tokenizer_from(path.read_bytes(), lossless=lossless, case=case)


def tokenizer_from(blob: bytes, *, lossless: bool = False, case: bool = False) -> TextTokenizer:
    """:func:`load_tokenizer` of bytes."""
    stored = blob[:4] == b"\x28\xb5\x2f\xfd"  # zstd
    if stored or lossless or _keeps_everything(blob):
        tokenizer = (Tokenizer.from_bytes if stored else Tokenizer.from_sentencepiece)(blob)
        tokenizer.need_lossless()
        return LosslessTokenizer(tokenizer, case)
    if case:
        raise ConfigError("tokenizer: case operators need a lossless one")
    return LossyTokenizer(blob)


def byte_tokenizer() -> Tokenizer:
    """Every byte is a token: id 2 + byte."""
    control = [Piece("<unk>", 0.0, PieceType.UNKNOWN), Piece("<s>", 0.0, PieceType.CONTROL)]
    return Tokenizer(
        control + [Piece(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256)], Kind.BPE
    )


def train_lossless(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A BPE vocabulary of ``texts``; 256 is the bytes alone, which nothing is trained for.

    Raises :class:`ConfigError` if these texts don't give that many pieces.
    """
    if vocab_size in (256, BYTE_VOCABULARY):
        return byte_tokenizer()
    return train_tokenizer(texts, vocab_size=vocab_size)


@dataclass(frozen=True, slots=True)
class ByteCounts:
    """How many bytes the challenge counts for a token; one row an id."""

    n_bytes: NDArray[np.int64]
    """(V,): 0 for control, unknown and unused pieces, 1 for a byte piece, else the length
    in UTF-8 without the leading blank."""
    leading_blank: NDArray[np.bool_]
    """(V,): one byte more, unless the token before is a boundary."""
    boundary: NDArray[np.bool_]
    """(V,): control, unknown and unused pieces."""

    def of(self, ids: NDArray[Any]) -> int:
        """Bytes of the stream ``ids`` (n,), whose first id is context and counts none."""
        before, after = ids[:-1], ids[1:]
        blanks = self.leading_blank[after] & ~self.boundary[before]
        return int(self.n_bytes[after].sum()) + int(blanks.sum())


def challenge_byte_counts(pieces: Iterable[Piece]) -> ByteCounts:
    """The table of the challenge's ``train_gpt.py``, from a SentencePiece model's pieces."""
    n_bytes, leading, boundary = [], [], []
    for piece in pieces:
        outside = piece.type in (PieceType.CONTROL, PieceType.UNKNOWN, PieceType.UNUSED)
        blank = piece.text.startswith(BLANK) and not outside and piece.type is not PieceType.BYTE
        boundary.append(outside)
        leading.append(blank)
        if outside:
            n_bytes.append(0)
        elif piece.type is PieceType.BYTE:
            n_bytes.append(1)
        else:
            n_bytes.append(len(piece.text.removeprefix(BLANK).encode()))
    return ByteCounts(np.array(n_bytes, np.int64), np.array(leading), np.array(boundary))


def shard_bytes(model_file: bytes, ids: NDArray[Any], *, case: bool = False) -> int:
    """Bytes that the stream ``ids`` of documents with BOS stands for, but for its first id.

    Of a lossless tokenizer these are the documents' own, with ``case`` those in front of
    the case operators; of a lossy one they are what the challenge counts.
    """
    tokenizer = tokenizer_from(model_file, case=case)
    if isinstance(tokenizer, LosslessTokenizer):
        if case:
            documents = np.split(ids[1:].astype(np.int32), np.flatnonzero(ids[1:] == BOS_ID))
            return sum(len(tokenizer.decode(part[part != BOS_ID])) for part in documents)
        return tokenizer.tokenizer.n_bytes(ids[1:].astype(np.int32))
    pieces, _ = parse(model_file)
    return challenge_byte_counts(pieces).of(ids)


def _keeps_everything(proto: bytes) -> bool:
    processor = _processor(proto)
    return bool(processor.decode(processor.encode(_PROBE)) == _PROBE)


def _processor(proto: bytes) -> Any:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(proto)  # its constructor takes an empty one for none
        return processor
    except (RuntimeError, OSError) as error:
        raise CorruptError(f"tokenizer: not a SentencePiece model: {error}") from None
