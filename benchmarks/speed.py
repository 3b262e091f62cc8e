"""The command as its users meet it: seconds, kB/s and memory of whole processes.

    python benchmarks/speed.py TEXT        writes benchmarks/results/speed.json

Texts are 1,000,000 bytes of TEXT, repeated if it is shorter.  Figures are medians of
several runs, in turns; first use is with an empty cache of machine code.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record_size import record_size_model

from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.codec.workers import default_threads

RESULT = Path(__file__).resolve().parent / "results" / "speed.json"
RUNS = {"nano": 3, "nano, --no-adapt": 3, "record-size, --no-adapt": 1}
"""Of a model, with options of the command."""
TEXT_BYTES = 1_000_000
SMALL_BYTES = 1000


def main(arguments: list[str]) -> None:
    text = Path(arguments[0]).read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = folder / "record-size.pglm"
        record.write_bytes(record_size_model().blob)
        models = {"nano": "nano", "record-size": str(record)}
        results = {
            "text": Path(arguments[0]).name,
            "instruction_set": instruction_set(),
            "threads": default_threads(),
            "models": {
                name: whole_file(folder, text, models, name, runs) for name, runs in RUNS.items()
            },
            "start": start(folder, text),
        }
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def whole_file(
    folder: Path, text: bytes, models: dict[str, str], name: str, runs: int
) -> dict[str, Any]:
    """Both ways, in turns."""
    model, *options = name.split(", ")
    model = models[model]
    plain, packed, again = folder / "text", folder / "text.pgz", folder / "again"
    plain.write_bytes(text[:SMALL_BYTES])
    run("compress", *options, "-f", "-m", model, "-o", packed, plain)  # compiles
    run("decompress", "-f", "-m", model, "-o", again, packed)
    plain.write_bytes((text * -(-TEXT_BYTES // len(text)))[:TEXT_BYTES])
    n_bytes = plain.stat().st_size
    there, back = [], []
    for _ in range(runs):
        there.append(run("compress", *options, "-f", "-m", model, "-o", packed, plain))
        back.append(run("decompress", "-f", "-m", model, "-o", again, packed))
        if again.read_bytes() != plain.read_bytes():
            raise RuntimeError("decoded to something else")
    return {
        "raw_bytes": n_bytes,
        "file_bytes": packed.stat().st_size,
        "runs": runs,
        "compress": summary(there, n_bytes),
        "decompress": summary(back, n_bytes),
    }


def start(folder: Path, text: bytes) -> dict[str, float]:
    """Seconds until small things are done."""
    small, cache = folder / "small", folder / "cache"
    small.write_bytes(text[:SMALL_BYTES])
    compress = ("compress", "-qf", "-o", folder / "small.pgz", small)
    first = run(*compress, PGOLF_CODEC_CACHE=str(cache))["seconds"]
    warm = [run(*compress, PGOLF_CODEC_CACHE=str(cache))["seconds"] for _ in range(9)]
    usage = [run("--help")["seconds"] for _ in range(9)]
    return {
        "help_seconds": statistics.median(usage),
        "first_use_seconds": first,
        "compress_1kb_seconds": statistics.median(warm),
        "compress_1kb_least_seconds": min(warm),
    }


def run(*arguments: object, **variables: str) -> dict[str, float]:
    """One process of the command: wall-clock seconds and the most memory it held."""
    command = [sys.executable, "-m", "pgolf_codec", *map(str, arguments)]
    started = time.perf_counter()
    nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(command[0], command, os.environ | variables, file_actions=nowhere)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{command} failed")
    return {"seconds": time.perf_counter() - started, "peak_mb": usage.ru_maxrss / 1000}


def summary(runs: list[dict[str, float]], n_bytes: int) -> dict[str, float]:
    seconds = [r["seconds"] for r in runs]
    return {
        "kb_s": n_bytes / 1000 / statistics.median(seconds),
        "best_kb_s": n_bytes / 1000 / min(seconds),
        "peak_mb": max(r["peak_mb"] for r in runs),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
