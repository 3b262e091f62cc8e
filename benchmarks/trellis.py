"""How near the trellis comes to the rate-distortion bound, in real bytes.

    python benchmarks/trellis.py            writes benchmarks/results/trellis.json

Independent normal weights, one tensor; bits are 8 times the bytes of the coded tensor, all
of it; the gap is to 1/2 log2(variance / mean squared error), Shannon's bound for the
normal source.  What is coded is decoded again.  One state is a scalar quantizer; its
rows without a price of bits are the uniform quantizer.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from pgolf_codec.quant import trellis
from pgolf_codec.quant.coders import trellis as trellis_coder
from pgolf_codec.quant.trellis_search import search

RESULT = Path(__file__).parent / "results" / "trellis.json"
SHAPE = (4096, 256)
BITS_WANTED = 3.0
SEED = 1


def main() -> None:
    weights = np.random.default_rng(SEED).standard_normal(SHAPE)
    rows = [measured(weights, 1, priced=False)]
    for n_states in sorted(trellis.CODES):
        rows.append(measured(weights, n_states, priced=True))
        print(json.dumps(rows[-1]), flush=True)
    results = {"n_weights": weights.size, "shape": SHAPE, "seed": SEED, "rows": rows}
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measured(weights: np.ndarray, n_states: int, *, priced: bool) -> dict[str, Any]:
    """A row of the results."""
    # Of a search at this step, bits are about log2(sqrt(2 pi e) / (2 step)).
    step = math.sqrt(2 * math.pi * math.e) / 2 ** (BITS_WANTED + 1)
    target = weights / step
    error = trellis.SQUARED_ERROR if n_states > 1 else 1 / 3
    rate = 2 * math.log(2) * error if priced else 0.0
    of_class = trellis_coder.classes(np.array(np.abs(target).mean()))
    table = np.full(len(weights), of_class, np.int64)
    follow, prices, ones = trellis.machine(n_states), trellis_coder.prices(), np.ones(len(weights))
    start = time.process_time()
    columns = [
        search(target[:, c].copy(), ones, table, prices, rate, follow, 127)
        for c in range(weights.shape[1])
    ]
    searched = time.process_time()
    x = np.array(columns, np.int8).T.copy()
    values = x if n_states > 1 else x // 2
    payload = trellis_coder.encode(values, n_states)
    coded = time.process_time()
    if not np.array_equal(trellis_coder.decode(payload, x.shape), values):
        raise SystemExit("what was decoded is not what was encoded")
    decoded = time.process_time()
    bits = 8 * len(payload) / weights.size
    squared_error = float(np.mean((weights - x * step) ** 2))
    return {
        "n_states": n_states,
        "priced": priced,
        "bits": bits,
        "squared_error": squared_error,
        "gap_bits": bits + 0.5 * math.log2(squared_error),
        "search_ns": 1e9 * (searched - start) / weights.size,
        "encode_ns": 1e9 * (coded - searched) / weights.size,
        "decode_ns": 1e9 * (decoded - coded) / weights.size,
    }


if __name__ == "__main__":
    for warm in (1, 8):  # compiled before it is timed
        measured(np.ones((4, 4)), warm, priced=True)
    main()
