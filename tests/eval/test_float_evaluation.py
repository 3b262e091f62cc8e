"""``eval`` of floats: a checkpoint and an artifact, and what the referee makes of the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import PROSE, tiny_tokenizer, tiny_weights

from pgolf_codec import cli
from pgolf_codec.eval.bpb import challenge_bpb, challenge_bytes, challenge_rows
from pgolf_codec.eval.foreign import Text, verify_predictor
from pgolf_codec.eval.readers import float_module
from pgolf_codec.lm.conversion.dequantize import float_model
from pgolf_codec.lm.data.tokenizers import LossyTokenizer, challenge_byte_counts
from pgolf_codec.quant.artifact import dump_artifact

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

SHARED = Path(__file__).parents[2].parent / "shared" / "tokenizers"
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Evaluate:
    """The numbers of ``eval`` with these arguments; its folder has a model in two forms."""
    tokenizer = tiny_tokenizer()
    weights = tiny_weights(tokenizer)
    (tmp_path / "model.pglm").write_bytes(dump_artifact(weights, tokenizer, name="tiny"))
    model = float_model(weights, 64)
    state = {"model": model.state_dict(), "model_config": model.config.to_dict()}
    torch.save(state, tmp_path / "run.pt")
    (tmp_path / "tokenizer.bin").write_bytes(tokenizer.to_bytes())
    (tmp_path / "text").write_text(PROSE[:900])
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> dict[str, Any]:
        assert cli.main(["eval", *map(str, arguments), "--json", "-"]) == 0
        values: dict[str, Any] = json.loads(capsys.readouterr().out)
        return values

    return run


def test_checkpoint_and_artifact_agree(evaluate: Evaluate) -> None:
    windows = ("--context", 64, "--stride", 16)
    artifact = evaluate("text", "-m", "model.pglm", "--float", *windows)
    checkpoint = evaluate("text", "-m", "run.pt", "--tokenizer", "tokenizer.bin", *windows)
    assert checkpoint["entropy_bits"] == pytest.approx(artifact["entropy_bits"], rel=1e-9)
    assert (checkpoint["arithmetic"], checkpoint["learning"]) == ("float", "nothing")
    integers = evaluate("text", "-m", "model.pglm", "--no-adapt", *windows)
    assert integers["arithmetic"] == "integers"
    assert integers["entropy_bits"] == pytest.approx(artifact["entropy_bits"], rel=0.02)


THREE = (PROSE[:60], "", PROSE[60:130], PROSE[:30])
TUNED = ("--float", "--context", 32, "--stride", 16, "--tune")
WAYS: dict[str, tuple[object, ...]] = {
    "nothing learns": ("--float", "--context", 32),
    "low rank, each document anew": (*TUNED, "low-rank", "--chunk", 16),
    "full, carried": (*TUNED, "full", "--rate", 0.5, "--chunk", 24, "--carry"),
    "low rank, after each document": (
        *(*TUNED, "low-rank", "--rank", 4, "--rate", 0.05),
        *("--after-document", "--carry", "--passes", 2),
    ),
    "joined": (*TUNED, "low-rank", "--optimizer", "sgd", "--join", "--chunk", 32),
    "integers in windows": ("--context", 20, "--stride", 6, "--carry"),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("way", WAYS)
def test_the_proof_that_eval_names(
    evaluate: Evaluate, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``verify``, called as ``eval`` says, codes and decodes what ``eval`` says."""
    Path("three.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in THREE))
    said = evaluate("three.jsonl", "--documents", "-m", "model.pglm", *WAYS[way])
    program, *arguments = shlex.split(said["proof"])
    assert program == "pgolf-codec"
    assert cli.main([*arguments, "--json", "-"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["verified"]
    assert receipt["claimed_bpb"] == pytest.approx(said["bpb_entropy"], abs=1e-6)
    assert receipt["entropy_bits"] == pytest.approx(said["entropy_bits"], rel=1e-5)
    assert receipt["n_symbols_coded"] == said["n_symbols"]


def test_the_proof_in_processes_of_its_own(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that learns after each document, and keeps it: decoded by a fresh process."""
    Path("three.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in THREE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = ("-m", "run.pt", "--tokenizer", "tokenizer.bin")
    said = evaluate("three.jsonl", "--documents", *model, *WAYS["low rank, after each document"])
    _, *arguments = shlex.split(said["proof"])
    assert cli.main([*arguments, "--json", "-"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["verified"]
    assert receipt["decoder_sha256"] == said["input_sha256"]
    assert receipt["entropy_bits"] == pytest.approx(said["entropy_bits"], rel=1e-5)
    assert receipt["model_bytes"] >= sum(
        Path(name).stat().st_size for name in ("run.pt", "tokenizer.bin")
    )


def test_learning_by_document(evaluate: Evaluate, tmp_path: Path) -> None:
    lines = [json.dumps({"text": PROSE[:300]})] * 3
    (tmp_path / "three.jsonl").write_text("\n".join(lines))
    common = ("three.jsonl", "--documents", "-m", "model.pglm", "--float", "--context", 64)
    none = evaluate(*common)
    tuned = ("--tune", "full", "--rate", 0.5)
    carried = evaluate(*common, *tuned, "--after-document", "--carry", "--passes", 2)
    chunks = evaluate(*common, *tuned, "--chunk", 32)
    assert carried["entropy_bits"] < 0.95 * none["entropy_bits"]
    assert carried["learning"] == "all weights, SGD at 0.5, 2 passes, after each document"
    assert (carried["carried"], chunks["carried"]) == (True, False)
    assert chunks["entropy_bits"] != none["entropy_bits"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-m", "run.pt"], 2, "run.pt has no tokenizer in it: name one with --tokenizer"),
        (["-m", "bad.pt", "--tokenizer", "tokenizer.bin"], 1, "bad.pt: no checkpoint of ours"),
        (["-m", "text.pt", "--tokenizer", "tokenizer.bin"], 1, "text.pt: no checkpoint of ours"),
        (["-m", "none.pt", "--tokenizer", "tokenizer.bin"], 1, "none.pt: no such file"),
        (["-m", "run.pt", "--tokenizer", "text"], 1, "not a SentencePiece model"),
        (["-m", "run.pt", "--tokenizer", "nano"], 1, "the tokenizer has 4096 symbols, the model"),
    ],
)
def test_what_can_be_wrong(
    evaluate: Evaluate,
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("bad.pt").write_bytes(Path("run.pt").read_bytes()[:5000])
    Path("text.pt").write_text(PROSE)
    assert cli.main(["eval", "text", *arguments]) == status
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.skipif(not SHARED.is_dir(), reason="no tokenizers of the challenge")
def test_rows_of_the_challenge(evaluate: Evaluate, tmp_path: Path) -> None:
    """The formula over the challenge's stream, computed here as its scripts do."""
    from dataclasses import replace

    from pgolf_codec.codec.sentencepiece_model import parse
    from pgolf_codec.lm.floats.model import Transformer

    config = replace(tiny_weights(tiny_tokenizer()).config, vocab_size=1024)
    model = Transformer(config, 64)
    model.init_weights(3)
    state = {"model": model.state_dict(), "model_config": config.to_dict()}
    torch.save(state, tmp_path / "challenge.pt")
    documents = [PROSE[:400], "Zwei  Zeilen.\n\nA \ufb01ne day, 1024 times.", PROSE[400:700]]
    lines = [json.dumps({"text": text}) for text in documents]
    (tmp_path / "val.jsonl").write_text("\n".join(lines))
    name = SHARED / "fineweb_1024_bpe.model"
    said = evaluate(
        "val.jsonl", "--documents", "--join", "-m", "challenge.pt", "--tokenizer", name,
        "--context", 16, "--stride", 16,
    )  # fmt: skip
    tokenizer = LossyTokenizer(name.read_bytes())
    parts = [[1, *tokenizer.encode(text.encode()).tolist()] for text in documents]
    inputs, targets = challenge_rows(np.concatenate(parts), 16)
    module, _ = float_module(tmp_path / "challenge.pt", 16)
    with torch.no_grad():
        logits = module(torch.from_numpy(inputs.astype(np.int64))).double()
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(targets.astype(np.int64)).flatten(), reduction="none"
    )
    n_bytes = challenge_bytes(challenge_byte_counts(parse(name.read_bytes())[0]), inputs, targets)
    assert said["challenge_bytes"] == n_bytes.sum()
    assert said["challenge_bpb"] == pytest.approx(challenge_bpb(nll.numpy(), n_bytes), rel=1e-6)
    assert said["residual_bytes"] > 0
    assert said["n_symbols"] == sum(map(len, parts)) - 1 >= targets.size
    assert said["bpb_entropy"] == said["entropy_bits"] / said["input_bytes"]
    # The same stream as a predictor's: a last BOS more, and the raw bytes come back.
    spec = shlex.split(said["proof"])[3]
    text = Text.read(tmp_path / "val.jsonl", by_documents=True)
    receipt = verify_predictor(spec, text)
    assert receipt.n_symbols_coded == said["n_symbols"] + 1
    assert receipt.residual_bytes == said["residual_bytes"]
    assert 0 < receipt.entropy_bits - said["entropy_bits"] < 40
