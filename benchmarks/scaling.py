"""Losses and step times of small models of several sizes and lengths, for docs/SCALING.md.

    taskset -c 1 python benchmarks/scaling.py --tokens TOKENS --work DIR

``TOKENS`` is as for ``benchmarks/recipes.py``.  Every run has a schedule of its own, by steps, so
its result does not depend on what else the machine does; times are of the process's CPU.  A run
that is in the JSON is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import cpu_training
import numpy as np

from pgolf_codec.files import replacing
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.presets import load_preset

RESULTS = Path(__file__).with_name("results") / "scaling.json"

SIZES: dict[str, dict[str, Any]] = {
    "d 64": {"n_layers": 2, "d_model": 64, "n_heads": 2, "n_kv_heads": 1, "d_head": 32},
    "d 128": {"n_layers": 3, "d_model": 128, "n_heads": 2, "n_kv_heads": 1, "d_head": 64},
    "d 192": {"n_layers": 4, "d_model": 192, "n_heads": 3, "n_kv_heads": 1, "d_head": 64},
    "d 256": {},
}
"""Changes of nano, with a hidden width of four times the model's and no pair table."""
EXPONENTS = [round(0.02 * i, 2) for i in range(5, 31)]
RECORDS: tuple[dict[str, Any], ...] = (
    {"preset": "baseline", "ms_per_step": 43.54, "n_steps": 13_780, "val_bpb": 1.2172},
    {"preset": "record-1.1194", "ms_per_step": 83.59, "n_steps": 7_179, "val_bpb": 1.1379},
)
"""Published logs on 8 H100: the last validation before quantization, of full precision."""
LENGTHS = (262_144, 524_288, 1_048_576)
"""Tokens."""


def recipe(size: str) -> tuple[ModelConfig, TrainConfig]:
    model, train, _ = load_preset("nano")
    changes = SIZES[size]
    n_layers = changes.get("n_layers", model.n_layers)
    d_model = changes.get("d_model", model.d_model)
    model = dataclasses.replace(
        model,
        **changes,
        d_hidden=4 * d_model,
        windows=model.windows[:n_layers],
        rope_dims=16,
        bigram_buckets=0,
        bigram_dim=0,
    )
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
    parser.add_argument("--one", nargs="+", help="a size and lengths; for the program's own use")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    if a.one:
        found = train_all(a.one[0], [int(n) for n in a.one[1:]], a.tokens, a.work)
        (a.work / "result.json").write_text(json.dumps(found))
        return
    for size in SIZES:
        results: dict[str, Any] = (
            json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
        )
        done = {(run["size"], run["n_tokens"]) for run in results["runs"]}
        lengths = [str(n) for n in LENGTHS if (size, n) not in done]
        if not lengths:
            continue
        one = "--one", size, *lengths
        cpu_training.in_a_process(__file__, "--tokens", a.tokens, "--work", a.work, *one)
        results["runs"] += json.loads((a.work / "result.json").read_text())
        write(results)
    write(json.loads(RESULTS.read_text()))


def write(results: dict[str, Any]) -> None:
    """Store runs, with what is fitted to them and extrapolated."""
    results["loss_fit"] = fit_losses(results["runs"])
    results["time_fit"] = fit_times(results["runs"])
    results["records"] = [record(**values) for values in RECORDS]
    mfu = [r["mfu"] for r in results["records"]]
    results["extrapolated"] = [
        extrapolate(preset, results["loss_fit"], min(mfu), max(mfu))
        for preset in ("baseline", "record-1.1194", "golf")
    ]
    with replacing(RESULTS, overwrite=True) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())


def fit_losses(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    """L = E + A / N**alpha + B / D**beta by least squares: a grid of exponents, the rest linear.

    N: weights that a token is multiplied with; D: tokens.  None for fewer runs than unknowns.
    """
    if len(runs) < 6:
        return None
    n = np.array([weights_used(run) for run in runs])
    d = np.array([run["n_tokens"] for run in runs])
    loss = np.array([run["val_loss"] for run in runs])
    best: dict[str, float] | None = None
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            columns = np.stack((np.ones(len(runs)), n**-alpha, d**-beta), axis=1)
            scales = columns.max(axis=0)
            found, _ = nnls(columns / scales, loss)
            rms = float(np.sqrt(np.mean((columns / scales @ found - loss) ** 2)))
            if best is None or rms < best["rms"]:
                e, a, b = (float(x) for x in found / scales)
                best = {"E": e, "A": a, "alpha": alpha, "B": b, "beta": beta, "rms": rms}
    return best


def nnls(columns: Any, values: Any) -> tuple[Any, float]:
    """Least squares with coefficients of at least 0: the best of all sets of columns."""
    best, best_error = np.zeros(columns.shape[1]), float("inf")
    for chosen in itertools.product((False, True), repeat=columns.shape[1]):
        used = np.flatnonzero(chosen)
        found = np.zeros(columns.shape[1])
        if used.size:
            found[used] = np.linalg.lstsq(columns[:, used], values, rcond=None)[0]
        error = float(np.sum((columns @ found - values) ** 2))
        if (found >= 0).all() and error < best_error:
            best, best_error = found, error
    return best, best_error


def weights_used(run: dict[str, Any]) -> float:
    """Those of the layers and of the head."""
    return float(run["n_matrix_params"] + run["n_head_params"])


def fit_times(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    """CPU nanoseconds a token = fixed + operations / speed; None for a single size."""
    flops = np.array([run["flops_per_token"] for run in runs])
    ns = np.array([1e6 * run["cpu_ms_per_step"] / run["batch_tokens"] for run in runs])
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
    preset: str, fit: dict[str, float] | None, low: float, high: float
) -> dict[str, Any]:
    """Steps and tokens of 10 minutes on 8 H100 at MFUs, and what the fit makes of them."""
    from pgolf_codec.lm.training.flops import PEAK_FLOPS

    flops, n, train = sizes_of(preset)
    tokens = train.batch_rows * train.seq_len
    out: dict[str, Any] = {"preset": preset, "flops_per_token": flops, "n_weights": n}
    for name, mfu in (("slow", low), ("fast", high)):
        seconds = flops * tokens / (mfu * 8 * PEAK_FLOPS["H100"])
        n_steps = int(600 / seconds)
        out[name] = {
            "mfu": mfu,
            "ms_per_step": round(1000 * seconds, 1),
            "n_steps": n_steps,
            "n_tokens": n_steps * tokens,
        }
        if fit is not None:
            loss = fit["E"] + fit["A"] * n ** -fit["alpha"]
            loss += fit["B"] * (n_steps * tokens) ** -fit["beta"]
            out[name]["fitted_loss"] = round(loss, 3)
    return out


if __name__ == "__main__":
    main()
