"""The command as its users meet it: seconds, kB/s and memory of whole processes.

    python benchmarks/speed.py TEXT        writes benchmarks/results/speed.json

Texts are 1,000,000 bytes of TEXT, repeated if it is shorter.  Figures are medians of
several runs, in turns, xz among them as a yardstick: a shared machine's speed varies by two.
First use is with an empty cache of machine code.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from one_text import one_text

from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.codec.workers import default_threads

RESULT = Path(__file__).resolve().parent / "results" / "speed.json"
RUNS = {"nano": 3, "nano, --no-adapt": 3, "record-size, --no-adapt": 1}
"""Of a model, with options of the command."""
XZ = """
import lzma, pathlib, sys, time
text = pathlib.Path(sys.argv[1]).read_bytes()
started = time.perf_counter()
lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
print(len(text) / 1000 / (time.perf_counter() - started))
"""
TEXT_BYTES = 1_000_000
SMALL_BYTES = 1000


def main(arguments: list[str]) -> None:
    path = one_text(arguments, __doc__)
    text = path.read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = folder / "record-size.pglm"
        maker = Path(__file__).with_name("record_size.py")
        subprocess.run([sys.executable, maker, record], check=True)
        models = {"nano": "nano", "record-size": str(record)}
        results = {
            "text": path.name,
            "instruction_set": instruction_set(),
            "threads": default_threads(),
            **whole_files(folder, text, models),
            "start": start(folder, text),
        }
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def whole_files(folder: Path, text: bytes, models: dict[str, str]) -> dict[str, Any]:
    """All models both ways, and xz there, in turns."""
    plain, packed, again = folder / "text", folder / "text.pgz", folder / "again"
    there: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    back: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    xz, sizes = [], {}

    def both_ways(name: str) -> tuple[dict[str, float], dict[str, float]]:
        model, *options = name.split(", ")
        to = ("-f", "-m", models[model], "-o")
        found = run("compress", *options, *to, packed, plain), run("decompress", *to, again, packed)
        if again.read_bytes() != plain.read_bytes():
            raise RuntimeError("decoded to something else")
        sizes[name] = packed.stat().st_size
        return found

    plain.write_bytes(text[:SMALL_BYTES])
    for name in RUNS:
        both_ways(name)  # compiles
    plain.write_bytes((text * -(-TEXT_BYTES // len(text)))[:TEXT_BYTES])
    for i in range(max(RUNS.values())):
        xz.append(float(subprocess.check_output([sys.executable, "-c", XZ, plain])))
        for name, runs in RUNS.items():
            if i < runs:
                one, other = both_ways(name)
                there[name].append(one)
                back[name].append(other)
    return {
        "xz_kb_s": {"median": statistics.median(xz), "best": max(xz)},
        "models": {
            name: {
                "raw_bytes": TEXT_BYTES,
                "file_bytes": sizes[name],
                "runs": runs,
                "compress": summary(there[name], TEXT_BYTES),
                "decompress": summary(back[name], TEXT_BYTES),
            }
            for name, runs in RUNS.items()
        },
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
    """One process of the command: wall-clock seconds and the most memory it held.

    The kernel counts what this process held when it started the other one, so it holds little.
    """
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
