"""Read and write the few fields of a sentencepiece model file that matter here.

The file is a protocol buffer.  Only the pieces and the kind of model are read;
written are these and the settings under which sentencepiece keeps every byte:
identity normalisation, no dummy prefix, no folding of blanks, byte fallback.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pgolf_codec.errors import CorruptError


class PieceType(IntEnum):
    """``SentencePiece.Type`` of sentencepiece_model.proto."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Kind(IntEnum):
    """``TrainerSpec.ModelType``: the two that this package uses."""

    UNIGRAM = 1
    BPE = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; ``text`` is sentencepiece's, with U+2581 for a blank."""

    text: str
    score: float
    type: PieceType


def parse(proto: bytes) -> tuple[list[Piece], Kind]:
    """Pieces in the order of their ids, and the kind of model.

    Raises :class:`CorruptError` if these are not the bytes of a sentencepiece model.
    """
    try:
        pieces: list[Piece] = []
        kind = Kind.UNIGRAM  # the default of the .proto file
        for number, value in _fields(proto):
            if number == 1 and isinstance(value, bytes):
                pieces.append(_parse_piece(value))
            elif number == 2 and isinstance(value, bytes):
                settings = dict(_fields(value))
                kind = Kind(_integer(settings.get(3, Kind.UNIGRAM)))
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise CorruptError(f"not a usable sentencepiece model: {error}") from None
    if not pieces:
        raise CorruptError("not a usable sentencepiece model: it has no pieces")
    return pieces, kind


def build(pieces: Sequence[Piece], kind: Kind) -> bytes:
    """A model file that sentencepiece loads, with the lossless settings above."""
    trainer = _number(3, kind) + _number(35, 1)  # model_type, byte_fallback
    for number, wanted in ((40, PieceType.UNKNOWN), (41, None), (42, None), (43, None)):
        ids = [i for i, piece in enumerate(pieces) if piece.type is wanted]
        trainer += _number(number, ids[0] if ids else -1)  # unk, bos, eos and pad ids
    # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    normalizer = _blob(1, b"identity") + _number(3, 0) + _number(4, 0) + _number(5, 1)
    kinds = {kind: _number(3, kind) for kind in PieceType}
    score = struct.Struct("<cf").pack  # b"\x15": field 2, four bytes
    coded = [
        _blob(1, _blob(1, piece.text.encode()) + score(b"\x15", piece.score) + kinds[piece.type])
        for piece in pieces
    ]
    return b"".join([*coded, _blob(2, trainer), _blob(3, normalizer)])


def _parse_piece(message: bytes) -> Piece:
    text, score, kind = "", 0.0, PieceType.NORMAL
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and isinstance(value, bytes):
            (score,) = struct.unpack("<f", value)
        elif number == 3:
            kind = PieceType(_integer(value))
    return Piece(text, score, kind)


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number should be")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message; fixed-size values stay bytes."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _read_varint(message, at)
            case 1 | 5 as wire:
                size = 8 if wire == 1 else 4
                value, at = message[at : at + size], at + size
            case 2:
                size, at = _read_varint(message, at)
                value, at = message[at : at + size], at + size
            case wire:
                raise ValueError(f"wire type {wire}")
        if at > len(message):
            raise ValueError("a field ends behind the data")
        yield tag >> 3, value


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is longer than 64 bits")


_SHORT = [bytes([value]) for value in range(128)]
"""Most numbers: a vocabulary has thousands of them, and every process builds it anew."""


def _write_varint(value: int) -> bytes:
    if 0 <= value < 128:
        return _SHORT[value]
    value &= (1 << 64) - 1  # negative numbers are stored as two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _write_varint(field << 3) + _write_varint(value)


def _blob(field: int, value: bytes) -> bytes:
    return _write_varint(field << 3 | 2) + _write_varint(len(value)) + value
