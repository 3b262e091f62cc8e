"""What a run tells while it trains, and leaves behind.

    metrics.jsonl   one object a line: what was measured, when
    log.txt         the same as the lines that the challenge's tools look for
    curve.svg       the losses

On a terminal there is one line more, on stderr: how far, how fast, how long still.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pgolf_codec import files
from pgolf_codec.lm.config import TrainConfig
from pgolf_codec.lm.training.line_chart import Series, line_chart
from pgolf_codec.lm.training.rows import Tokens

METRICS, LOG, CURVE = "metrics.jsonl", "log.txt", "curve.svg"


class RunLog:
    """Of rank 0; the others have one that says nothing (``folder`` is None)."""

    def __init__(self, folder: Path | None, behind: int) -> None:
        """``behind`` steps are in the checkpoint: what a lost part of a run said is dropped."""
        self.folder = folder
        self._drawn = False
        if folder is None:
            return
        rows = [row for row in read_metrics(folder) if row.get("step", 0) <= behind]
        with files.replacing(folder / METRICS, overwrite=True) as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        if not behind:
            (folder / LOG).unlink(missing_ok=True)

    def write(self, line: str | None = None, **values: Any) -> None:
        """Values for ``metrics.jsonl``, and a line for ``log.txt`` and stdout."""
        if self.folder is None:
            return
        if values:
            with (self.folder / METRICS).open("a") as file:
                file.write(json.dumps(values) + "\n")
        if line is not None:
            with (self.folder / LOG).open("a") as file:
                file.write(line + "\n")
            self.clear()
            print(line, flush=True)

    def progress(self, line: str) -> None:
        """The one line on a terminal."""
        if self.folder is not None and sys.stderr.isatty():
            self._drawn = True
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._drawn:
            self._drawn = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def draw(self) -> None:
        """The curve of all that was measured up to now."""
        if self.folder is None:
            return
        with files.replacing(self.folder / CURVE, overwrite=True) as file:
            file.write(curve(read_metrics(self.folder)).encode())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` that are whole; none if there is no such file."""
    path = folder / METRICS
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:  # the power failed while it was written
            continue
    return rows


def curve(rows: Sequence[Mapping[str, Any]]) -> str:
    """Losses by training time, as SVG."""

    def points(name: str) -> list[tuple[float, float]]:
        return [(row["seconds"], row[name]) for row in rows if name in row and "seconds" in row]

    return line_chart(
        [
            Series("training", points("train_loss")),
            Series("validation", points("val_loss"), dots=True),
        ],
        x_name="seconds of training",
        y_name="nats a token",
    )


def step_line(step: int, total: int, what: str, seconds: float) -> str:
    """``what`` is ``train_loss:...`` or ``val_loss:... val_bpb:...``."""
    ms = 1000 * seconds
    return f"step:{step}/{total} {what} train_time:{ms:.0f}ms step_avg:{ms / max(step, 1):.2f}ms"


def progress_line(
    *, progress: float, step: int, loss: float, tokens_per_s: float, mfu: float, left_s: float
) -> str:
    minutes, seconds = divmod(round(min(max(left_s, 0.0), 359999)), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return (
        f"train  {progress:4.0%} step {step}, loss {loss:.3f}, {tokens_per_s:,.0f} tokens/s, "
        f"MFU {mfu:.1%}, {left} left"
    )


def heading(tokens: Tokens, config: TrainConfig, device: str, world: int) -> list[str]:
    """What runs, by its versions and a digest of our own sources; on what; and how."""
    import numpy
    import torch

    compared = tokens.n_compared
    overlap = "not stated" if compared is None else f"none of {compared} documents"
    batch = f"train_batch_tokens:{config.batch_rows * config.seq_len}"
    length = f"train_seq_len:{config.seq_len} iterations:{config.iterations}"
    time = f"warmup_steps:{config.warmup_steps} max_wallclock_seconds:{60 * config.minutes:.3f}"
    loader = f"train_loader:dataset:{tokens.name} tokens:{len(tokens.train)}"
    return [
        f"source_sha256:{source_digest()}",
        f"python_version:{platform.python_version()} numpy_version:{numpy.__version__}",
        f"pytorch_version:{torch.__version__}",
        f"device:{world}x {device}",
        f"world_size:{world}",
        f"seed:{config.seed}",
        f"{loader} overlap with validation: {overlap}",
        f"val_loader:tokens:{len(tokens.val)} bytes:{tokens.val_bytes}",
        f"{batch} {length} {time}",
    ]


def source_digest() -> str:
    """SHA-256, in hex, of the names and texts of the package's modules, in all folders."""
    digest = hashlib.sha256()
    for name, text in sorted(_modules(resources.files("pgolf_codec"), "")):
        digest.update(f"{name}\0".encode() + text)
    return digest.hexdigest()


def _modules(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for place in folder.iterdir():
        if place.is_dir():
            yield from _modules(place, f"{prefix}{place.name}/")
        elif place.name.endswith(".py"):
            yield prefix + place.name, place.read_bytes()


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
