"""``eval``: the bits of an archive that was not written, and of contexts that none has."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pgolf_codec import cli
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.frequencies import interval
from pgolf_codec.eval import archive, contexts
from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.evaluation import Evaluation, evaluate_with
from pgolf_codec.eval.foreign import Text
from pgolf_codec.eval.integer_scores import Run, bits_of_runs
from pgolf_codec.eval.readers import IntegerReader
from pgolf_codec.eval.subject import Subject
from pgolf_codec.eval.verify import encode
from pgolf_codec.eval.vocabulary import Vocabulary, of_tokenizer
from pgolf_codec.lm.data.tokenizers import challenge_byte_counts

PROSE = b"the hen and the hand and then the tan hat and the ant hath the head and the land\n"
DOCUMENTS = (PROSE * 3, PROSE[::-1], b"", PROSE * 2)
Main = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(stand_in_models: ModuleType) -> Any:
    return stand_in_models.load_model()


@pytest.fixture
def main(stand_in_models: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Main:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_bytes(PROSE)
    lines = [json.dumps({"text": text.decode()}) for text in DOCUMENTS]
    (tmp_path / "documents.jsonl").write_text("\n".join(lines))
    return lambda *arguments: cli.main(["eval", *map(str, arguments)])


def evaluated(model: Any, documents: Sequence[bytes], **options: Any) -> Evaluation:
    return evaluate_with(reader(model, **options), Text(tuple(documents)))


def reader(model: Any, **options: Any) -> IntegerReader:
    vocabulary = of_tokenizer(model.tokenizer)
    return IntegerReader(model=model, vocabulary=vocabulary, reading=Contexts(**options))


@pytest.mark.parametrize("adapt", [False, True])
def test_rolling_bits_are_those_of_an_archive(model: Any, adapt: bool, tmp_path: Path) -> None:
    writing = adapted(model) if adapt else model
    chance, walk = random.Random(1), [0]
    while len(walk) < 3000:  # one of three letters follows each: too much for zstd
        walk.append((walk[-1] + chance.choice((1, 2, 5))) % 8)
    text = bytes(b"mouseply"[at] for at in walk)
    encoded = encode(text, tmp_path / "archive", writing, threads=1)
    found = evaluated(writing, [text])
    assert found.entropy_bits == pytest.approx(encoded.sizes.entropy_bits, rel=1e-12)
    assert found.bpb_entropy == pytest.approx(encoded.sizes.bpb_entropy, rel=1e-12)
    assert (found.context, found.stride) == (None, None)


@pytest.mark.parametrize("shape", [(8, 1), (16, 5), (20, 20)])
def test_a_position_sees_its_window_and_no_more(model: Any, shape: tuple[int, int]) -> None:
    ids = model.tokenizer.encode(PROSE)
    plan = contexts.sliding(len(ids), *shape)
    wanted = []
    for t, begin in enumerate(contexts.seen_from(plan)):
        session = model.predictor.session(1)
        session.intervals(ids[None, begin:t])
        _, freq = interval(session.weights(None)[0], int(ids[t]))
        wanted.append(24 - math.log2(freq))
    found = bits_of_runs([Run(ids, tuple(plan))], model.predictor, threads=2)
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)
    assert evaluated(model, [PROSE], length=shape[0], stride=shape[1]).entropy_bits == (
        pytest.approx(sum(wanted))
    )


WAYS = {
    "rolling": {},
    "windows": {"length": 12, "stride": 5},
    "rows": {"length": 16, "stride": 16},
    "every symbol": {"length": 9, "stride": 1},
    "joined": {"joined": True},
    "joined windows": {"length": 12, "stride": 5, "joined": True},
    "carried": {"carried": True},
    "carried windows": {"length": 12, "stride": 5, "carried": True},
}


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_decoder_can_follow(model: Any, way: str, adapt: bool) -> None:
    """Bits of ``eval`` are those that a decoder needs which has nothing but what it decoded."""
    asked = reader(adapted(model) if adapt else model, **WAYS[way])
    made: Any = asked.predictor()
    made.encode, made.decode = asked.vocabulary.encode, asked.vocabulary.decode
    subject = Subject(lambda: made)
    packed = archive.pack(subject, DOCUMENTS, lambda n_done: None)
    said = evaluate_with(asked, Text(DOCUMENTS))
    assert packed.stepped_bits == pytest.approx(said.entropy_bits, rel=1e-12)
    # The referee's frequencies are of scaled weights, in which one unit may have become two.
    assert packed.entropy_bits == pytest.approx(said.entropy_bits, abs=3)
    assert packed.n_symbols == said.n_symbols
    assert archive.unpack(subject, packed.archive, lambda n_done: None) == [*DOCUMENTS]


@pytest.mark.parametrize("way", [way for way, options in WAYS.items() if "carried" not in options])
def test_contexts_are_streams_started_anew(model: Any, way: str) -> None:
    """By the definition: a stream for each symbol, which is fed what its context holds."""
    reading = Contexts(**WAYS[way])
    asked = reader(model, **WAYS[way])
    documents = [b"".join(DOCUMENTS)] if reading.joined else DOCUMENTS
    bits = 0.0
    for ids in map(asked.vocabulary.encode, documents):
        for t in range(len(ids)):
            (window,) = [w for w in reading.plan([len(ids)]) if w.first <= t < w.end] or [None]
            session = model.predictor.session(1)
            weights = session.weights(None)
            for symbol in ids[window.begin if window else 0 : t]:
                weights = session.weights(np.array([symbol], np.int32))
            bits += 24 - math.log2(interval(weights[0], int(ids[t]))[1])
    assert evaluated(model, DOCUMENTS, **WAYS[way]).entropy_bits == pytest.approx(bits, rel=1e-12)


def test_documents_apart_joined_and_carried(model: Any) -> None:
    alone = [evaluated(adapted(model), [text]).entropy_bits for text in DOCUMENTS]
    apart = evaluated(adapted(model), DOCUMENTS)
    assert apart.entropy_bits == pytest.approx(sum(alone), rel=1e-12)
    assert apart.independent_documents
    joined = evaluated(adapted(model), DOCUMENTS, joined=True)
    assert joined.entropy_bits == pytest.approx(
        evaluated(adapted(model), [b"".join(DOCUMENTS)]).entropy_bits, rel=0.01
    )
    # What was learned helps the next, though the model behind it starts anew.
    carried = evaluated(adapted(model), DOCUMENTS, carried=True)
    assert carried.entropy_bits < 0.9 * apart.entropy_bits
    assert carried.entropy_bits != pytest.approx(joined.entropy_bits, rel=0.01)
    assert evaluated(model, DOCUMENTS).entropy_bits == pytest.approx(
        evaluated(model, DOCUMENTS, carried=True).entropy_bits, rel=1e-12
    )


def test_formula_of_the_challenge_beside_the_true_one(model: Any) -> None:
    """Tokens that fold a capital: what they lose is paid for in one figure, not in the other."""
    ours = model.tokenizer
    vocabulary = Vocabulary(
        ours.n_symbols,
        lambda data: ours.encode(data.lower()),
        ours.decode,
        challenge_byte_counts(ours._pieces),
    )
    text = Text((PROSE, PROSE.replace(b"t", b"T")))
    reading = Contexts(length=16, stride=16, joined=True)
    found = evaluate_with(IntegerReader(model=model, vocabulary=vocabulary, reading=reading), text)
    assert found.n_symbols == 2 * len(ours.encode(PROSE)) + 1  # a BOS between
    stream = np.concatenate([ours.encode(PROSE), [1], ours.encode(PROSE)]).astype(np.int32)
    bits = bits_of_runs([Run(stream, tuple(contexts.rows(len(stream), 16)))], model.predictor)
    used = stream[: len(stream) // 16 * 16]
    counted = sum(len(ours.decode([symbol])) for symbol in used)
    counted -= int(ours.decode([stream[stream.tolist().index(1) + 1]])[:1] == b" ")
    assert found.challenge_bytes == counted
    assert found.challenge_bpb == pytest.approx(bits[: len(used)].sum() / counted)
    assert found.residual_bytes > 0
    assert found.entropy_bits == pytest.approx(bits.sum() + 8 * found.residual_bytes)
    assert "by its formula" in found.describe()


def test_the_table_says_that_nothing_was_coded(main: Main, capsys: Capture) -> None:
    assert main("text") == 0
    said = capsys.readouterr().out
    assert "no file    nothing was coded, so this is no score yet; the proof:\n" in said
    assert said.endswith(" pgolf-codec verify text\n")
    assert main("text", "--no-adapt", "--json", "-") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["nothing_was_coded"] is True
    assert values["coded_bits"] is values["file_bytes"] is values["bpb_file"] is None
    assert values["bpb_entropy"] == values["entropy_bits"] / len(PROSE)
    assert values["proof"] == "pgolf-codec verify text --no-adapt"
    assert (values["learning"], values["arithmetic"]) == ("nothing", "integers")


def test_documents_of_a_corpus(main: Main, capsys: Capture) -> None:
    assert main("documents.jsonl", "--documents", "--carry", "--context", 20, "--json", "out") == 0
    said = capsys.readouterr().out
    assert "4 documents" in said
    assert "windows of 20 symbols, each 10 further; none crosses" in said
    assert "the stage of the format; carried on" in said
    values = json.loads(Path("out").read_text())
    assert values["input_bytes"] == sum(map(len, DOCUMENTS))
    bpb = f"{values['bpb_entropy']:.6f}"
    spec = "'pgolf_codec.eval.ours:model(carry=True, context=20)'"
    assert values["proof"] == (
        f"pgolf-codec verify --predictor {spec} --claim {bpb} --documents documents.jsonl"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tune", "full"], "--tune is of the float graph"),
        (["--float", "--adapt"], "--adapt is of integers"),
        (["--chunk", "64"], "--chunk goes with --tune"),
        (["--after-document"], "--after-document goes with --tune"),
        (["--float", "--tune", "full", "--rank", "4"], "--rank goes with --tune low-rank"),
        (["--stride", "4"], "--stride goes with --context"),
        (["--context", "4", "--stride", "5"], "would leave symbols out"),
        (["--context", "0"], "'0' is not a number from 1 up"),
        (["--join"], "--join goes with --documents"),
        (["--carry"], "--carry goes with --documents"),
        (["--documents", "--carry", "--no-adapt"], "--carry: nothing learns"),
        (
            ["--documents", "--float", "--tune", "full", "--after-document"],
            "--after-document needs --carry",
        ),
    ],
)
def test_wrong_calls(main: Main, arguments: list[str], said: str, capsys: Capture) -> None:
    assert main("documents.jsonl", *arguments) == 2
    assert said in capsys.readouterr().err


def test_what_is_not_there(main: Main, tmp_path: Path, capsys: Capture) -> None:
    assert main("missing") == 1
    assert capsys.readouterr().err == "pgolf-codec: missing: no such file or directory\n"
    assert main(tmp_path) == 1
    assert "is a directory" in capsys.readouterr().err
    assert main("text", "--json", "none/out") == 1
    assert capsys.readouterr().err == "pgolf-codec: none: is not a folder\n"
    assert main("text", "--documents") == 1
    assert "text" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["documents.jsonl", "text"]
