"""Any bytes survive, whatever sentencepiece thinks of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import zstandard
from fake import small_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.codec import tokenizer as module
from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType, build, parse
from pgolf_codec.codec.tokenizer import Tokenizer, train_tokenizer
from pgolf_codec.errors import ConfigError, CorruptError, LossyTokenizerError

NASTY = {
    "empty": b"",
    "nul": b"\0the\0\0",
    "crlf": b"the\r\nand\n\r\n\r",
    "blanks": b"   the    and \t\t  ",
    "long blanks": b" " * 10000,
    "byte order mark": b"\xef\xbb\xbfthe",
    "not utf-8": b"the \xff\xfe and \x80",
    "overlong": b"\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf",
    "surrogates": b"\xed\xa0\x80\xed\xb0\x80 \xed\xbf\xbf",
    "beyond unicode": b"\xf4\x90\x80\x80 \xf8\x88\x80\x80\x80",
    "cut off": "the €".encode()[:-1],
    "cut off, then text": "€".encode()[:-1] + b"the",
    "control pieces": b"<s> </s> <unk> <pad> <0x41> <0x00>",
    "real U+2581": "the\u2581and \u2581\u2581 \u2581".encode(),
    "half of U+2581": "\u2581".encode()[:-1] + b" the",
    "not normalised": "e\u0301 \ufb01 \u3000 \u00a0 \u2126 ①".encode(),
    "astral": "\U0001f600\U0010ffff\U000e0001".encode(),
    "format characters": "\u200b\u200d\u202e\ufeff\u0085\u2028".encode(),
    "all bytes": bytes(range(256)),
    "long word": b"the" * 5000,
    "long of one": b"a" * 20000,
    "long, not ascii": "é".encode() * 5000,
}

nasty_texts = st.text(st.sampled_from("thean <s>0x41\u2581\0\r\n\u0301é€\U0001f600")).map(
    str.encode
)
any_bytes = st.one_of(
    st.binary(max_size=200),
    nasty_texts,
    st.lists(st.one_of(nasty_texts, st.binary(max_size=4))).map(b"".join),
)


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return small_tokenizer()


def assert_lossless(tokenizer: Tokenizer, data: bytes) -> None:
    ids = tokenizer.encode(data)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == data
    assert all(tokenizer.table[i] for i in ids), "a control id inside of text"
    assert tokenizer.n_bytes(ids) == len(data)


@pytest.mark.parametrize("data", NASTY.values(), ids=NASTY)
def test_nasty(small: Tokenizer, data: bytes) -> None:
    assert_lossless(small, data)


@given(any_bytes)
def test_any_bytes(data: bytes) -> None:
    assert_lossless(small_tokenizer(), data)


def test_words_are_used(small: Tokenizer) -> None:
    assert [small.table[i] for i in small.encode(b"the and the")] == [b"the", b" and", b" the"]


def test_memoryview(small: Tokenizer) -> None:
    assert small.encode(memoryview(b"xthe and")[1:]).tolist() == small.encode(b"the and").tolist()


def test_cuts_do_not_change_tokens(small: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"the and an hen  than\nhand   and " * 200
    whole = small.encode(data[:1000])
    monkeypatch.setattr(module, "_CUT_CHARS", 40)
    assert small.encode(data[:1000]).tolist() == whole.tolist()


def test_pieces_are_bounded(small: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Spy:
        def encode(self, texts: list[str], num_threads: int) -> list[list[int]]:
            seen.extend(map(len, texts))
            return [[1] for _ in texts]

    monkeypatch.setattr(small, "_processor", Spy())
    for data in (b"a" * 10001, b" " * 10001, b"a " * 5001, b"\n" * 10001, "é".encode() * 10001):
        small.encode(data)
    assert max(seen) <= module._CUT_CHARS
    assert min(seen) > 0


def test_lossy_sentencepiece_is_found_out(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A future version that drops, changes or names controls costs bytes, not data."""
    the = small.encode(b"the").tolist()

    class Lossy:
        def encode(self, texts: list[str], num_threads: int) -> list[list[int]]:
            return [[1, *the] if text == "the" else [] for text in texts]

    monkeypatch.setattr(small, "_processor", Lossy())
    assert_lossless(small, b"the")
    assert_lossless(small, b"the \xff and \xfe the")


def test_decoding_needs_no_sentencepiece(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = small_tokenizer().encode(b"the \xff and")
    blob = small_tokenizer().to_bytes()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # any import of it fails
    tokenizer = Tokenizer.from_bytes(blob)
    assert tokenizer.decode(ids) == b"the \xff and"
    with pytest.raises(ImportError):
        tokenizer.encode(b"the")


@pytest.mark.parametrize("ids", [[-1], [5, 10**6], [2**31 - 1]])
def test_ids_outside_of_the_vocabulary(small: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(CorruptError, match="outside"):
        small.decode(ids)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_trained(kind: str, english: bytes) -> None:
    texts = [english.decode(), "\u2581 is no blank\r\n", "caffè 123"]
    tokenizer = train_tokenizer(texts, vocab_size=300, kind=kind)
    assert tokenizer.n_symbols == 300
    assert tokenizer.table[:2] == (b"", b"")
    assert tokenizer.table[2:258] == tuple(bytes([b]) for b in range(256))
    assert len(tokenizer.encode(english)) < len(english) / 2
    for data in NASTY.values():
        assert_lossless(tokenizer, data)
    again = Tokenizer.from_bytes(tokenizer.to_bytes())
    assert again.table == tokenizer.table
    assert again.encode(english).tolist() == tokenizer.encode(english).tolist()
    assert again.to_bytes() == tokenizer.to_bytes()


def test_impossible_training() -> None:
    with pytest.raises(ConfigError, match="5000 symbols"):
        train_tokenizer(["too little"], vocab_size=5000)


def test_scores_are_kept_where_they_matter() -> None:
    """BPE merges by score: here against the order of the ids."""
    pieces, kind = parse(build(small_tokenizer(["ab", "bc", "a", "b", "c"])._pieces, Kind.BPE))
    turned = [
        Piece(p.text, -100 - p.score, p.type) if p.type is PieceType.NORMAL else p for p in pieces
    ]
    for order, expected in ((pieces, [b"ab", b"c"]), (turned, [b"a", b"bc"])):
        tokenizer = Tokenizer.from_bytes(Tokenizer(order, kind).to_bytes())
        assert [tokenizer.table[i] for i in tokenizer.encode(b"abc")] == expected


def test_every_flip_of_a_blob_is_found() -> None:
    blob = small_tokenizer().to_bytes()
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            table = Tokenizer.from_bytes(bytes(damaged)).table
        except CorruptError:
            continue
        assert table == small_tokenizer().table, f"bit {bit}"


def test_every_truncation_of_a_blob_is_found() -> None:
    blob = small_tokenizer().to_bytes()
    for size in range(len(blob)):
        with pytest.raises(CorruptError):
            Tokenizer.from_bytes(blob[:size])
    with pytest.raises(CorruptError):
        Tokenizer.from_bytes(blob + b"\0")


@given(st.binary(max_size=1200))
def test_arbitrary_blobs(raw: bytes) -> None:
    for blob in (raw, zstandard.compress(raw), zstandard.compress(b"\1\2" + raw)):
        with pytest.raises(CorruptError):
            Tokenizer.from_bytes(blob)


def test_a_blob_that_claims_too_much() -> None:
    with pytest.raises(CorruptError, match="not possible"):
        Tokenizer.from_bytes(zstandard.compress(bytes(module.MAX_BLOB_BYTES + 1)))


@given(st.binary(max_size=60))
def test_arbitrary_sentencepiece_models(proto: bytes) -> None:
    with pytest.raises(CorruptError):
        Tokenizer.from_sentencepiece(proto)


def test_a_vocabulary_without_some_byte() -> None:
    pieces = [p for p in small_tokenizer()._pieces if p.text != "<0x7A>"]
    lossy = Tokenizer(pieces, Kind.BPE)
    assert (lossy.lossless, small_tokenizer().lossless) == (False, True)
    for text in (b"a", b"z"):  # whatever the text: that some can be carried helps nobody
        with pytest.raises(LossyTokenizerError, match="no symbol for the byte 0x7A"):
            lossy.encode(text)
    again = Tokenizer.from_bytes(lossy.to_bytes())
    assert again.table == lossy.table
    assert again.decode([2 + ord("a")]) == b"a"
