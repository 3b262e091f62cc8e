"""Losses and step times of small models of several sizes and lengths, for docs/SCALING.md.

    taskset -c 1 python benchmarks/scaling.py --tokens TOKENS --work DIR

``TOKENS`` is as for ``benchmarks/recipes.py``.  Every run has a schedule of its own, by steps, so
its result does not depend on what else the machine does; times are of the process's CPU.  A run
that is in the JSON is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pgolf_codec.files import replacing
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.presets import load_preset

RESULTS = Path(__file__).with_name("results") / "scaling.json"
VAL_ROWS = 96

SIZES: dict[str, dict[str, Any]] = {
    "d 64": {"n_layers": 2, "d_model": 64, "n_heads": 2, "n_kv_heads": 1, "d_head": 32},
    "d 128": {"n_layers": 3, "d_model": 128, "n_heads": 2, "n_kv_heads": 1, "d_head": 64},
    "d 192": {"n_layers": 4, "d_model": 192, "n_heads": 3, "n_kv_heads": 1, "d_head": 64},
    "d 256": {},
}
"""Changes of nano, with a hidden width of four times the model's and no pair table."""
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
    import shutil

    import torch

    from pgolf_codec.lm.flops import flops_per_token
    from pgolf_codec.lm.group import Group
    from pgolf_codec.lm.rows import open_tokens
    from pgolf_codec.lm.run_log import read_metrics
    from pgolf_codec.lm.stopping import StopRequest
    from pgolf_codec.lm.train import Training

    torch.set_num_threads(1)
    model, config = recipe(size)
    data = open_tokens(tokens, config.seq_len)
    n_val = VAL_ROWS * config.seq_len
    n_bytes = round(data.val_bytes * n_val / len(data.val))
    data = dataclasses.replace(data, val=data.val[:n_val], val_bytes=n_bytes)
    found = []
    for n_tokens in lengths:
        out = work / f"{size}-{n_tokens}".replace(" ", "")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        steps = n_tokens // (config.batch_rows * config.seq_len)
        timed = dataclasses.replace(config, minutes=1e6, iterations=steps, eval_seconds=1e9)
        training = Training(model, timed, data, out, Group(torch.device("cpu"), 0, 1))
        training.clock = time.process_time
        training.start(compile=True)
        with StopRequest() as request:
            while not (training.is_over or training.must_stop):
                training.advance(request)
            training.finish()
        if training.must_stop:
            sys.exit(128 + training.must_stop)
        last = read_metrics(out)[-1]
        found.append(
            {
                "size": size,
                "n_params": sum(p.numel() for p in training.model.parameters()),
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
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
        done = {(run["size"], run["n_tokens"]) for run in results["runs"]}
        lengths = [str(n) for n in LENGTHS if (size, n) not in done]
        if not lengths:
            continue
        command = [sys.executable, __file__, "--tokens", str(a.tokens), "--work", str(a.work)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--one", size, *lengths], check=True, env=environment)
        results["runs"] += json.loads((a.work / "result.json").read_text())
        with replacing(RESULTS, overwrite=True) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
