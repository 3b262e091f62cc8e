"""The way that docs/TRAINING.md names: documents, shards, a run, its artifact, a text and back."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("torch")

from pgolf_codec import compress, decompress
from pgolf_codec.cli import main
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.train import train
from pgolf_codec.models import load_model


def test_from_documents_to_an_artifact_that_codes(
    tiny: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(("to", "be", "or", "not"), k=40)) for _ in range(60)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "documents.jsonl").write_text(lines)
    root = tmp_path / "data"
    command = ["data", "build", str(tmp_path / "documents.jsonl"), "--vocab-size", "256"]
    assert main([*command, "--val-share", "0.2", "-j", "1", "-o", str(root)]) == 0
    shards = Path(capsys.readouterr().out.strip())
    model = dataclasses.replace(tiny, vocab_size=258)
    config = TrainConfig(seq_len=64, batch_rows=2, iterations=4, warmup_steps=2)
    train(model, config, shards, tmp_path / "run", False)

    command = ["pack", str(tmp_path / "run" / "checkpoint.pt"), "--recipe", "baseline"]
    command += ["--tokenizer", str(root / "tokenizers" / "text.model"), "--calibration"]
    command += [str(shards / "fineweb_train_000000.bin"), "-o", str(tmp_path / "m.pglm")]
    assert main(command) == 0
    packed = load_model(tmp_path / "m.pglm")
    text = texts[0].encode()
    assert decompress(compress(text, model=packed), model=packed) == text
    assert main([*command[:3], "no-such-preset", *command[4:-1], str(tmp_path / "n.pglm")]) == 1
    assert "no preset 'no-such-preset'; there are baseline, golf" in capsys.readouterr().err
