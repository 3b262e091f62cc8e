"""``python -m pgolf_codec.lm.build``: all stages on a toy, stopped and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_recipe

from pgolf_codec.errors import ConfigError, FormatError
from pgolf_codec.lm.build import Build, Stage, run_stage, run_to_the_end
from pgolf_codec.lm.config import load_recipe

RECIPE = f"""{toy_recipe.RECIPE}\
minutes = 10
checkpoint_seconds = 0.1
[data]
held_out = "val/held.txt"
total_bytes = 50000
[data.classes.web]
files = "train/web-*"
share = 0.8
sample_chars = 20000
[data.classes.books]
files = "train/*.txt"
share = 0.2
sample_chars = 1000
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """``corpora/`` and ``toy.toml``."""
    rng = random.Random(5)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 8))) for _ in range(300)]

    def text(n_words: int) -> str:
        return " ".join(rng.choices(words, k=n_words)) + ".\n"

    for name in ("train", "val"):
        (tmp_path / "corpora" / name).mkdir(parents=True)
    web = "".join(json.dumps({"text": text(80)}) + "\n" for _ in range(80))
    (tmp_path / "corpora/train/web-0.jsonl").write_text(web, encoding="utf-8")
    (tmp_path / "corpora/train/book.txt").write_text(text(900), encoding="utf-8")
    (tmp_path / "corpora/val/held.txt").write_text(text(3000), encoding="utf-8")
    (tmp_path / "toy.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def command(project: Path, ranks: int = 1) -> list[str]:
    arguments = ["toy.toml", "--corpora", "corpora", "--work", "work", "-o", "models/toy.pglm"]
    arguments += ["--ranks", str(ranks), "--workers", "1", "--no-compile"]
    return [sys.executable, "-m", "pgolf_codec.lm.build", *arguments]


def run(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(project), cwd=project, capture_output=True, text=True, timeout=240, check=False
    )


def metrics(project: Path) -> list[dict[str, Any]]:
    lines = (project / "work/run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def trainers(folder: Path) -> list[str]:
    """Command lines of processes that work in ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                found.append((process / "cmdline").read_text())
        except OSError:  # it has ended, or is another user's
            continue
    return [line for line in found if "lm.train" in line]


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc")
def test_a_build_that_is_stopped_goes_on(project: Path) -> None:
    pytest.importorskip("torch")
    from pgolf_codec.quant.artifact import load_artifact

    checkpoint, output = project / "work/run/checkpoint.pt", project / "models/toy.pglm"
    with subprocess.Popen(
        command(project, ranks=2), cwd=project, stderr=subprocess.PIPE, text=True
    ) as stopped:
        try:
            wait_for(checkpoint.exists)
            assert len(trainers(project)) >= 2
        finally:
            stopped.send_signal(signal.SIGTERM)
            _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 143, told
    assert trainers(project) == []
    *_, of_training, last = told.splitlines()
    assert re.fullmatch(
        r"stopped at step \d+; the same command goes on from work/run/checkpoint.pt", of_training
    )
    assert last == "stopped; the same command goes on from work"
    assert "Traceback" not in told
    assert not output.exists()

    change(project / "toy.toml", "minutes = 10", "minutes = 0.001")  # so little that it is over
    second = run(project)
    assert second.returncode == 0, second.stderr
    assert second.stdout == ""
    done = [line for line in second.stderr.splitlines() if line.endswith(": done before")]
    assert done == ["tokenizer: done before", "tokens: done before"]
    steps = [line.get("step") for line in metrics(project)]
    assert steps.count(1) == 1
    assert steps[-1] > 1  # of the checkpoint
    receipt = json.loads((project / "work/receipt.json").read_text())
    model = load_artifact(output)
    assert receipt["verified"]
    assert receipt["model_fingerprint"] == model.fingerprint.hex()
    assert receipt["model_bytes"] == output.stat().st_size
    assert model.name == "toy"
    assert model.bpb == pytest.approx(receipt["bpb_file"], abs=1e-4)

    before = output.stat().st_mtime_ns
    (project / "work/run/metrics.jsonl").unlink()  # nobody's input
    third = run(project)
    assert third.stderr.splitlines() == [
        f"{name}: done before" for name in ("tokenizer", "tokens", "train", "export", "measure")
    ]
    assert output.stat().st_mtime_ns == before

    change(project / "toy.toml", "batch_rows = 4", "batch_rows = 2")
    fourth = run(project)
    assert fourth.returncode == 1
    assert "holds a checkpoint of another recipe" in fourth.stderr
    assert checkpoint.exists()


def build(project: Path) -> Build:
    return Build(
        recipe=project / "toy.toml",
        corpora=project / "corpora",
        work=project / "work",
        output=project / "toy.pglm",
    )


def test_a_stage_is_repeated_when_what_it_is_made_of_changes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stages_run() -> list[str]:
        build(project)("tokens")
        lines = capsys.readouterr().err.splitlines()
        return [line.removesuffix(" ...") for line in lines if line.endswith(" ...")]

    tokens = project / "work/tokens/train.bin"
    assert stages_run() == ["tokenizer", "tokens"]
    first = tokens.read_bytes()
    assert stages_run() == []

    tokens.write_bytes(first[:-2])
    assert stages_run() == ["tokens"]
    assert tokens.read_bytes() == first

    (project / "work/tokens/val.json").unlink()
    assert stages_run() == ["tokens"]

    change(project / "toy.toml", "[data]", "[data]\nseed = 2")
    assert "tokens" in stages_run()
    assert tokens.read_bytes() != first

    change(project / "toy.toml", "seq_len = 64", "seq_len = 32")
    assert stages_run() == ["tokens"]

    book = project / "corpora/train/book.txt"
    book.write_text(book.read_text(encoding="utf-8") + "A new end.\n", encoding="utf-8")
    assert stages_run() == ["tokenizer", "tokens"]

    change(project / "toy.toml", "vocab_size = 320", "vocab_size = 300")
    assert stages_run() == ["tokenizer", "tokens"]
    assert stages_run() == []


def test_a_run_is_claimed_for_one_recipe_but_any_minutes(project: Path) -> None:
    mine = build(project)
    for name in ("train.bin", "val.bin"):
        (mine.tokens / name).parent.mkdir(parents=True, exist_ok=True)
        (mine.tokens / name).write_bytes(name.encode())
    model, train = load_recipe(project / "toy.toml")
    mine._claim_run(model, train)
    (mine.run / "checkpoint.pt").touch()
    claim = json.loads((mine.run / "inputs.json").read_text())
    del claim["train"]["minutes"]  # as it was written once
    (mine.run / "inputs.json").write_text(json.dumps(claim))
    mine._claim_run(model, dataclasses.replace(train, minutes=20, iterations=5, log_steps=7))
    for changed in ({"seed": 2}, {"batch_rows": 2}):
        with pytest.raises(ConfigError, match="checkpoint of another recipe"):
            mine._claim_run(model, dataclasses.replace(train, **changed))
    (mine.tokens / "val.bin").write_bytes(b"other")
    with pytest.raises(ConfigError, match="other tokens"):
        mine._claim_run(model, train)
    (mine.run / "inputs.json").write_text("{")
    with pytest.raises(ConfigError, match="another recipe"):
        mine._claim_run(model, train)


def test_a_stage_that_fails_leaves_no_stamp(tmp_path: Path) -> None:
    output, stamp = tmp_path / "out", tmp_path / "stamps" / "s.json"
    calls = []

    def fail() -> None:
        calls.append("fail")
        output.write_text("half")
        raise FormatError("no")

    with pytest.raises(FormatError):
        run_stage(Stage("s", lambda: {"n": 1}, (output,), fail), stamp)
    assert not stamp.exists()

    def succeed() -> None:
        calls.append("succeed")
        output.write_text("whole")

    for _ in range(2):
        run_stage(Stage("s", lambda: {"n": 1}, (output,), succeed), stamp)
    assert calls == ["fail", "succeed"]


def test_what_is_impossible_is_said(project: Path) -> None:
    with pytest.raises(ConfigError, match="a rank and a worker"):
        Build(
            recipe=project / "toy.toml",
            corpora=project,
            work=project,
            output=project,
            ranks=0,
        )
    change(project / "toy.toml", "val/held.txt", "val/other.txt")
    with pytest.raises(ConfigError, match=r"held_out: .*other\.txt is not a file"):
        build(project)("tokenizer")
    change(project / "toy.toml", "vocab_size = 320", "vocab_size = 3")
    with pytest.raises(ConfigError, match="vocab_size 3"):
        build(project)("tokenizer")
    assert not (project / "work").exists()


STOPPED = """
import os, signal, subprocess, sys
from pgolf_codec.lm import build
from pgolf_codec.lm.training.stopping import Stopped

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, build.stop)
try:
    build.run_to_the_end([sys.executable, "-c", os.environ["CHILD"]], dict(os.environ))
except Stopped as stopped:
    print("stopped by", stopped.args[0])
"""
CHILD = """
import signal, sys, time
def note(number, frame):
    print("got", number, file=sys.stderr, flush=True)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
print("ready", file=sys.stderr, flush=True)
signal.pause()
time.sleep(0.5)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_comes_once(number: int) -> None:
    """As a terminal's Ctrl-C: the command that runs hears of it from this process only."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        env={**os.environ, "CHILD": CHILD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        os.killpg(process.pid, number)
        output, errors = process.communicate(timeout=60)
    assert errors == f"got {number}\n"
    assert output == f"stopped by {number}\n"


def test_a_failing_command_is_an_error() -> None:
    code = "import os, sys; sys.exit(int(os.environ['STATUS']))"
    run_to_the_end([sys.executable, "-c", code], {**os.environ, "STATUS": "0"})
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        run_to_the_end([sys.executable, "-c", code], {**os.environ, "STATUS": "3"})
