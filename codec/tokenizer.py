"""Lossless tokens for any bytes, of every vocabulary that has a piece for each byte.

Text is cut by a sentencepiece model (identity normalisation, no dummy prefix,
blanks kept, byte fallback); what such a model can't carry goes through the 256
byte pieces that every vocabulary here has.  :meth:`Tokenizer.decode` needs
nothing but the table id -> bytes, and the encoder checks every piece of its work
with it, so ``decode(encode(data)) == data`` holds by construction, whatever
the version of sentencepiece.  A vocabulary that lacks some byte can be kept, scored with
and decoded; it refuses to encode.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType, build, parse
from pgolf_codec.errors import ConfigError, CorruptError, LossyTokenizerError

BLANK = "\u2581"
"""Sentencepiece's sign for a blank; a real one in the text must not pass for it."""

MAX_SYMBOLS = 1 << 16
MAX_PIECE_BYTES = 255
MAX_BLOB_BYTES = 1 << 25

_UNCARRIED = re.compile(f"([\udc80-\udcff{BLANK}]+)")
"""What sentencepiece can't carry: escaped bytes that are not UTF-8, and real U+2581."""

_CUT_CHARS = 2048
"""Sentencepiece sees at most this many characters at a time."""

_DECODE_BLOCK = 1 << 16

_BLOB = struct.Struct("<BBHB")
"""Version of the blob, kind, number of symbols - 1, whether scores follow."""


class Tokenizer:
    """A vocabulary, and the cutting of bytes into it.  Immutable; safe to share by threads."""

    table: tuple[bytes, ...]
    """id -> bytes; empty for control ids, which never occur in encoded data."""

    def __init__(self, pieces: Sequence[Piece], kind: Kind) -> None:
        """Raises :class:`CorruptError` if a size is impossible."""
        if not 257 <= len(pieces) <= MAX_SYMBOLS:
            raise CorruptError(f"tokenizer: {len(pieces)} symbols, not 257..{MAX_SYMBOLS}")
        if sum(piece.type is PieceType.UNKNOWN for piece in pieces) != 1:
            raise CorruptError("tokenizer: there is not exactly one unknown symbol")
        self.table = tuple(_piece_bytes(piece) for piece in pieces)
        self._pieces = tuple(pieces)
        self._kind = kind
        self._n_bytes = np.array([len(entry) for entry in self.table], np.int32)
        if int(self._n_bytes.max()) > MAX_PIECE_BYTES:
            raise CorruptError(f"tokenizer: a symbol of more than {MAX_PIECE_BYTES} bytes")
        # The lowest id of each single byte: <0x00> .. <0xFF> stand before other pieces.
        first = {entry: i for i, entry in reversed(list(enumerate(self.table)))}
        self._byte_ids = [first.get(bytes([b]), -1) for b in range(256)]
        self._processor: Any = None

    @property
    def n_symbols(self) -> int:
        """Size of the vocabulary, control ids included."""
        return len(self.table)

    @property
    def lossless(self) -> bool:
        """Whether every byte has a symbol, so that all bytes can be encoded."""
        return -1 not in self._byte_ids

    def need_lossless(self) -> None:
        """Raises :class:`LossyTokenizerError` if some byte has no symbol."""
        if not self.lossless:
            raise LossyTokenizerError(
                f"tokenizer: no symbol for the byte 0x{self._byte_ids.index(-1):02X}: it loses "
                "what it has no symbols for, so it is for scores only, and nothing can be "
                "compressed with it"
            )

    def encode(self, data: bytes | memoryview) -> NDArray[np.int32]:
        """Ids (n,) int32 of any bytes; never a control id; ``decode`` gives ``data`` back.

        Raises :class:`LossyTokenizerError` if some byte has no symbol.
        """
        self.need_lossless()
        units = list(_units(str(data, "utf-8", "surrogateescape")))
        texts = [text for text, carried in units if carried]
        cut = iter(self._sentencepiece().encode(texts, num_threads=1) if texts else ())
        runs = [next(cut) if carried else self._byte_pieces(text) for text, carried in units]
        ids = np.fromiter(itertools.chain.from_iterable(runs), np.int32)
        if self._carries(ids, data):
            return ids
        # Some version of sentencepiece lost something: find where, and spell it.
        kept = [
            run
            if self._carries(np.array(run, np.int32), _to_bytes(text))
            else self._byte_pieces(text)
            for run, (text, _) in zip(runs, units, strict=True)
        ]
        return np.fromiter(itertools.chain.from_iterable(kept), np.int32)

    def decode(self, ids: ArrayLike) -> bytes:
        """The bytes of ``ids`` (n,), from the table only.

        Raises :class:`CorruptError` if an id is outside of the vocabulary.
        """
        array = np.asarray(ids)
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < self.n_symbols:
            raise CorruptError("a token id is outside of the vocabulary")
        entry = self.table.__getitem__
        # In blocks: a Python list of all ids would take ten times their bytes.
        return b"".join(
            b"".join(map(entry, array[at : at + _DECODE_BLOCK].tolist()))
            for at in range(0, array.size, _DECODE_BLOCK)
        )

    def n_bytes(self, ids: NDArray[np.int32]) -> int:
        """Length of ``decode(ids)``; ids are in range."""
        return int(self._n_bytes[ids].sum())

    def to_bytes(self) -> bytes:
        """What an artifact stores: the pieces, compressed; see docs/FORMAT.md."""
        import zstandard

        scores = [piece.score for piece in self._pieces]
        # All that BPE makes of its scores is an order, which is nearly always that of the ids.
        has_scores = self._scores_matter(scores)
        raw = b"".join(
            [
                _BLOB.pack(1, self._kind, self.n_symbols - 1, has_scores),
                bytes(piece.type for piece in self._pieces),
                bytes(self._n_bytes.astype(np.uint8)),
                *self.table,
                np.array(scores, "<f4").tobytes() if has_scores else b"",
            ]
        )
        return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(raw)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """The inverse of :meth:`to_bytes`; raises :class:`CorruptError`."""
        raw = _unpack(blob)
        try:
            version, kind, last, has_scores = _BLOB.unpack_from(raw)
            n = last + 1
            types = [PieceType(t) for t in raw[_BLOB.size : _BLOB.size + n]]
            lengths = raw[_BLOB.size + n : _BLOB.size + 2 * n]
            if version != 1 or has_scores > 1 or len(lengths) != n:
                raise ValueError("impossible header")
            ends = np.cumsum(np.frombuffer(lengths, np.uint8), dtype=np.int64) + _BLOB.size + 2 * n
            if len(raw) != int(ends[-1]) + 4 * n * has_scores:
                raise ValueError("the sizes do not add up")
            scores = (
                np.frombuffer(raw, "<f4", offset=int(ends[-1])) if has_scores else -np.arange(n)
            )
            table = [
                raw[int(end) - size : int(end)] for end, size in zip(ends, lengths, strict=True)
            ]
            pieces = [
                Piece(_piece_text(i, entry, kind_of), float(score), kind_of)
                for i, (entry, kind_of, score) in enumerate(zip(table, types, scores, strict=True))
            ]
            tokenizer = cls(pieces, Kind(kind))
        except (ValueError, struct.error, IndexError) as error:
            raise CorruptError(f"tokenizer: {error}") from None
        if list(tokenizer.table) != table:
            raise CorruptError("tokenizer: a symbol is not what its type says")
        return tokenizer

    @classmethod
    def from_sentencepiece(cls, model_proto: bytes) -> Self:
        """From the bytes of a sentencepiece ``.model`` file, lossless if it has all bytes.

        The pieces and their order are kept; normalisation and the treatment of
        blanks become the lossless ones.  Raises :class:`CorruptError`.
        """
        return cls(*parse(model_proto))

    def to_sentencepiece(self) -> bytes:
        """A sentencepiece ``.model`` file; :meth:`from_sentencepiece` is the inverse."""
        return build(self._pieces, self._kind)

    def _scores_matter(self, scores: list[float]) -> bool:
        ordered = [
            score
            for score, piece in zip(scores, self._pieces, strict=True)
            if piece.type is PieceType.NORMAL
        ]
        return self._kind is not Kind.BPE or any(a <= b for a, b in itertools.pairwise(ordered))

    def _sentencepiece(self) -> Any:
        if self._processor is None:  # two threads may both do this: harmless
            from sentencepiece import SentencePieceProcessor

            self._processor = SentencePieceProcessor(model_proto=self.to_sentencepiece())
        return self._processor

    def _byte_pieces(self, text: str) -> list[int]:
        return [self._byte_ids[byte] for byte in _to_bytes(text)]

    def _carries(self, ids: NDArray[np.int32], data: bytes | memoryview) -> bool:
        return bool(self._n_bytes[ids].all()) and self.decode(ids) == data


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, kind: str = "bpe") -> Tokenizer:
    """Train sentencepiece on ``texts`` (documents of any length) and take its pieces.

    ``kind`` is ``"bpe"`` or ``"unigram"``; the ids are 0 unknown, 1 start of stream,
    2..257 the bytes, then the pieces.  Raises :class:`ConfigError` if sentencepiece
    can't make such a vocabulary of these texts.
    """
    from sentencepiece import SentencePieceTrainer

    model = BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            character_coverage=0.9995,
            max_sentence_length=8 * _CUT_CHARS,
            unk_id=0,
            bos_id=1,
            eos_id=-1,
            pad_id=-1,
            num_threads=2,
            minloglevel=1,
        )
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"tokenizer of {vocab_size} symbols ({kind}): {error}") from None
    return Tokenizer.from_sentencepiece(model.getvalue())


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for unit, carried in _units(text):
            if carried:
                yield unit


def _units(text: str) -> Iterator[tuple[str, bool]]:
    """(part, whether sentencepiece can carry it), in order; together they are ``text``."""
    for i, part in enumerate(_UNCARRIED.split(text)):
        if i % 2:
            yield part, False
        else:
            yield from ((piece, True) for piece in _cut(part))


def _cut(text: str) -> Iterator[str]:
    """Pieces of at most ``_CUT_CHARS``, so that no run of characters can be slow.

    Cut before the last word start, else behind the last line end, else anywhere.
    Merges never cross a word start (the trainer sees to that), so a cut there does
    not change the tokens.
    """
    at = 0
    while len(text) - at > _CUT_CHARS:
        middle, end = at + _CUT_CHARS // 2, at + _CUT_CHARS
        blank = text.rfind(" ", middle, end)
        while blank > middle and text[blank - 1] == " ":
            blank -= 1
        if blank > middle:
            end = blank
        else:
            line = text.rfind("\n", middle, end)
            end = line + 1 if line >= 0 else end
        yield text[at:end]
        at = end
    if at < len(text):
        yield text[at:]


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _piece_bytes(piece: Piece) -> bytes:
    if piece.type in (PieceType.UNKNOWN, PieceType.CONTROL):
        return b""
    if piece.type is PieceType.BYTE:
        match = re.fullmatch("<0x([0-9A-F]{2})>", piece.text)
        if match is None:
            raise CorruptError(f"tokenizer: {piece.text!r} is not the name of a byte")
        return bytes.fromhex(match[1])
    return piece.text.replace(BLANK, " ").encode()


def _piece_text(i: int, entry: bytes, kind: PieceType) -> str:
    """Sentencepiece's name of symbol ``i``; that of a control symbol is never met in text."""
    if kind in (PieceType.UNKNOWN, PieceType.CONTROL):
        return f"<{i}>"
    if kind is PieceType.BYTE:
        return f"<0x{entry.hex().upper()}>"
    return entry.decode().replace(" ", BLANK)


def _unpack(blob: bytes) -> bytes:
    import zstandard

    try:
        claimed = zstandard.get_frame_parameters(blob).content_size
        if not 0 < claimed <= MAX_BLOB_BYTES:
            raise CorruptError(f"tokenizer: a size of {claimed} bytes is not possible")
        return zstandard.ZstdDecompressor().decompress(blob, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"tokenizer: {error}") from None
