"""From documents to shards with a manifest; splits, and what training refuses."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf_codec.cli import main
from pgolf_codec.codec.tokenizer import Tokenizer, train_tokenizer
from pgolf_codec.errors import ConfigError, CorruptError, FormatError, OverlapError, RefusedError
from pgolf_codec.lm.data import dataset_writer
from pgolf_codec.lm.data.corpora import read_documents
from pgolf_codec.lm.data.dataset import check_tokens, open_dataset
from pgolf_codec.lm.data.dataset import documents as iterate
from pgolf_codec.lm.data.dataset_writer import DatasetOptions, build_dataset
from pgolf_codec.lm.data.manifest import (
    HASH_BYTES,
    SPLITS,
    check_no_overlap,
    check_shards,
    dataset_entry,
    document_hash,
    overlap,
    read_hashes,
)
from pgolf_codec.lm.data.tokenizers import (
    LosslessTokenizer,
    byte_tokenizer,
    load_tokenizer,
    shard_bytes,
)
from pgolf_codec.lm.golf import GolfRun, run

RECIPE = """
[model]
vocab_size = 300
n_layers = 1
d_model = 8
n_heads = 1
n_kv_heads = 1
d_head = 8
d_hidden = 8
windows = [8]
rope_dims = 0
[train]
"""
SHARED = Path(__file__).parents[3] / "shared"
QUIET: Callable[[str], None] = lambda line: None  # noqa: E731


def documents(n: int = 60, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoin é\n", k=rng.randint(2, 8))) for _ in range(80)]
    return [f"{i}: " + " ".join(rng.choices(words, k=rng.randint(3, 40))) for i in range(n)]


def jsonl(path: Path, texts: list[str], source: str = "web") -> Path:
    lines = [json.dumps({"text": text, "source": source}) + "\n" for text in texts]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def split_back(folder: Path, tokenizer: Tokenizer) -> dict[str, list[bytes]]:
    """The documents of both splits, decoded."""
    data = open_dataset(folder)
    found = {}
    for split, stream in (("train", data.train), ("val", data.val)):
        ids = stream[:]
        starts = np.flatnonzero(ids == 1)
        assert ids.size == 0 or starts[0] == 0
        found[split] = [tokenizer.decode(run[1:]) for run in np.split(ids, starts)[1:]]
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(documents(200), vocab_size=300)


def test_every_document_is_in_one_split_byte_for_byte(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = documents()
    options = DatasetOptions(name="mine", val_share=0.2, shard_tokens=100)
    folder = build_dataset(
        [jsonl(tmp_path / "a.jsonl", texts)],
        tmp_path / "out",
        LosslessTokenizer(tokenizer),
        options,
        log=QUIET,
    )
    found = split_back(folder, tokenizer)
    expected: dict[str, list[bytes]] = {"train": [], "val": []}
    for text in texts:
        data = text.encode()
        is_val = int.from_bytes(document_hash(data)[:8], "big") < 0.2 * 2**64
        expected["val" if is_val else "train"].append(data)
    assert found == expected
    assert 3 <= len(found["val"]) <= 25
    assert len(list(folder.glob("fineweb_train_*.bin"))) > 3
    # The tokenizer that the manifest names is the one whose ids these are.
    entry = dataset_entry(tmp_path / "out" / "manifest.json")
    assert entry.tokenizer_file is not None
    again = load_tokenizer(entry.tokenizer_file)
    assert again.lossless
    assert (again.encode(texts[0].encode()) == tokenizer.encode(texts[0].encode())).all()


def test_the_manifest_counts(tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = documents()
    inputs = [
        jsonl(tmp_path / "a.jsonl", texts[:40]),
        jsonl(tmp_path / "b.jsonl", texts[40:], "news"),
    ]
    options = DatasetOptions(name="mine", val_share=0.2)
    done: list[int] = []
    folder = build_dataset(
        inputs,
        tmp_path / "out",
        LosslessTokenizer(tokenizer),
        options,
        log=QUIET,
        progress=done.append,
    )
    assert done[-1] == sum(len(text.encode()) for text in texts)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    stats = manifest["datasets"][0]["stats"]
    data = open_dataset(folder)
    assert stats["docs_total"] == stats["docs_train"] + stats["docs_val"] == 60
    assert stats["bytes_total"] == sum(len(text.encode()) for text in texts)
    assert (stats["tokens_train"], stats["tokens_val"]) == (len(data.train), len(data.val))
    assert data.n_compared == stats["docs_train"]
    by_source = [source["by_source"] for source in manifest["sources"]]
    assert by_source[0]["web"]["documents"] == 40
    assert by_source[1] == {
        "news": {
            "documents": 20,
            "bytes": sum(len(text.encode()) for text in texts[40:]),
            "tokens": sum(tokenizer.encode(text.encode()).size + 1 for text in texts[40:]),
        }
    }
    assert check_shards(tmp_path / "out" / "manifest.json") == 2 * 1024 + 2 * stats["tokens_total"]


def test_workers_do_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgolf_codec.lm.data.dataset_writer._BATCH_BYTES", 1000)  # some 100 batches
    path = jsonl(tmp_path / "a.jsonl", documents(900))
    for workers in (1, 2):
        options = DatasetOptions(workers=workers, shard_tokens=20_000)
        build_dataset(
            [path],
            tmp_path / f"out{workers}",
            LosslessTokenizer(byte_tokenizer()),
            options,
            log=QUIET,
        )
    files = sorted(p.relative_to(tmp_path / "out1") for p in (tmp_path / "out1").rglob("*.*"))
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "out1" / file).read_bytes() == (tmp_path / "out2" / file).read_bytes()


def test_equal_documents_fall_on_one_side(tmp_path: Path) -> None:
    texts = documents(30)
    again = [f"\n {text.replace(' ', '  ')}\r\n" for text in texts]
    options = DatasetOptions(val_share=0.5)
    folder = build_dataset(
        [jsonl(tmp_path / "a.jsonl", texts + again)],
        tmp_path / "out",
        LosslessTokenizer(byte_tokenizer()),
        options,
        log=QUIET,
    )
    found = split_back(folder, byte_tokenizer())
    assert len(found["val"]) % 2 == 0
    assert len(found["train"]) + len(found["val"]) == 60
    halves = {split: {b" ".join(d.split()) for d in found[split]} for split in found}
    assert not halves["train"] & halves["val"]


@pytest.mark.parametrize("kind", ["order", "files"])
def test_overlap_is_left_out_or_refused(tmp_path: Path, kind: str) -> None:
    texts = documents(20)
    val = jsonl(tmp_path / "val.jsonl", texts[:5])
    train = jsonl(tmp_path / "train.jsonl", [*texts[5:], texts[2] + "\n", texts[4]])
    inputs, settings = [train], {"val_files": (val,)}
    if kind == "order":
        inputs, settings = [val, train], {"val_documents": 5}  # type: ignore[dict-item]
    tokenizer = LosslessTokenizer(byte_tokenizer())
    lines: list[str] = []
    folder = build_dataset(
        inputs,
        tmp_path / "a",
        tokenizer,
        DatasetOptions(**settings),
        log=lines.append,  # type: ignore[arg-type]
    )
    found = split_back(folder, byte_tokenizer())
    assert found["val"] == [text.encode() for text in texts[:5]]
    assert found["train"] == [text.encode() for text in texts[5:]]
    assert "left out: 2 training documents that are validation documents" in lines
    options = DatasetOptions(keep_overlap=True, **settings)  # type: ignore[arg-type]
    folder = build_dataset(inputs, tmp_path / "b", tokenizer, options, log=QUIET)
    with pytest.raises(OverlapError, match=r"2 of 17 training documents .* first is number 15"):
        open_dataset(folder)
    assert main(["data", "check", str(tmp_path / "b" / "manifest.json")]) == 1
    rows = pytest.importorskip("pgolf_codec.lm.training.rows")  # what `train` opens
    with pytest.raises(OverlapError, match="2 of 17 training documents"):
        rows.open_tokens(folder, 8)


@pytest.mark.parametrize("kind", ["share", "first", "files"])
def test_a_tokenizer_is_not_trained_on_validation_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    texts = documents(40)
    inputs = [jsonl(tmp_path / "a.jsonl", texts[:20]), jsonl(tmp_path / "b.jsonl", texts[20:])]
    options: dict[str, Any] = {
        "share": {"val_share": 0.5},
        "first": {"val_documents": 25, "val_share": 0.0},
        "files": {"val_files": (jsonl(tmp_path / "val.jsonl", texts[5:9]),)},
    }[kind]
    sample: list[str] = []

    def train(texts: Any, vocab_size: int) -> Tokenizer:
        sample.extend(texts)
        return byte_tokenizer()

    monkeypatch.setattr(dataset_writer, "train_lossless", train)
    folder = build_dataset(inputs, tmp_path / "out", 256, DatasetOptions(**options), log=QUIET)
    val, train_hashes = (read_hashes(folder / f"documents_{split}.bin") for split in SPLITS)
    assert 0 < len(val) < len(texts)
    hashes = [document_hash(text.encode()) for text in sample]
    assert sorted(hashes) == sorted(row.tobytes() for row in train_hashes)


def test_overlap_of_many_hashes() -> None:
    rng = np.random.default_rng(5)
    train = rng.integers(0, 2**63, (5000, 2), np.uint64)
    val = rng.integers(0, 2**63, (300, 2), np.uint64)
    assert overlap(train, val).tolist() == []
    train[[0, 77, 4999]] = val[[299, 3, 3]]
    train[500, 0] = val[5, 0]  # half of a hash is none
    assert overlap(train, val).tolist() == [0, 77, 4999]
    assert overlap(train, val[:0]).tolist() == []
    assert overlap(train[:0], val).tolist() == []


def test_white_space_does_not_make_another_document() -> None:
    assert document_hash(b"a  b\n") == document_hash(b"\ta b") != document_hash(b"ab")
    assert document_hash(b"a b").hex() == "c8687a08aa5d6ed2044328fa6a697ab8"
    assert len(document_hash(b"")) == HASH_BYTES


def test_the_challenges_export(tmp_path: Path) -> None:
    """Its first documents are for validation; a document is BOS and the lossy model's ids."""
    model = SHARED / "tokenizers" / "fineweb_8192_bpe.model"
    if not model.is_file():
        pytest.skip("no tokenizers beside the checkout")
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(model))
    texts = [*documents(9), "Two  blanks,\ta tab, ﬁ and 😀"]
    tokenizer = load_tokenizer(model)
    assert not tokenizer.lossless
    folder = build_dataset(
        [jsonl(tmp_path / "docs_selected.jsonl", texts)],
        tmp_path / "out",
        tokenizer,
        DatasetOptions(val_documents=4, keep_overlap=True),
        log=QUIET,
    )
    ids = [[1, *processor.encode(text)] for text in texts]
    data = open_dataset(folder)
    assert data.val[:].tolist() == list(itertools.chain(*ids[:4]))
    assert data.train[:].tolist() == list(itertools.chain(*ids[4:]))
    assert data.tokenizer_file is not None
    assert data.tokenizer_file.read_bytes() == model.read_bytes()


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"n": [1, 2], "text": ["One é", "Two"], "source": ["x", "y"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert [(d.text, d.source) for d in read_documents(tmp_path / "a.parquet")] == [
        ("One é", "x"),
        ("Two", "y"),
    ]
    parquet.write_table(table.select(["text"]), tmp_path / "b.parquet")
    assert [d.source for d in read_documents(tmp_path / "b.parquet")] == ["", ""]
    bad: dict[str, Any] = {"n": {"n": [1]}, "null": {"text": [None]}, "int": {"text": [1]}}
    for name, columns in bad.items():
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
        with pytest.raises(FormatError, match=rf"{name}\.parquet(: there is|, row 1: text)"):
            list(read_documents(tmp_path / f"{name}.parquet"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(FormatError, match=r"no\.parquet"):
        list(read_documents(tmp_path / "no.parquet"))


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    good = jsonl(tmp_path / "good.jsonl", documents(5))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "x"}\n{"no": "text"}\n', encoding="utf-8")
    tokenizer = LosslessTokenizer(byte_tokenizer())
    with pytest.raises(FormatError, match=r"bad\.jsonl:2"):
        build_dataset([good, bad], tmp_path / "out", tokenizer, DatasetOptions(), log=QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "good.jsonl"]
    (tmp_path / "out").mkdir()
    with pytest.raises(RefusedError, match="already exists"):
        build_dataset([good], tmp_path / "out", tokenizer, DatasetOptions(), log=QUIET)


def test_a_split_without_documents_is_refused(tmp_path: Path) -> None:
    """A model can't be trained, or not be measured, on such a data set."""
    some = jsonl(tmp_path / "some.jsonl", documents(3))
    none = jsonl(tmp_path / "none.jsonl", [])
    tokenizer = LosslessTokenizer(byte_tokenizer())

    def build(path: Path, **settings: Any) -> Path:
        options = DatasetOptions(**settings)
        return build_dataset([path], tmp_path / "out", tokenizer, options, log=QUIET)

    for path, settings, message in (
        (none, {}, "split 'val': 0 for validation, 0 the same as these, 0 to train on"),
        (some, {"val_files": (some,)}, "split 'train': 3 for validation, 3 the same as these"),
        (some, {"val_share": 1e-9}, "split 'val': 0 for validation, .* 3 to train on"),
        (some, {"val_files": (none,)}, "split 'val'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(path, **settings)
        assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="no text to train a tokenizer on"):
        build_dataset([none], tmp_path / "out", 300, DatasetOptions(), log=QUIET)
    assert build(some, val_share=0.0).is_dir()


@pytest.mark.parametrize(
    "settings",
    [
        {"val_share": 1.0},
        {"val_documents": -1},
        {"workers": 0},
        {"name": "../x"},
        {"stem": ""},
        {"val_documents": 1, "val_files": (Path("x"),)},
        {"sample_chars": 0},
    ],
)
def test_impossible_options(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="data build"):
        DatasetOptions(**settings)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("datasets"),
        lambda m: m.update(datasets=3),
        lambda m: m["datasets"][0].pop("stats"),
        lambda m: m["datasets"][0]["documents"]["val"].update(sha256="0"),
        lambda m: m["datasets"][0]["documents"]["val"].update(name="../../manifest.json"),
        lambda m: m["tokenizers"][0].update(model_path="/etc/passwd"),
        lambda m: m["datasets"][0].update(documents=3),
    ],
)
def test_a_bad_manifest_is_named(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    build_dataset(
        [jsonl(tmp_path / "a.jsonl", documents(5))],
        tmp_path / "out",
        LosslessTokenizer(byte_tokenizer()),
        DatasetOptions(val_share=0.5),
        log=QUIET,
    )
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptError, match="manifest"):
        check_no_overlap(path)


def test_a_foreign_manifest_states_no_hashes(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(
        json.dumps(
            {
                "tokenizers": [{"name": "t", "model_path": "tokenizers/t.model"}],
                "datasets": [
                    {
                        "name": "d",
                        "tokenizer_name": "t",
                        "stats": {"files_train": 1, "files_val": 1},
                    }
                ],
            }
        )
    )
    assert check_no_overlap(path, "d") is None
    path.write_text("[")
    with pytest.raises(CorruptError, match="not JSON"):
        check_no_overlap(path, "d")


def test_tokens_are_compared_where_hashes_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of documents that cross shards and blocks."""
    monkeypatch.setattr("pgolf_codec.lm.data.dataset._BLOCK_TOKENS", 50)
    texts = documents(40)
    for name, train in (("clean", texts[8:]), ("leaky", [*texts[8:30], texts[3], *texts[30:]])):
        build_dataset(
            [jsonl(tmp_path / f"{name}.jsonl", texts[:8] + train)],
            tmp_path / name,
            LosslessTokenizer(byte_tokenizer()),
            DatasetOptions(name=name, val_documents=8, keep_overlap=True, shard_tokens=777),
            log=QUIET,
        )
        path = tmp_path / name / "manifest.json"
        manifest = json.loads(path.read_text())
        del manifest["datasets"][0]["documents"]
        path.write_text(json.dumps(manifest))
    assert check_tokens(tmp_path / "clean" / "datasets" / "clean") == 32
    with pytest.raises(OverlapError, match=r"1 of 33 training documents .* first is number 22"):
        check_tokens(tmp_path / "leaky" / "datasets" / "leaky")
    assert main(["data", "check", str(tmp_path / "leaky" / "manifest.json")]) == 0
    assert "the splits were not compared" in capsys.readouterr().out
    assert main(["data", "check", "--tokens", str(tmp_path / "leaky" / "manifest.json")]) == 1
    assert main(["data", "check", "--tokens", str(tmp_path / "clean" / "manifest.json")]) == 0
    assert "none of 32 training documents" in capsys.readouterr().out


def test_case_operators(tmp_path: Path) -> None:
    texts = [text.title() + " AND ALL OF IT" for text in documents(200)]
    options = DatasetOptions(name="cased", val_share=0.1, case=True)
    path = jsonl(tmp_path / "a.jsonl", texts)
    folder = build_dataset([path], tmp_path / "out", 300, options, log=QUIET)
    data = open_dataset(folder)
    assert data.case_operators == 1
    assert data.tokenizer_file is not None
    tokenizer = load_tokenizer(data.tokenizer_file, case=True)
    assert isinstance(tokenizer, LosslessTokenizer)
    found = [tokenizer.decode(d[1:]) for s in (data.train, data.val) for d in iterate(s)]
    assert sorted(found) == sorted(text.encode() for text in texts)
    pieces = tokenizer.tokenizer.table
    letters = [p for p in pieces[258:] if any(65 <= byte < 91 for byte in p)]
    assert letters == []
    rows = pytest.importorskip("pgolf_codec.lm.training.rows")
    trained = rows.open_tokens(folder, 1)  # rows of one token: all of them
    assert trained.n_symbols == 300
    of_val = sum(len(tokenizer.decode(d[1:])) for d in iterate(data.val))
    assert trained.val_bytes == of_val
    ids = np.concatenate((np.array([1], np.uint16), data.val[:]))
    blob = data.tokenizer_file.read_bytes()
    assert shard_bytes(blob, ids, case=True) == of_val < shard_bytes(blob, ids)
    with pytest.raises(ConfigError, match="case operators"):
        run(GolfRun(recipe=RECIPE, code=b"", data=folder, out=tmp_path / "golf"))


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = jsonl(tmp_path / "a.jsonl", documents(300))
    arguments = ["data", "build", str(path), "-o", str(tmp_path / "out"), "--vocab-size", "300"]
    assert main([*arguments, "--val-share", "0.1", "--name", "toy", "-j", "1"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'datasets' / 'toy'}\n"
    data = open_dataset(tmp_path / "out" / "datasets" / "toy")
    assert data.n_compared is not None
    root = open_dataset(tmp_path / "out")  # which has only one
    assert (root.n_compared, len(root.train)) == (data.n_compared, len(data.train))
    for place in ("manifest.json", "", "datasets/toy"):
        assert main(["data", "check", str(tmp_path / "out" / place)]) == 0
        assert "training documents is a validation document" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "there is no manifest.json" in capsys.readouterr().err
    shard = tmp_path / "out/datasets/toy/fineweb_train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    assert main(["data", "check", str(tmp_path / "out" / "manifest.json")]) == 1
    assert "not the shard of the manifest" in capsys.readouterr().err
    for wrong in (
        ["data"],
        ["data", "build", str(path), "-o", "x"],
        [*arguments, "--lossless"],
        [*arguments, "--val-share", "0.1", "--val-documents", "3"],
    ):
        assert main(wrong) == 2
