"""Our recipe against the challenge's baseline, and each switch of it: small runs on one core.

    taskset -c 1 python benchmarks/recipes.py --tokens TOKENS --work DIR

``TOKENS`` is the tokens folder of a build of ``lm/configs/nano.toml``.  Recipes are compared by
the seconds of CPU time that a run may take (what is compiled and measured is not counted) and
at equal tokens; switches at equal tokens alone, which no neighbour on the machine can change.
A run that is in the JSON is not done again, one that was stopped goes on from its checkpoint:
the same command continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import cpu_training
from cpu_training import VAL_ROWS

from pgolf_codec.files import replacing
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.presets import load_preset

RESULTS = Path(__file__).with_name("results") / "recipes.json"
PICTURE = Path(__file__).parents[1] / "docs" / "recipes.svg"
SEEDS = (1, 2, 3)
SWITCH_TOKENS = 524_288
"""What ours and each of :data:`ABLATIONS` is trained on."""

BASELINE_MODEL: dict[str, Any] = {
    "n_layers": 9,
    "d_hidden": 512,
    "windows": (1024,) * 9,
    "rope_dims": 64,
    "rope_base": 10_000.0,
    "bigram_buckets": 0,
    "bigram_dim": 0,
    "activation": "relu2",
    "smear": "none",
    "unet": True,
}
"""Its parts and its nine layers at nano's width: 5.2M parameters, ours has 5.0M."""
BASELINE_TRAIN: dict[str, Any] = {
    "batch_rows": 8,
    "warmdown": 0.087,
    "warmup_steps": 1,
    "embedding_std": 0.005,
    "matrix_lr": 0.04,
    "embed_lr": 0.05,
    "scalar_lr": 0.04,
    "momentum_start": 0.85,
    "momentum_warmup_steps": 5,
    "weight_decay": 0.0,
    "adam_eps": 1e-8,
    "newton_schulz": "quintic",
    "row_beta": 0.0,
}
"""Its rates; a 64th of its batch; its warmdown and momentum warmup as parts of the run."""

ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "batch of 8 rows": ({}, {"batch_rows": 8}),
    "warmdown 0.087": ({}, {"warmdown": 0.087}),
    "no row moments": ({}, {"row_beta": 0.0}),
    "quintic iteration": ({}, {"newton_schulz": "quintic"}),
    "baseline's rates": ({}, {"matrix_lr": 0.04, "embed_lr": 0.05, "scalar_lr": 0.04}),
    "no weight decay": ({}, {"weight_decay": 0.0}),
    "no pair table": ({"bigram_buckets": 0, "bigram_dim": 0}, {}),
    "full windows": ({"windows": (1024,) * 4}, {}),
    "no smear": ({"smear": "none"}, {}),
    "relu squared": ({"activation": "relu2"}, {}),
    "rotary on all dimensions": ({"rope_dims": 64, "rope_base": 10_000.0}, {}),
}
"""Ours with one part of the baseline each: changes of the model, of training."""


def recipe(kind: str) -> tuple[ModelConfig, TrainConfig]:
    """Of ``ours``, ``baseline`` or a name of :data:`ABLATIONS`."""
    model, train, _ = load_preset("nano")
    changes = ABLATIONS.get(kind, ({}, {}))
    if kind == "baseline":
        changes = BASELINE_MODEL, BASELINE_TRAIN
    return dataclasses.replace(model, **changes[0]), dataclasses.replace(train, **changes[1])


def plan(done: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """All runs, in their order; ours at the baseline's tokens only where these are known."""
    runs: list[dict[str, Any]] = []
    for seed in SEEDS:
        for kind in ("ours", "baseline"):
            runs.append({"kind": kind, "seed": seed, "cpu_seconds": seconds})
        baseline = done.get(f"baseline, seed {seed}")
        if baseline:
            n_tokens = baseline["n_tokens"]
            runs.append({"kind": "ours", "seed": seed, "n_tokens": n_tokens})
    for kind in ("ours", *ABLATIONS):
        runs.append({"kind": kind, "seed": SEEDS[0], "n_tokens": SWITCH_TOKENS})
    return runs


def name_of(run: dict[str, Any]) -> str:
    n_tokens = run.get("n_tokens")
    if n_tokens == SWITCH_TOKENS:
        return f"{run['kind']}, equal tokens"
    equal = ", baseline's tokens" if n_tokens else ""
    return f"{run['kind']}, seed {run['seed']}{equal}"


def train_one(run: dict[str, Any], tokens: Path, out: Path) -> dict[str, Any]:
    """One run in this process; resumed from ``out`` if it was begun."""
    from pgolf_codec.lm.training.run_log import read_metrics

    model, config = recipe(run["kind"])
    config = dataclasses.replace(
        config,
        seed=run["seed"],
        minutes=run.get("cpu_seconds", 1e6) / 60,
        iterations=run.get("n_tokens", 0) // (config.batch_rows * config.seq_len),
        checkpoint_seconds=60,
        log_steps=5,
    )
    training = cpu_training.train(model, config, tokens, out)
    rows = read_metrics(out)
    curve = [(r["seconds"], r["train_loss"]) for r in rows if "train_loss" in r and r["step"] > 3]
    return {
        **run,
        "val_bpb": round(rows[-1]["val_bpb"], 5),
        "cpu_seconds": round(training.done.seconds, 1),
        "n_steps": training.done.step,
        "n_tokens": training.done.step * config.batch_rows * config.seq_len,
        "n_params": rows[0]["params"],
        "curve": curve,
    }


def draw(runs: dict[str, Any]) -> str:
    from pgolf_codec.lm.training.line_chart import Series, line_chart

    series = []
    for kind in ("ours", "baseline"):
        for seed in SEEDS:
            if found := runs.get(f"{kind}, seed {seed}"):
                series.append(Series(f"{kind}, seed {seed}", found["curve"]))
    return line_chart(series, x_name="seconds of one core", y_name="training loss, nats a token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0, help="of CPU time, a run")
    parser.add_argument("--one", help="a run as JSON; for the program's own use")
    a = parser.parse_args()
    if a.one:
        run = json.loads(a.one)
        result = train_one(run, a.tokens, a.work / name_of(run).replace(" ", "_"))
        (a.work / "result.json").write_text(json.dumps(result))
        return
    a.work.mkdir(parents=True, exist_ok=True)
    while True:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
        todo = [r for r in plan(results["runs"], a.seconds) if name_of(r) not in results["runs"]]
        if not todo:
            break
        print(name_of(todo[0]), flush=True)
        one = "--one", json.dumps(todo[0])
        cpu_training.in_a_process(__file__, "--tokens", a.tokens, "--work", a.work, *one)
        results["runs"][name_of(todo[0])] = json.loads((a.work / "result.json").read_text())
        results["machine"] = f"one core, {platform.machine()}"
        results["val_rows"] = VAL_ROWS
        with replacing(RESULTS, overwrite=True) as file:
            file.write((json.dumps(results) + "\n").encode())
        with replacing(PICTURE, overwrite=True) as file:
            file.write(draw(results["runs"]).encode())
    print(f"{RESULTS}: every run is there; without the file all are done again")


if __name__ == "__main__":
    main()
