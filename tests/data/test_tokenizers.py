"""Tokenizers of shards: ours lose nothing, the challenge's are taken as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pgolf_codec.codec.sentencepiece_model import Piece, PieceType, parse
from pgolf_codec.errors import ConfigError, CorruptError, LossyTokenizerError
from pgolf_codec.lm.data.tokenizers import (
    LosslessTokenizer,
    LossyTokenizer,
    byte_tokenizer,
    challenge_byte_counts,
    load_tokenizer,
    shard_bytes,
    tokenizer_from,
    train_lossless,
)

SHARED = Path(__file__).parents[3] / "shared" / "tokenizers"
NASTY = " Two  blanks,\ta tab,\r\n ﬁ Å é 😀 ▁ \0 ".encode() + b"\xff\xfe end\n"


def lossy_model(folder: Path, **ids: int) -> bytes:
    """A small model trained as the challenge's are."""
    from sentencepiece import SentencePieceTrainer

    words = [f"{a}{b} {b}{a}" for a in "abcdefg" for b in ("on", "ing", "er", "é")]
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words)] * 3),
        model_prefix=str(folder / "lossy"),
        model_type="bpe",
        vocab_size=300,
        normalization_rule_name="nmt_nfkc",
        add_dummy_prefix=False,
        byte_fallback=True,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, **ids},
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return (folder / "lossy.model").read_bytes()


def test_bytes_are_tokens() -> None:
    tokenizer = LosslessTokenizer(byte_tokenizer())
    assert tokenizer.n_symbols == 258
    ids = tokenizer.encode(bytes(range(256)) + NASTY)
    assert ids.dtype == np.uint16
    assert (ids - 2).astype(np.uint8).tobytes() == bytes(range(256)) + NASTY
    assert train_lossless([], 256).table == byte_tokenizer().table


@pytest.mark.parametrize("case", [False, True])
def test_a_model_file_is_the_tokenizer(case: bool) -> None:
    texts = ["The house on the hill, and THE road to it. " * 9, NASTY.decode("utf-8", "ignore")]
    tokenizer = LosslessTokenizer(train_lossless(texts, 300), case)
    again = tokenizer_from(tokenizer.model_file(), case=case)
    assert isinstance(again, LosslessTokenizer)
    assert (again.lossless, again.case, again.n_symbols) == (True, case, 300)
    for data in (NASTY, texts[0].encode(), b""):
        ids = tokenizer.encode(data)
        assert (again.encode(data) == ids).all()
        assert tokenizer.decode(ids) == data
    blob = tokenizer_from(tokenizer.tokenizer.to_bytes(), case=case)
    assert (blob.encode(NASTY) == tokenizer.encode(NASTY)).all()


def test_a_lossy_model_is_taken_as_it_is(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    model = lossy_model(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "lossy.model")
    assert isinstance(tokenizer, LossyTokenizer)
    assert not tokenizer.lossless
    processor = SentencePieceProcessor(model_proto=model)
    text = "aon  bing\n\nﬁ ger"
    assert tokenizer.encode(text.encode()).tolist() == processor.encode(text)
    assert (tokenizer.encode(b"a\n b") == tokenizer.encode(b" a b ")).all()
    assert tokenizer.model_file() == model
    lossless = load_tokenizer(tmp_path / "lossy.model", lossless=True)
    assert isinstance(lossless, LosslessTokenizer)
    assert lossless.n_symbols == tokenizer.n_symbols
    assert lossless.decode(lossless.encode(NASTY)) == NASTY
    with pytest.raises(ConfigError, match="case operators need a lossless"):
        load_tokenizer(tmp_path / "lossy.model", case=True)


def test_models_that_can_not_be_used(tmp_path: Path) -> None:
    for blob in (b"nothing of the kind", b""):
        (tmp_path / "x.model").write_bytes(blob)
        with pytest.raises(CorruptError, match="tokenizer"):
            load_tokenizer(tmp_path / "x.model")
    model = lossy_model(tmp_path, bos_id=-1, eos_id=1, pad_id=2)
    with pytest.raises(ConfigError, match="BOS is -1, not 1"):
        tokenizer_from(model)


def test_the_challenges_bytes_by_hand() -> None:
    pieces = [
        Piece("<unk>", 0.0, PieceType.UNKNOWN),
        Piece("<s>", 0.0, PieceType.CONTROL),
        Piece("<0xFF>", 0.0, PieceType.BYTE),
        Piece("▁the", 0.0, PieceType.NORMAL),
        Piece("é▁x", 0.0, PieceType.NORMAL),
        Piece("▁", 0.0, PieceType.NORMAL),
        Piece("gone", 0.0, PieceType.UNUSED),
        Piece("<mask>", 0.0, PieceType.USER_DEFINED),
    ]
    counts = challenge_byte_counts(pieces)
    assert counts.n_bytes.tolist() == [0, 0, 1, 3, 6, 0, 0, 6]
    assert np.flatnonzero(counts.leading_blank).tolist() == [3, 5]
    assert np.flatnonzero(counts.boundary).tolist() == [0, 1, 6]
    assert counts.of(np.array([1, 3])) == 3  # no blank behind BOS
    assert counts.of(np.array([1, 3, 3])) == 7
    assert counts.of(np.array([3, 1, 5, 5, 6, 3, 2, 3])) == 0 + 0 + 1 + 0 + 3 + 1 + 4


def test_bytes_of_a_stream(tmp_path: Path) -> None:
    documents = ["aon bing  cer", "dé eing"]
    lossless = LosslessTokenizer(train_lossless([" ".join(documents) * 5], 280))
    model = lossy_model(tmp_path)
    for tokenizer, n_bytes in (
        (lossless, sum(len(text.encode()) for text in documents)),
        (tokenizer_from(model), len(b"aon bing cer") + len("dé eing".encode())),
    ):
        runs = [run for text in documents for run in ([1], tokenizer.encode(text.encode()))]
        assert shard_bytes(tokenizer.model_file(), np.concatenate(runs)) == n_bytes


@pytest.mark.skipif(not SHARED.is_dir(), reason="no tokenizers beside the checkout")
@pytest.mark.parametrize("n", [1024, 8192])
def test_the_challenges_models(n: int) -> None:
    """The table, against the rules asked of sentencepiece itself."""
    from sentencepiece import SentencePieceProcessor

    path = SHARED / f"fineweb_{n}_bpe.model"
    tokenizer = load_tokenizer(path)
    assert (tokenizer.lossless, tokenizer.n_symbols) == (False, n)
    counts = challenge_byte_counts(parse(path.read_bytes())[0])
    processor = SentencePieceProcessor(model_file=str(path))
    for i in range(n):
        outside = processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i)
        piece = processor.id_to_piece(i)
        assert counts.boundary[i] == outside
        if outside or processor.is_byte(i):
            assert counts.n_bytes[i] == int(not outside)
        else:
            assert counts.n_bytes[i] == len(piece.removeprefix("▁").encode())
            assert counts.leading_blank[i] == piece.startswith("▁")
    if n == 8192:
        lossless = load_tokenizer(path, lossless=True)
        assert isinstance(lossless, LosslessTokenizer)
        assert lossless.decode(lossless.encode(NASTY)) == NASTY
    else:
        with pytest.raises(LossyTokenizerError, match="no symbol for the byte 0x00"):
            load_tokenizer(path, lossless=True)
