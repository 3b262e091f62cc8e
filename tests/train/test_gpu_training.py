"""benchmarks/gpu_training.py at toy size: stopped in the middle of a run, and finished."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from pgolf_codec.cli import main
from pgolf_codec.errors import ConfigError
from pgolf_codec.models import load_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_training.py"


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_of(metrics: Path) -> int:
    return metrics.read_text().count("train_loss") if metrics.exists() else 0


def test_stopped_in_a_run_it_goes_on_to_an_archive_that_decodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(("to", "be", "or", "not"), k=40)) for _ in range(60)]
    documents, data, work = (tmp_path / name for name in ("documents.jsonl", "data", "work"))
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "text.txt").write_text("not to be or to be, that is the question\n" * 3)
    build = ["data", "build", str(documents), "--vocab-size", "256", "--val-share", "0.2"]
    assert main([*build, "-j", "1", "-o", str(data)]) == 0
    capsys.readouterr()
    command = ["--tokens", data, "--text", tmp_path / "text.txt", "--work", work, "--device", "cpu"]

    script = runpy.run_path(str(SCRIPT))
    with pytest.raises(ConfigError, match="baseline has vocab_size 1024"):
        script["measure"](script["parse"](list(map(str, command))))

    with start(*command, "--reduced") as first:
        deadline = time.monotonic() + 120
        while steps_of(work / "golf-1gpu" / "metrics.jsonl") < 3:
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        errors = first.communicate(timeout=60)[1]
    assert first.returncode == 130, errors
    assert not (work / "gpu_training.json").exists()

    with start(*command, "--reduced") as second:
        errors = second.communicate(timeout=120)[1]
    assert second.returncode == 0, errors
    assert "train-baseline: done before" in errors
    assert "resumed at step" in (work / "golf-1gpu" / "log.txt").read_text()
    results = json.loads((work / "gpu_training.json").read_text())
    assert {run["n_steps"] for run in results["runs"].values()} == {24}
    receipt = json.loads((work / "receipt.json").read_text())
    assert receipt["verified"]  # another process has decoded what the model wrote
    assert results["verified"]
    assert results["artifact_bytes"] == (work / "large.pglm").stat().st_size
    assert str(tmp_path) not in json.dumps(results)
    assert receipt["model_fingerprint"] == load_model(work / "large.pglm").fingerprint.hex()
