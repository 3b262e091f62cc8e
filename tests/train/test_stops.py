"""Runs that are stopped, by Ctrl-C or by a power failure, and what becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import toy_recipe

from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.eval.logs import read_log
from pgolf_codec.lm.config import ModelConfig, TrainConfig, load_recipe

torch = pytest.importorskip("torch")
checkpoints = pytest.importorskip("pgolf_codec.lm.training.checkpoints")
lm_train = pytest.importorskip("pgolf_codec.lm.train")
Transformer = pytest.importorskip("pgolf_codec.lm.floats.model").Transformer
make_optimizers = pytest.importorskip("pgolf_codec.lm.training.optim").make_optimizers
load_to_export = pytest.importorskip("pgolf_codec.lm.conversion.export").load_checkpoint
make_average = pytest.importorskip("pgolf_codec.lm.training.averages").make_average

RECIPE = f"""{toy_recipe.RECIPE}\
minutes = 1000
warmup_steps = 1
row_beta = 0.9
ema = 0.9
checkpoint_seconds = 0
eval_seconds = 1e9
log_steps = 1
"""
"""The same whatever the clock says: the steps drive its schedules."""


def command(recipe: Path, tokens: Path, out: Path, steps: int) -> list[str]:
    options = ["--config", str(recipe), "--tokens", str(tokens), "--out", str(out), "--no-compile"]
    return [*options, "--set", f"iterations={steps}"]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    verb = [sys.executable, "-m", "pgolf_codec", "train", "--ranks", "1"]
    return subprocess.Popen(
        [*verb, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_steps(process: subprocess.Popen[str], out: Path, n_steps: int) -> None:
    deadline = time.monotonic() + 120
    while len(steps_of(out)) < n_steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_of(out: Path) -> list[int]:
    path = out / "metrics.jsonl"
    rows = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row["step"] for row in map(json.loads, rows) if "train_loss" in row]


def state_of(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return state


def test_a_killed_run_and_an_interrupted_one_end_as_one_that_was_not(
    tokens: Path, tmp_path: Path
) -> None:
    recipe, out, whole = tmp_path / "toy.toml", tmp_path / "run", tmp_path / "whole"
    recipe.write_text(RECIPE)
    steps = 60
    model, config = load_recipe(recipe)
    values = {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}
    torch.set_num_threads(1)
    lm_train.train(model, TrainConfig(**{**values, "iterations": steps}), tokens, whole, False)

    with start(command(recipe, tokens, out, steps)) as killed:
        wait_for_steps(killed, out, 10)
        killed.kill()
    assert [path.name for path in out.glob("checkpoint*")] == ["checkpoint.pt"]
    told = len(steps_of(out))
    assert told - 2 <= state_of(out)["step"] <= told + 1  # an interval is a step here

    with start(command(recipe, tokens, out, steps)) as interrupted:
        wait_for_steps(interrupted, out, told + 5)
        interrupted.send_signal(signal.SIGINT)
        output, errors = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, errors
    done = state_of(out)["step"]
    assert f"stopped at step {done}; the same command goes on from" in output
    assert "Traceback" not in errors
    assert done == steps_of(out)[-1] < steps

    lm_train.train(model, TrainConfig(**{**values, "iterations": steps}), tokens, out, False)
    one, other = state_of(whole), state_of(out)
    assert one["step"] == other["step"] == steps
    assert steps_of(out) == list(range(1, steps + 1))  # no step twice, none left out
    for kind in ("model", "trained"):
        for name, tensor in one[kind].items():
            assert torch.equal(tensor, other[kind][name]), name
    assert not torch.equal(one["model"]["embedding"], one["trained"]["embedding"])
    log = read_log(out / "log.txt")
    assert log.steps == steps
    assert log.score.val_bpb == pytest.approx(read_log(whole / "log.txt").score.val_bpb)
    assert "resumed at step" in (out / "log.txt").read_text()


def parts(config: ModelConfig, train: TrainConfig) -> tuple[Any, Any, Any]:
    model = Transformer(config, 64)
    return model, make_optimizers(model, train), make_average(model, train)


def test_a_checkpoint_is_whole_or_the_one_before(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    done = checkpoints.Done(7, 1.5, 0.25)
    checkpoints.save_checkpoint(path, *parts(tiny, TrainConfig()), done)
    before = path.read_bytes()

    def fail(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save_checkpoint(path, *parts(tiny, TrainConfig()), done)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoints.load_checkpoint(path, *parts(tiny, TrainConfig())) == done


def test_a_checkpoint_of_something_else_is_refused(tiny: ModelConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "checkpoint.pt"
    checkpoints.save_checkpoint(path, *parts(tiny, TrainConfig()), checkpoints.Done())
    with pytest.raises(ConfigError, match="checkpoint of another model"):
        checkpoints.load_checkpoint(path, *parts(replace(tiny, d_hidden=32), TrainConfig()))
    with pytest.raises(ConfigError, match="other settings of ema"):
        checkpoints.load_checkpoint(path, *parts(tiny, TrainConfig(ema=0.9)))


@pytest.mark.parametrize("n_bytes", [0, 100, 20000])
def test_a_damaged_checkpoint_is_named(tiny: ModelConfig, tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoints.save_checkpoint(path, *parts(tiny, TrainConfig()), checkpoints.Done())
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CorruptError, match=r"checkpoint\.pt: damaged, or no checkpoint"):
        checkpoints.load_checkpoint(path, *parts(tiny, TrainConfig()))
    with pytest.raises(CorruptError, match=r"checkpoint\.pt: damaged, or no checkpoint"):
        load_to_export(path, 64)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CorruptError, match="no checkpoint"):
        checkpoints.load_checkpoint(path, *parts(tiny, TrainConfig()))


def test_rates_are_those_of_the_recipe_that_goes_on(tiny: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoints.save_checkpoint(path, *parts(tiny, TrainConfig(matrix_lr=0.1)), checkpoints.Done())
    model, optimizers, average = parts(tiny, TrainConfig(matrix_lr=0.2))
    checkpoints.load_checkpoint(path, model, optimizers, average)
    assert optimizers[1].param_groups[0]["base_lr"] == 0.2
