"""The price of integers: entropy of the float model against that of the artifact.

    python benchmarks/integers.py CHECKPOINT TEXT      writes benchmarks/results/integers.json

Both see the same tokens in the same rows, each row from an empty past; needs torch
and the checkpoint from which the default model was exported.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

import pgolf_codec
from pgolf_codec.codec.model import Model
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.conversion.export import load_checkpoint

RESULT = Path(__file__).resolve().parent / "results" / "integers.json"
ROW = 1024
BATCH = 16


def main(arguments: list[str]) -> None:
    checkpoint, path = map(Path, arguments)
    model = pgolf_codec.load_model()
    ids = model.tokenizer.encode(path.read_bytes())
    rows = ids[: len(ids) // ROW * ROW].reshape(-1, ROW)
    n_bytes = sum(len(model.tokenizer.decode(row)) for row in rows)
    float_bits, integer_bits = float_entropy(checkpoint, rows), integer_entropy(model, rows)
    results = {
        "model": model.name,
        "fingerprint": model.predictor.fingerprint.hex(),
        "text": path.name,
        "n_bytes": n_bytes,
        "n_tokens": int(rows.size),
        "float_bpb": float_bits / n_bytes,
        "integer_bpb": integer_bits / n_bytes,
        "price_bpb": (integer_bits - float_bits) / n_bytes,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def float_entropy(checkpoint: Path, rows: np.ndarray) -> float:
    """Bits of rows (n, T) by the float32 model, summed in float64."""
    model = load_checkpoint(checkpoint, ROW)
    y = torch.from_numpy(rows.astype(np.int64))
    x = torch.cat((torch.full((len(y), 1), BOS_ID), y[:, :-1]), dim=1)
    nats = 0.0
    with torch.no_grad():
        for i in range(0, len(y), BATCH):
            for states, targets in zip(model(x[i : i + BATCH]), y[i : i + BATCH], strict=True):
                log_p = torch.log_softmax(model.logits(states).double(), dim=-1)
                nats -= float(log_p.gather(1, targets[:, None]).sum())
    return nats / math.log(2)


def integer_entropy(model: Model, rows: np.ndarray) -> float:
    """Bits of the same rows by the integer frequencies."""
    bits = 0.0
    for i in range(0, len(rows), BATCH):
        part = rows[i : i + BATCH].astype(np.int32)
        _, freq = model.predictor.session(len(part)).intervals(part)
        bits += float(np.sum(24.0 - np.log2(freq.astype(np.float64))))
    return bits


if __name__ == "__main__":
    main(sys.argv[1:])
