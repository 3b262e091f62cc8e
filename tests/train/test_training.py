"""The training loop: its schedule, its ranks, and what a stop does to it."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import toy_recipe

from pgolf_codec.errors import ConfigError, CorruptError
from pgolf_codec.lm.config import ModelConfig, TrainConfig

torch = pytest.importorskip("torch")
Transformer = pytest.importorskip("pgolf_codec.lm.floats.model").Transformer
lm_train = pytest.importorskip("pgolf_codec.lm.train")
schedules = pytest.importorskip("pgolf_codec.lm.training.schedules")
rows_of = pytest.importorskip("pgolf_codec.lm.training.rows")

RANKS = Path(__file__).with_name("ranks.py")


class Clock:
    """A step takes one second, or the power fails."""

    def __init__(self, fail_at_step: int | None = None) -> None:
        self.calls = 0
        self.fail_at_step = fail_at_step

    def __call__(self) -> float:
        self.calls += 1
        step = (self.calls + 1) // 2
        if step == self.fail_at_step:
            raise KeyboardInterrupt
        return step + self.calls % 2 * -1.0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def configuration(**changes: Any) -> TrainConfig:
    """Budget of ten steps; the learning rate stays what it is."""
    values = {"seq_len": 64, "batch_rows": 4, "minutes": 10 / 60, "warmdown": 0.01}
    return TrainConfig.from_dict({**values, "warmup_steps": 1, **changes})


def run(
    monkeypatch: pytest.MonkeyPatch,
    model: ModelConfig,
    config: TrainConfig,
    tokens: Path,
    out: Path,
) -> list[dict[str, Any]]:
    monkeypatch.setattr(lm_train, "time", SimpleNamespace(perf_counter=Clock()))
    lm_train.train(model, config, tokens, out, False)
    return metrics(out)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return state


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    config = TrainConfig(warmup_steps=20, warmdown=0.6)
    factor = schedules.learning_rate_factor
    assert [factor(0, step, config) for step in (0, 9, 19, 20)] == [0.05, 0.5, 1, 1]
    assert factor(0.4, 99, config) == pytest.approx(1)
    assert factor(0.7, 99, config) == pytest.approx(0.5)
    assert factor(1.0, 99, config) == 0
    assert factor(1.1, 99, config) == 0
    falling = [factor(p / 100, 99, config) for p in range(40, 101)]
    assert all(a > b for a, b in itertools.pairwise(falling))


def test_the_last_steps_of_a_run_are_the_smallest(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    rates: list[float] = []
    set_rates = schedules.set_rates

    def watch(optimizers: Any, *arguments: Any) -> None:
        set_rates(optimizers, *arguments)
        rates.append(optimizers[1].param_groups[0]["lr"])

    monkeypatch.setattr(schedules, "set_rates", watch)
    config = configuration(warmdown=0.5)
    run(monkeypatch, tiny, config, tokens, tmp_path)
    assert max(rates) == rates[5] == config.matrix_lr
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.2 * config.matrix_lr)  # one of ten steps is left
    assert len(rates) == 11


def test_it_learns_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    lines = run(monkeypatch, tiny, configuration(minutes=40 / 60), tokens, tmp_path)
    assert lines[0]["tokens"] == 20001
    assert [line["step"] for line in lines[1:]] == [1, 2, 3, 20, 40, 41]
    assert lines[1]["train_loss"] == pytest.approx(np.log(320), abs=0.3)
    assert lines[5]["train_loss"] < 5
    n_ids_a_byte = 31 * 64 / 6000
    assert lines[-1]["val_bpb"] < lines[5]["train_loss"] / np.log(2) * n_ids_a_byte


def test_the_bits_of_the_validation(tiny: ModelConfig) -> None:
    model = Transformer(tiny, 64)
    model.init_weights(1)
    ids = np.random.default_rng(4).integers(2, 320, 11 * 64 + 5).astype(np.uint16)
    y = torch.from_numpy(ids[: 11 * 64].astype(np.int64)).view(11, 64)
    x = torch.cat((torch.ones(11, 1, dtype=torch.int64), y[:, :-1]), dim=1)
    with torch.no_grad():
        nats = torch.nn.functional.cross_entropy(
            model.logits(model(x)).view(-1, 320), y.view(-1), reduction="sum"
        )
    bits = lm_train.validation_bits(model, model, ids, 64)
    assert bits == pytest.approx(float(nats) / np.log(2), rel=1e-3)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = configuration(checkpoint_seconds=3.5)
    run(monkeypatch, tiny, config, tokens, whole)
    monkeypatch.setattr(lm_train, "time", SimpleNamespace(perf_counter=Clock(fail_at_step=8)))
    with pytest.raises(KeyboardInterrupt):
        lm_train.train(tiny, config, tokens, parts, False)
    assert weights(parts)["step"] == 5
    # The first step after a start, in which things compile, is not counted: one second less.
    run(monkeypatch, tiny, configuration(minutes=9 / 60), tokens, parts)
    one, other = weights(whole), weights(parts)
    assert one["step"] == other["step"] == 11
    assert (one["seconds"], other["seconds"]) == (10, 9)
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    assert one["model_config"] == tiny.to_dict()


@pytest.mark.parametrize("mean", [{"ema": 0.5}, {"swa_every": 1, "swa_at": 1.0}])
def test_measuring_and_saving_on_the_way_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tiny: ModelConfig,
    tokens: Path,
    tmp_path: Path,
    mean: dict[str, Any],
) -> None:
    """Nor does the mean of the weights that is measured and saved: training goes on without it."""
    once, often = tmp_path / "once", tmp_path / "often"
    run(monkeypatch, tiny, configuration(minutes=4 / 60, **mean), tokens, once)
    always = {"eval_seconds": 0.0, "checkpoint_seconds": 0.0}
    lines = run(monkeypatch, tiny, configuration(minutes=4 / 60, **mean, **always), tokens, often)
    assert sum("val_bpb" in line for line in lines) == 5
    one, other, plain = weights(once), weights(often), tmp_path / "plain"
    for kind in ("model", "trained"):
        for name, tensor in one[kind].items():
            assert torch.equal(tensor, other[kind][name]), name
    run(monkeypatch, tiny, configuration(minutes=4 / 60), tokens, plain)
    assert torch.equal(one["trained"]["embedding"], weights(plain)["model"]["embedding"])
    assert not torch.equal(one["trained"]["embedding"], one["model"]["embedding"])


def test_large_gradients_are_cut_to_the_norm(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    norms: list[float] = []
    set_rates = schedules.set_rates

    def watch(optimizers: Any, *arguments: Any) -> None:
        set_rates(optimizers, *arguments)
        params = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in params])))

    monkeypatch.setattr(schedules, "set_rates", watch)
    for limit in (0.0, 1e-3):
        config = configuration(minutes=2 / 60, grad_clip=limit)
        run(monkeypatch, tiny, config, tokens, tmp_path / str(limit))
    free, cut = norms[: len(norms) // 2], norms[len(norms) // 2 :]
    assert min(free) > 0.01
    assert cut == pytest.approx([1e-3] * len(cut), rel=1e-3)


def test_a_finished_run_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    run(monkeypatch, tiny, configuration(), tokens, tmp_path)
    before = weights(tmp_path)
    lines = run(monkeypatch, tiny, configuration(), tokens, tmp_path)
    assert weights(tmp_path)["step"] == before["step"] == lines[-1]["step"]
    assert torch.equal(weights(tmp_path)["model"]["embedding"], before["model"]["embedding"])


def test_a_finished_run_is_continued_with_more_minutes(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    """On the schedule of the longer budget: the rates rise again, and fall to nothing."""
    rates: list[float] = []
    set_rates = schedules.set_rates

    def watch(optimizers: Any, factor: float, *rest: Any) -> None:
        rates.append(factor)
        set_rates(optimizers, factor, *rest)

    monkeypatch.setattr(schedules, "set_rates", watch)
    run(monkeypatch, tiny, configuration(warmdown=0.5), tokens, tmp_path)
    assert weights(tmp_path)["step"] == len(rates) == 11
    assert rates[-1] == pytest.approx(0.2)
    lines = run(monkeypatch, tiny, configuration(warmdown=0.5, minutes=20 / 60), tokens, tmp_path)
    assert weights(tmp_path)["seconds"] == 20
    more = rates[11:]  # its first step is not counted
    assert more[:2] == [1.0, 1.0]  # half of the new budget is spent
    assert more[-1] == pytest.approx(0.1)
    assert more == sorted(more, reverse=True)
    trained = [line["step"] for line in lines if "train_loss" in line]
    assert trained == sorted(set(trained))
    assert "resumed at step 11" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 5}, "with seed 1"),
        ({"batch_rows": 2, "ema": 0.5}, "ema"),
        ("train.bin", "on other tokens"),
        ("val.bin", "on other tokens"),
    ],
)
def test_a_run_is_not_continued_as_another(
    monkeypatch: pytest.MonkeyPatch,
    tiny: ModelConfig,
    tokens: Path,
    tmp_path: Path,
    changes: dict[str, Any] | str,
    told: str,
) -> None:
    out = tmp_path / "run"
    run(monkeypatch, tiny, configuration(minutes=1 / 60), tokens, out)
    before = (out / "checkpoint.pt").read_bytes()
    if isinstance(changes, str):
        ids = np.fromfile(tokens / changes, "<u2")
        ids[7] ^= 1
        ids.tofile(tokens / changes)
        changes = {}
    with pytest.raises(ConfigError, match=rf"checkpoint\.pt was trained .*{told}"):
        run(monkeypatch, tiny, configuration(**changes), tokens, out)
    assert (out / "checkpoint.pt").read_bytes() == before


def test_a_model_for_other_symbols_than_those_of_the_tokens(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="vocab_size 300, tokens the token 3"):
        run(monkeypatch, replace(tiny, vocab_size=300), configuration(), tokens, out)
    assert not out.exists()
    data = replace(rows_of.open_tokens(tokens, 64), n_symbols=321)
    with pytest.raises(ConfigError, match="vocab_size 320, the tokenizer of tokens 321"):
        lm_train.need_fitting(data, tiny)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"n_bytes": 0}', '{"n_bytes": "9"}', "\xff"])
def test_a_validation_text_without_its_bytes(tokens: Path, text: str) -> None:
    (tokens / "val.json").write_text(text, encoding="latin-1")
    with pytest.raises(CorruptError, match=r"val\.json: does not say how many bytes"):
        rows_of.open_tokens(tokens, 64)


def test_a_gradient_that_is_not_finite_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    gradients = lm_train.gradients

    def overflow(run: Any, model: Any, *rest: Any) -> float:
        loss: float = gradients(run, model, *rest)
        model.blocks[1].mlp.up.grad[3, 4] = np.inf
        return loss

    monkeypatch.setattr(lm_train, "gradients", overflow)
    with pytest.raises(FloatingPointError, match=r"gradients have the norm inf at step 0"):
        run(monkeypatch, tiny, configuration(checkpoint_seconds=0), tokens, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_devices_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgolf_codec.lm.training import group, launch

    def there(n_gpus: int, apple: bool, **environment: str) -> str:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.setenv(name, environment.get(name, "0" if name == "LOCAL_RANK" else "1"))
        return str(group.pick_device())

    assert there(0, False) == "cpu"
    assert there(0, True) == "mps"
    assert launch.default_ranks(8) == 1
    assert there(0, True, WORLD_SIZE="2") == "cpu"  # gloo sums nothing on Apple's GPUs
    assert there(2, False, LOCAL_RANK="1", LOCAL_WORLD_SIZE="2") == "cuda:1"
    assert launch.default_ranks(8) == 2
    with pytest.raises(ConfigError, match="more ranks than GPUs, of which there are 2"):
        there(2, False, LOCAL_WORLD_SIZE="3")


def test_nothing_is_float64_but_on_a_cpu() -> None:
    """Apple's GPUs have no such numbers; tensors without memory stand for theirs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from pgolf_codec.lm.floats.loss import fused_cross_entropy

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kw: Any = None) -> Any:
            out = func(*args, **(kw or {}))
            if isinstance(out, torch.Tensor):
                assert out.dtype != torch.float64, func
            return out

    h, e = (torch.empty(n, 8, device="meta", requires_grad=True) for n in (12, 40))
    with Watch():
        fused_cross_entropy(
            h, e, torch.empty(12, dtype=torch.int64, device="meta"), 30.0
        ).backward()
    assert h.grad is not None


def test_where_tokens_and_outputs_are_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgolf_codec.lm.training.options import add_train_options, train_settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_PATH", raising=False)
    parser = argparse.ArgumentParser()
    add_train_options(parser)
    with pytest.raises(ConfigError, match=r"fineweb10B_sp8192 is not there: .*--variant sp8192"):
        train_settings(parser.parse_args(["--config", "golf"]))
    Path("data/datasets/fineweb10B_sp8192").mkdir(parents=True)
    options = parser.parse_args(["--config", "golf", "--seed", "7"])
    train_settings(options)
    assert options.tokens == Path("data/datasets/fineweb10B_sp8192")
    assert options.out == Path("runs/golf-7")
    Path("toy.toml").write_text(toy_recipe.RECIPE)
    with pytest.raises(ConfigError, match="no shards of 320 symbols"):
        train_settings(parser.parse_args(["toy.toml"]))
    monkeypatch.setenv("DATA_PATH", "shards")
    options = parser.parse_args(["toy.toml", "--out", "here"])
    train_settings(options)
    assert (options.tokens, options.out) == (Path("shards"), Path("here"))


@pytest.mark.timeout(900)
def test_the_line_as_it_is_typed(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(f"{toy_recipe.RECIPE}minutes = 9\niterations = 3\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    line = ["--nproc_per_node=2", "-m", "pgolf_codec.lm.train", "--config", "toy.toml"]
    done = subprocess.run(
        [*torchrun, *line, "--no-compile"],
        cwd=tmp_path,
        env={**os.environ, "DATA_PATH": str(tokens)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "runs" / "toy-1")["step"] == 3
    assert "world_size:2" in done.stdout
    assert done.stdout.count("step:3/3 val_loss:") == 1


def test_a_loss_that_is_not_finite_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(lm_train, "gradients", lambda *_: float("nan"))
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        run(monkeypatch, tiny, configuration(), tokens, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_ranks_that_can_not_share_a_batch(
    monkeypatch: pytest.MonkeyPatch, tiny: ModelConfig, tokens: Path, tmp_path: Path
) -> None:
    three = lm_train.Group(torch.device("cpu"), 0, 3)
    monkeypatch.setattr(lm_train, "join", lambda: three)
    with pytest.raises(ConfigError, match="3 ranks can't share batch_rows 4"):
        run(monkeypatch, tiny, configuration(), tokens, tmp_path)


def test_every_row_is_trained_on_once_an_epoch(tokens: Path) -> None:
    ids = np.fromfile(tokens / "train.bin", "<u2")
    rows = rows_of.Rows(ids, 64, seed=1)
    assert len(rows.order) == 20001 // 64 == 312
    seen = torch.cat([rows.batch(step, 4)[1] for step in range(78)])
    assert {tuple(row) for row in seen.tolist()} == {
        tuple(row) for row in ids[: 312 * 64].reshape(312, 64).tolist()
    }
    x, y = rows.batch(78, 4)
    assert torch.equal(y, rows.batch(0, 4)[1])
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert x[:, 0].tolist() == [1] * 4


def test_two_ranks_train_as_one(tokens: Path, tmp_path: Path) -> None:
    n_steps = 6
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    runpy.run_path(str(RANKS))["main"](tokens, tmp_path / "1", n_steps)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = [str(RANKS), str(tokens), str(tmp_path / "2"), str(n_steps)]
    subprocess.run(
        [sys.executable, *launcher, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ("1/0.pt", "2/0.pt", "2/1.pt")
    )
    assert first["losses"] == second["losses"]
    # Not bit for bit: gradients are summed in another order, and rounded to bfloat16.
    assert first["losses"][0] == pytest.approx(alone["losses"][0], abs=1e-3)
    assert first["losses"] == pytest.approx(alone["losses"], abs=0.02)
    assert first["seconds"] == second["seconds"]  # one clock
    bits = [metrics(tmp_path / name)[-1]["val_bpb"] for name in ("1", "2")]
    assert bits[0] == pytest.approx(bits[1], rel=0.01)
    assert alone["losses"][-1] < alone["losses"][0] - 0.1
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name
    for rank in (first, second):  # of 0, 1, 2 ... and 10, 11, 12 ...
        assert [g.flatten().tolist() for g in rank["gradients"]] == [[5, 6, 7, 8, 9, 10], [5, 6, 7]]
        for found, expected in zip(rank["shared"], alone["shared"], strict=True):
            assert torch.equal(found, expected)
            assert found.shape[0] in (1, 3)
