"""Reading corpora, mixing documents, and the token files that training reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zstandard

from pgolf_codec.codec.tokenizer import Tokenizer, train_tokenizer
from pgolf_codec.errors import ConfigError, FormatError, OverlapError, TruncatedError
from pgolf_codec.lm.config import DataConfig
from pgolf_codec.lm.data.corpora import (
    SEPARATOR,
    Document,
    corpus_files,
    mixture,
    read_documents,
    tokenizer_sample,
    write_held_out_tokens,
    write_training_tokens,
)

WEB = [f"Page {i} of the web, with its {'very ' * i}own length.\nIts end." for i in range(8)]
WIKI = ["Naïve café — an article.", "Another article."]
MISC = ["A transcript.", "CRLF\r\nand NUL\0 and ▁ and \ud800 alone."]


def zstd(data: bytes, window_log: int) -> bytes:
    """A frame by hand (RFC 8878): that window, no content size, one raw block."""
    header = bytes.fromhex("28b52ffd 00") + bytes([(window_log - 10) << 3])
    return header + (len(data) << 3 | 1).to_bytes(3, "little") + data


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """``web.jsonl``, ``open.jsonl.zst`` with two sources, and ``book.txt``."""
    web = [json.dumps({"text": text, "source": "web", "w": 1}) for text in WEB]
    (tmp_path / "web.jsonl").write_text("\n".join(web) + "\n", encoding="utf-8")
    opened = [{"text": text, "source": "enwiki"} for text in WIKI]
    opened += [{"text": text, "source": "misc"} for text in MISC]
    lines = "".join(json.dumps(document) + "\n" for document in opened).encode()
    (tmp_path / "open.jsonl.zst").write_bytes(zstd(lines, window_log=27))
    (tmp_path / "book.txt").write_bytes(b"One book, with a bad byte \xff.")
    return tmp_path


def config(total_bytes: int = 1000, **changes: object) -> DataConfig:
    classes: dict[str, object] = {
        "web": {"files": "web*", "share": 0.5, "sample_chars": 150},
        "wiki": {"files": "open*", "sources": ["*wiki"], "share": 0.25, "sample_chars": 1},
        "rest": {"files": "[bo]*", "share": 0.25},
    }
    values: dict[str, object] = {"held_out": "held.txt", "total_bytes": total_bytes}
    return DataConfig.from_dict({**values, "classes": classes, **changes})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(WEB * 20, vocab_size=300)


def test_the_three_kinds_of_files(corpora: Path) -> None:
    assert list(read_documents(corpora / "web.jsonl")) == [Document(text, "web") for text in WEB]
    opened = list(read_documents(corpora / "open.jsonl.zst"))
    assert opened == [Document(t, "enwiki") for t in WIKI] + [Document(t, "misc") for t in MISC]
    book = Document("One book, with a bad byte \udcff.", "book")
    assert list(read_documents(corpora / "book.txt")) == [book]


def test_a_document_without_a_source(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}', encoding="utf-8")
    assert list(read_documents(path)) == [Document("x", "")]


@pytest.mark.parametrize(
    "line", ["", "{", "3", "[]", '{"source": "x"}', '{"text": 3}', '{"text": "x", "source": null}']
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good"}}\n{line}\n', encoding="utf-8")
    documents = read_documents(path)
    assert next(documents).text == "good"
    with pytest.raises(FormatError, match=r"a\.jsonl:2"):
        next(documents)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.zst"])
def test_lines_as_other_programs_write_them(tmp_path: Path, suffix: str) -> None:
    """A mark in front, line ends of two bytes, no end of the last line, a line of many blocks."""
    long = "é" * (1 << 18)
    lines = [
        "\ufeff" + json.dumps({"text": "one"}),
        json.dumps({"text": long}),
        '{"text": "\ufeff"}',
    ]
    data = "\r\n".join(lines).encode()
    cut = len(data) // 3
    path = tmp_path / f"a.{suffix}"
    frames = b"".join(map(zstandard.compress, (data[:cut], data[cut:])))
    path.write_bytes(frames if suffix.endswith("zst") else data)
    assert [document.text for document in read_documents(path)] == ["one", long, "\ufeff"]


def test_a_frame_that_is_cut_off_is_not_the_end(tmp_path: Path) -> None:
    """Wherever it is cut: also behind a line, where the rest would not be missed."""
    compressor = zstandard.ZstdCompressor().compressobj()
    first = compressor.compress(b'{"text": "one"}\n')
    first += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(first)
    documents = read_documents(path)
    assert next(documents).text == "one"
    with pytest.raises(TruncatedError, match=r"a\.jsonl\.zst: ends within a zstd frame"):
        next(documents)
    path.write_bytes(first + compressor.flush())
    assert [document.text for document in read_documents(path)] == ["one"]


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\xff"}\n')
    (tmp_path / "b.jsonl.zst").write_bytes(b"not zstd")
    (tmp_path / "c.jsonl.zst").write_bytes(zstd(b'{"text": ""}\n', window_log=28))
    for name, why in (("a.jsonl", ":1: not UTF-8"), ("b.jsonl.zst", ""), ("c.jsonl.zst", "")):
        with pytest.raises(FormatError, match=name + why):
            list(read_documents(tmp_path / name))


def test_the_first_class_that_matches_takes_a_document(corpora: Path) -> None:
    files = {file.path.name: file for file in corpus_files(corpora, config())}
    assert list(files) == ["book.txt", "open.jsonl.zst", "web.jsonl"]
    assert files["web.jsonl"].classify("anything") == 0
    assert files["open.jsonl.zst"].classify("enwiki") == 1
    assert files["open.jsonl.zst"].classify("enwiki-2") == 2
    assert files["book.txt"].classify("book") == 2


def test_classes_without_files_or_documents(corpora: Path, tokenizer: Tokenizer) -> None:
    only = {"files": "nothing-*", "share": 1.0}
    with pytest.raises(ConfigError, match=r"data class only: .* nothing-\*"):
        corpus_files(corpora, config(classes={"only": only}))
    (corpora / "page.html").write_text("<p>")
    with pytest.raises(ConfigError, match=r"page\.html is none of \.jsonl"):
        corpus_files(corpora, config(classes={"only": {**only, "files": "*"}}))
    nobody = {"files": "web*", "sources": ["x"], "share": 1.0}
    with pytest.raises(ConfigError, match="data class only: no document"):
        write_training_tokens(
            corpora, config(classes={"only": nobody}), tokenizer, corpora / "t", log=lambda _: None
        )
    assert not list(corpora.glob("shards-*"))


def test_the_sample_stops_where_a_class_has_enough(corpora: Path) -> None:
    sample = list(tokenizer_sample(corpora, config()))
    assert sample[0] == WIKI[0] + SEPARATOR
    web = [text.removesuffix(SEPARATOR) for text in sample[1:]]
    assert web == WEB[: len(web)]
    assert len("".join(web[:-1])) < 150 <= len("".join(web))


def test_the_sample_takes_documents_by_chance(corpora: Path) -> None:
    wanted = {"only": {"files": "web*", "share": 1.0, "sample_chars": 10**6}}
    samples = [
        list(tokenizer_sample(corpora, config(classes=wanted, sample_keep=0.5, sample_seed=seed)))
        for seed in (1, 1, 2)
    ]
    assert samples[0] == samples[1] != samples[2]
    assert 0 < len(samples[0]) < len(WEB)


def test_a_sample_can_be_encoded_whatever_its_surrogates(corpora: Path) -> None:
    wanted = {"only": {"files": "[bo]*", "share": 1.0, "sample_chars": 10**6}}
    sample = "".join(tokenizer_sample(corpora, config(classes=wanted)))
    data = sample.encode("utf-8", "surrogateescape")
    assert b"bad byte \xff." in data
    assert b"and \xed\xa0\x80 alone." in data


def test_shares_and_epochs() -> None:
    n_bytes = np.array([10, 20, 30, 40, 50, 1, 2, 3])
    classes = np.array([0, 0, 0, 0, 0, 1, 1, 1], np.int16)
    two = {"a": {"files": "a", "share": 0.9}, "b": {"files": "b", "share": 0.1}}
    order = mixture(classes, n_bytes, config(1000, classes=two))
    taken = Counter(order)
    for members, share, largest in ((range(5), 900, 50), (range(5, 8), 100, 3)):
        got = sum(taken[i] * int(n_bytes[i]) for i in members)
        assert share <= got < share + largest
        counts = [taken[i] for i in members]
        assert max(counts) - min(counts) <= 1
    assert order == mixture(classes, n_bytes, config(1000, classes=two))
    assert order != mixture(classes, n_bytes, config(1000, classes=two, seed=2))
    assert order[:5] != sorted(order[:5])


def test_the_order_is_a_function_of_the_seed() -> None:
    two = {"a": {"files": "a", "share": 0.9}, "b": {"files": "b", "share": 0.1}}
    classes, n_bytes = np.array([0, 0, 0, 0, 1, 1], np.int16), np.array([10, 20, 30, 40, 5, 6])
    order = mixture(classes, n_bytes, config(200, classes=two))
    assert order == [3, 4, 2, 5, 1, 5, 3, 2, 0, 1, 0, 4]


def test_documents_of_no_class_are_left_out() -> None:
    classes = np.array([0, -1, 0], np.int16)
    one = {"a": {"files": "a", "share": 1.0}}
    assert set(mixture(classes, np.array([5, 5, 5]), config(50, classes=one))) == {0, 2}


def test_training_tokens(corpora: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines: list[str] = []
    outputs = [tmp_path / "train-1.bin", tmp_path / "train-2.bin"]
    for workers, output in enumerate(outputs, 1):
        write_training_tokens(
            corpora, config(), tokenizer, output, workers=workers, log=lines.append
        )
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    data = tokenizer.decode(np.fromfile(outputs[0], "<u2"))
    documents = Counter(data.removesuffix(b"\n\n").split(b"\n\n"))
    known = [text.encode("utf-8", "surrogatepass") for text in WEB + WIKI + MISC]
    known.append(b"One book, with a bad byte \xff.")
    assert set(documents) <= set(known)
    web = sum((len(text) + len(SEPARATOR)) * documents[text] for text in known[: len(WEB)])
    assert 500 <= web < 500 + max(map(len, known)) + 2
    assert data.endswith(b"\n\n")
    assert lines[0].startswith("book.txt: 30 bytes, ")  # with its separator
    assert any(line.startswith("web: ") and "epochs" in line for line in lines)
    assert not list(tmp_path.glob("shards-*"))


def test_held_out_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = tmp_path / "held.txt"
    text.write_bytes("A held-out text.\r\nIt is naïve. ".encode() * 9 + b"\xff")
    write_held_out_tokens(text, tokenizer, 32, tmp_path)
    ids = np.fromfile(tmp_path / "val.bin", "<u2")
    data = tokenizer.decode(ids)
    assert len(ids) % 32 == 0
    assert len(tokenizer.encode(text.read_bytes())) - len(ids) < 32
    assert text.read_bytes().startswith(data)
    assert json.loads((tmp_path / "val.json").read_text()) == {"n_bytes": len(data)}
    with pytest.raises(ConfigError, match="less than 1024 tokens"):
        write_held_out_tokens(text, tokenizer, 1024, tmp_path)


def test_training_documents_in_the_held_out_text_are_refused(
    corpora: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    long = "A document that is long enough to be known again wherever it stands, and no other is."
    lines = [json.dumps({"text": text}) + "\n" for text in [*WEB, f"{long}\n\nIts end."]]
    (corpora / "web.jsonl").write_text("".join(lines), encoding="utf-8")

    def write(held_out: str) -> None:
        write_training_tokens(
            corpora,
            config(),
            tokenizer,
            tmp_path / "train.bin",
            held_out=held_out.encode(),
            log=lambda _: None,
        )

    write(f"{WEB[0]} {long} another end.")  # a short one, and the beginning of the long one
    with pytest.raises(OverlapError, match=r"1 training documents .* held\.txt"):
        write(f"Before it.\r\n{long}\r\n\r\nIts  end.\r\nBehind it.")
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == ["train.bin"]
