"""What the referee's own work costs for a symbol of anyone's predictor.

    python benchmarks/referee.py      writes benchmarks/results/referee.json

A predictor that has its distributions ready is coded and decoded, so what is left is the
referee: checks, integer frequencies, range coder.  Processor time of one thread, medians.
With it are stored the assumptions of the plan in docs/REFEREE.md for machines that were
not measured; benchmarks/tables.py computes that from them.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval import archive
from pgolf_codec.eval.subject import Subject

RESULT = Path(__file__).resolve().parent / "results" / "referee.json"
N_SYMBOLS, N_RUNS = 1500, 5

CHALLENGE = {
    "bytes": 151_080_891,
    "documents": 50_000,
    "symbols": {"1024": 62_021_846, "8192": 40_540_803},
    "seconds": 600,
}
"""The whole FineWeb validation set, by size of the vocabulary."""
ASSUMED = {
    "gpu": "H100 SXM",
    "int8_ops_s": 1.979e15,
    "memory_bytes_s": 3.35e12,
    "memory_bytes": 8.0e10,
    "compute_share": 0.3,
    "memory_share": 0.6,
    "step_seconds": 6e-4,
    "ring_bytes_a_place": 4,
    "ring_bytes_a_place_on_cpu": 16,
    "lanes": 4096,
}
"""Peaks are the maker's, without sparsity; shares and the time between steps (host, launch
of a graph) are guesses."""


class Ready:
    """V symbols, of which the first 256 come; rows of random weights, used in turn."""

    def __init__(self, n_symbols: int) -> None:
        self.n_symbols = n_symbols
        rows = np.random.default_rng(1).gamma(0.1, size=(16, n_symbols)) + 1e-9
        self._rows: NDArray[Any] = rows / rows.sum(axis=1, keepdims=True)

    def start(self) -> None:
        self._at = 0

    def next_distribution(self) -> NDArray[Any]:
        row: NDArray[Any] = self._rows[self._at % 16]
        return row

    def observe(self, symbol: int) -> None:
        self._at += 1

    def encode(self, data: bytes) -> NDArray[np.int64]:
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode(self, ids: NDArray[np.int64]) -> bytes:
        return ids.astype(np.uint8).tobytes()


def main() -> None:
    archive.warm()
    costs = {str(n): microseconds(n) for n in (1024, 8192)}
    results = {
        "machine": platform.platform(),
        "microseconds_a_symbol": costs,
        "challenge": CHALLENGE,
        "assumed": ASSUMED,
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def microseconds(n_symbols: int) -> dict[str, float]:
    """Of one symbol, each way."""
    data = np.random.default_rng(2).integers(0, 256, N_SYMBOLS, np.uint8).tobytes()
    subject = Subject(lambda: Ready(n_symbols))
    there, back = [], []
    for _ in range(N_RUNS):
        start = time.process_time()
        packed = archive.pack(subject, [data], lambda n_done: None)
        middle = time.process_time()
        if archive.unpack(subject, packed.archive, lambda n_done: None) != [data]:
            raise RuntimeError("the text did not come back")
        there.append(middle - start)
        back.append(time.process_time() - middle)
    scale = 1e6 / N_SYMBOLS
    return {"encode": scale * statistics.median(there), "decode": scale * statistics.median(back)}


if __name__ == "__main__":
    main()
