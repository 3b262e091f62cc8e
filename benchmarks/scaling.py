"""Losses and step times of small models of several sizes and lengths, for docs/SCALING.md.

    taskset -c 1 python benchmarks/scaling.py --tokens TOKENS --work DIR [--build WORK ...]

``TOKENS`` is as for ``benchmarks/recipes.py``.  Every run has a schedule of its own, by steps, so
its result does not depend on what else the machine does; times are of the process's CPU.  A run
that is in the JSON is not done again.  ``--build`` adds the finished run in the work folder of a
build of ``nano``, measured on the same rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import cpu_training
import numpy as np
from scaling_fit import Fit, Point, fit, without

from pgolf_codec.files import replacing
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.presets import load_preset

RESULTS = Path(__file__).with_name("results") / "scaling.json"

PAIRS = "d 256, pair table"
SIZES: dict[str, dict[str, Any]] = {
    "d 64": {"n_layers": 2, "d_model": 64, "n_heads": 2, "n_kv_heads": 1, "d_head": 32},
    "d 128": {"n_layers": 3, "d_model": 128, "n_heads": 2, "n_kv_heads": 1, "d_head": 64},
    "d 192": {"n_layers": 4, "d_model": 192, "n_heads": 3, "n_kv_heads": 1, "d_head": 64},
    "d 256": {},
    PAIRS: {"bigram_buckets": 16_384, "bigram_dim": 64},
}
"""Changes of nano without its pair table, with a hidden width of four times the model's."""
BUILD = "nano"
"""Name of the runs of builds."""
RECORDS: tuple[dict[str, Any], ...] = (
    {"preset": "baseline", "ms_per_step": 43.54, "n_steps": 13_780, "val_bpb": 1.2172},
    {"preset": "record-1.1194", "ms_per_step": 83.59, "n_steps": 7_179, "val_bpb": 1.1379},
)
"""Published logs on 8 H100: the last validation before quantization, of full precision."""
_SHORT = (262_144, 524_288, 1_048_576)
LENGTHS: dict[str, tuple[int, ...]] = {
    "d 64": (*_SHORT, 2_097_152, 4_194_304),
    "d 128": _SHORT,
    "d 192": _SHORT,
    "d 256": _SHORT,
    PAIRS: _SHORT[-1:],
}
"""Tokens that a size is trained on; the smallest longer, as it can be."""


def recipe(size: str) -> tuple[ModelConfig, TrainConfig]:
    model, train, _ = load_preset("nano")
    changes = SIZES[size]
    n_layers = changes.get("n_layers", model.n_layers)
    d_model = changes.get("d_model", model.d_model)
    values = {"bigram_buckets": 0, "bigram_dim": 0, "rope_dims": 16, **changes}
    windows = model.windows[:n_layers]
    model = dataclasses.replace(model, **values, d_hidden=4 * d_model, windows=windows)
    return model, train


def train_all(size: str, lengths: list[int], tokens: Path, work: Path) -> list[dict[str, Any]]:
    """The runs of one size in one process, which compiles once."""
    from pgolf_codec.lm.training.flops import flops_per_token
    from pgolf_codec.lm.training.run_log import read_metrics

    model, config = recipe(size)
    found = []
    for n_tokens in lengths:
        out = work / f"{size}-{n_tokens}".replace(" ", "")
        shutil.rmtree(out, ignore_errors=True)  # its clock would lack the first step of each part
        steps = n_tokens // (config.batch_rows * config.seq_len)
        timed = dataclasses.replace(config, minutes=1e6, iterations=steps)
        training = cpu_training.train(model, timed, tokens, out)
        last = read_metrics(out)[-1]
        found.append(
            {
                "size": size,
                "n_params": sum(p.numel() for p in training.model.parameters()),
                "n_head_params": model.vocab_size * model.d_model,
                "n_matrix_params": sum(p.numel() for _, p in training.model.kinds()["matrices"]),
                "flops_per_token": flops_per_token(training.model, config.seq_len),
                "n_tokens": steps * config.batch_rows * config.seq_len,
                "val_loss": round(last["val_loss"], 5),
                "val_bpb": round(last["val_bpb"], 5),
                "cpu_ms_per_step": round(1000 * training.done.seconds / (steps - 1), 2),
                "batch_tokens": config.batch_rows * config.seq_len,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--build", type=Path, action="append", default=[], metavar="WORK")
    parser.add_argument("--one", nargs="+", help="a size and lengths; for the program's own use")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    if a.one:
        found = train_all(a.one[0], [int(n) for n in a.one[1:]], a.tokens, a.work)
        (a.work / "result.json").write_text(json.dumps(found))
        return
    for size in SIZES:
        results = read()
        done = {(run["size"], run["n_tokens"]) for run in results["runs"]}
        lengths = [str(n) for n in LENGTHS[size] if (size, n) not in done]
        if not lengths:
            continue
        one = "--one", size, *lengths
        cpu_training.in_a_process(__file__, "--tokens", a.tokens, "--work", a.work, *one)
        results["runs"] += json.loads((a.work / "result.json").read_text())
        store(results)
    results = read()
    built = [measure_build(work) for work in a.build]
    again = {run["n_tokens"] for run in built}
    others = [r for r in results["runs"] if r["size"] != BUILD or r["n_tokens"] not in again]
    store(conclusions([*others, *built]))
    print(f"{RESULTS}: every run is there; without the file all are done again")


def read() -> dict[str, Any]:
    """What is stored: ``runs``, and all of :func:`conclusions`."""
    stored: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    return stored


def store(results: dict[str, Any]) -> None:
    with replacing(RESULTS, overwrite=True) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())


def measure_build(work: Path) -> dict[str, Any]:
    """The model that a build has trained, on the rows that the other runs are measured on."""
    import torch

    from pgolf_codec.lm.conversion.export import load_checkpoint
    from pgolf_codec.lm.train import validation_bits
    from pgolf_codec.lm.training.flops import flops_per_token
    from pgolf_codec.lm.training.rows import open_tokens

    torch.set_num_threads(1)
    _, config, _ = load_preset("nano")
    path = work / "run" / "checkpoint.pt"
    model = load_checkpoint(path, config.seq_len)
    data = open_tokens(work / "tokens", config.seq_len)
    n_val = cpu_training.VAL_ROWS * config.seq_len
    bits = validation_bits(model, model, data.val[:n_val], config.seq_len)
    n_steps = torch.load(path, weights_only=True, map_location="cpu", mmap=True)["step"]
    batch_tokens = config.batch_rows * config.seq_len
    return {
        "size": BUILD,
        "n_params": sum(p.numel() for p in model.parameters()),
        "n_head_params": model.config.vocab_size * model.config.d_model,
        "n_matrix_params": sum(p.numel() for _, p in model.kinds()["matrices"]),
        "flops_per_token": flops_per_token(model, config.seq_len),
        "n_tokens": n_steps * batch_tokens,
        "val_loss": round(bits * math.log(2) / n_val, 5),
        "val_bpb": round(bits / (data.val_bytes * n_val / len(data.val)), 5),
        "batch_tokens": batch_tokens,
    }


def conclusions(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs, with what is fitted to them, how that fails, and what it extrapolates to."""
    order = [*SIZES, BUILD]
    runs = sorted(runs, key=lambda run: (order.index(run["size"]), run["n_tokens"]))
    points = [point_of(run) for run in runs]
    curve = fit(points)
    for run, point in zip(runs, points, strict=True):
        run["residual"] = round(curve.loss(point.n, point.d, point.pairs) - point.loss, 4)
    curves, left_out = {"all": curve}, []
    for name, out in left_out_runs(runs).items():
        curves[name], off = without(points, [point_of(run) for run in out])
        left_out.append(
            {
                "without": name,
                "runs": [{"size": run["size"], "n_tokens": run["n_tokens"]} for run in out],
                "off": [round(nats, 4) for nats in off],
                "fit": curves[name].to_dict(),
            }
        )
    records = [record(**values) for values in RECORDS]
    mfu = [r["mfu"] for r in records]
    nats_of_a_bpb = float(np.median([run["val_loss"] / run["val_bpb"] for run in runs]))
    return {
        "runs": runs,
        "loss_fit": curve.to_dict(),
        "left_out": left_out,
        "time_fit": fit_times(runs),
        "records": records,
        "extrapolated": [
            extrapolate(preset, curves, nats_of_a_bpb, min(mfu), max(mfu))
            for preset in ("baseline", "record-1.1194", "golf")
        ],
    }


def point_of(run: dict[str, Any]) -> Point:
    """A run as the fit takes it."""
    pairs = run["size"] in (PAIRS, BUILD)
    return Point(weights_used(run), run["n_tokens"], run["val_loss"], pairs)


def left_out_runs(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What the curve through all others is to predict."""
    built = [run for run in runs if run["size"] == BUILD]
    small = [run for run in runs if run["size"] != BUILD]
    longest = max(small, key=lambda run: run["n_tokens"])
    named = {
        "nano's longer run": built[-1:],
        "nano's runs": built,
        "the longest small run": [longest],
    }
    return {name: out for name, out in named.items() if out}


def weights_used(run: dict[str, Any]) -> float:
    """Those of the layers and of the head."""
    return float(run["n_matrix_params"] + run["n_head_params"])


def fit_times(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    """CPU nanoseconds a token = fixed + operations / speed; None for a single size."""
    timed = [run for run in runs if "cpu_ms_per_step" in run]
    flops = np.array([run["flops_per_token"] for run in timed])
    ns = np.array([1e6 * run["cpu_ms_per_step"] / run["batch_tokens"] for run in timed])
    if len(set(flops.tolist())) < 2:
        return None
    slope, fixed = np.polyfit(flops, ns, 1)
    return {"fixed_ns": float(fixed), "gflops_per_s": float(1 / slope)}


def sizes_of(preset: str) -> tuple[float, float, TrainConfig]:
    """Operations a token, weights used (looped layers once), and the recipe."""
    import torch

    from pgolf_codec.lm.floats.model import Transformer
    from pgolf_codec.lm.training.flops import flops_per_token

    config, train, _ = load_preset(preset)
    with torch.device("meta"):
        model = Transformer(config, train.seq_len)
    n = sum(p.numel() for _, p in model.kinds()["matrices"])
    n += config.vocab_size * (config.embedding_rank or config.d_model)
    return flops_per_token(model, train.seq_len), float(n), train


def record(preset: str, ms_per_step: float, n_steps: int, val_bpb: float) -> dict[str, Any]:
    """What a published log says of a step, as a share of 8 H100's peak."""
    from pgolf_codec.lm.training.flops import PEAK_FLOPS

    flops, _, train = sizes_of(preset)
    tokens = train.batch_rows * train.seq_len
    mfu = flops * tokens / (ms_per_step / 1000) / (8 * PEAK_FLOPS["H100"])
    return {
        "preset": preset,
        "ms_per_step": ms_per_step,
        "n_steps": n_steps,
        "val_bpb": val_bpb,
        "mfu": round(mfu, 4),
    }


def extrapolate(
    preset: str, curves: dict[str, Fit], nats_of_a_bpb: float, low: float, high: float
) -> dict[str, Any]:
    """Steps and tokens of 10 minutes on 8 H100 at MFUs, and what each curve makes of them."""
    from pgolf_codec.lm.training.flops import PEAK_FLOPS

    flops, n, train = sizes_of(preset)
    tokens = train.batch_rows * train.seq_len
    out: dict[str, Any] = {"preset": preset, "flops_per_token": flops, "n_weights": n}
    for name, mfu in (("slow", low), ("fast", high)):
        seconds = flops * tokens / (mfu * 8 * PEAK_FLOPS["H100"])
        n_steps = int(600 / seconds)
        losses = {name: curve.loss(n, n_steps * tokens) for name, curve in curves.items()}
        out[name] = {
            "mfu": mfu,
            "ms_per_step": round(1000 * seconds, 1),
            "n_steps": n_steps,
            "n_tokens": n_steps * tokens,
            "bpb": {name: round(loss / nats_of_a_bpb, 3) for name, loss in losses.items()},
        }
    return out


if __name__ == "__main__":
    main()
