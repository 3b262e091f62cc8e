"""Bytes against loss: every quantizer and entropy coder on one trained model.

    python benchmarks/quantizers.py CHECKPOINT TOKENS [--moments FILE] [--keep FOLDER]
                                            [--only NAME ...] [--coders NAME ...]
    python benchmarks/quantizers.py --draw PICTURE

writes benchmarks/results/quantizers.json, one row as soon as it is measured; rows that are
there for the same checkpoint are kept, so that a run can be stopped and continued, and a
row whose coders are not all there gets the missing ones: the quick ones of all rows first.
FOLDER keeps the integers between runs.

TOKENS is a folder with train.bin (calibration: its first rows) and val.bin (held out, and
only measured on).  Loss is of the float graph with the quantized matrices; bytes are
those of the matrices, their scales included, and each stream is decoded again.  Loss
against bytes is a curve; ``at`` is the quantizer's knob.  The picture (.svg, .png) is drawn
from the JSON alone: each quantizer in the coder that needs the fewest bytes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import pgolf_codec
from pgolf_codec.lm.build import digest
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.conversion.calibration import calibrate
from pgolf_codec.lm.conversion.export import (
    balance,
    calibration_rows,
    load_checkpoint,
    matrices,
    merge_scales,
    place_of_scales,
    quantize,
)
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant import coders
from pgolf_codec.quant.coders import trellis as trellis_coder
from pgolf_codec.quant.gptq import Curvature
from pgolf_codec.quant.moments import Moments, load_moments, save_moments
from pgolf_codec.quant.quantizers import Gptq, Quantizer, Range, Waterfilled, curvatures
from pgolf_codec.quant.rounding import Quantized

RESULT = Path(__file__).resolve().parent / "results" / "quantizers.json"
ROW, BATCH = 1024, 4
HELD_OUT_ROWS, CALIBRATION_ROWS, COUNTED_IDS = 16, 64, 1 << 25
COSTS = (5e-9, 1e-8, 2.5e-9)
"""Nats a token for the rounding of one weight."""
CLIPS = (1.0, 0.7)
"""Of 12.85 standard deviations at int6 (embedding: 20 at int8)."""
SLOW = ("brotli", "lzma", "zstd")
"""Coders that are tried last: ten to twenty-five seconds a row, all others together as long."""


@dataclass(frozen=True, slots=True)
class Case:
    """One quantizer at one setting."""

    name: str
    at: float
    quantizer: Quantizer
    n_states: int = 1
    balanced: bool = False

    @property
    def runs(self) -> bool:
        """Whether it is one of those that the integer engine is measured with."""
        filled = ("trellis 32", "trellis 32, rows only", "waterfilled")
        return self.key == ("GPTQ int6", 1.0) or (self.name in filled and self.at == COSTS[0])

    @property
    def key(self) -> tuple[str, float]:
        return self.name, self.at

    @property
    def file(self) -> str:
        """For its integers."""
        return f"{self.name} {self.at:g}.npz".replace(" ", "-").replace(",", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("tokens", type=Path, nargs="?")
    parser.add_argument("--draw", type=Path, help="a picture of what was measured before")
    parser.add_argument("--moments", type=Path, help="where to keep the calibration")
    parser.add_argument("--only", nargs="*", help="quantizers to measure, by name")
    parser.add_argument("--coders", nargs="*", help="of quant/coders; otherwise all")
    parser.add_argument("--keep", type=Path, help="a folder for the integers")
    arguments = parser.parse_args()
    if arguments.draw is not None:
        draw(json.loads(RESULT.read_bytes()), arguments.draw)
        return
    if arguments.tokens is None:
        parser.error("CHECKPOINT and TOKENS are needed")
    torch.set_num_threads(1)
    bench = Bench.of(arguments.checkpoint, arguments.tokens, arguments.moments, arguments.keep)
    names = arguments.coders or sorted(coders.coder_names())
    for group in ([n for n in names if n not in SLOW], *([n] for n in SLOW if n in names)):
        for case in bench.cases:
            if not arguments.only or case.name in arguments.only:
                bench.measure(case, group)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all rows share."""

    model: Transformer
    even_model: Transformer
    moments: dict[str, Moments]
    even_moments: dict[str, Moments]
    cases: list[Case]
    text: Text
    ranges: torch.Tensor
    results: dict[str, Any]
    keep: Path | None

    @classmethod
    def of(cls, checkpoint: Path, tokens: Path, moments: Path | None, keep: Path | None) -> Bench:
        model = merge_scales(load_checkpoint(checkpoint, ROW))
        known = moments_of(model, tokens, moments)
        even_model, even = balance(model, known)
        text, facts = Text.of(tokens / "val.bin"), digest(checkpoint)
        results = stored(facts) or {
            "checkpoint": facts,
            "n_weights": sum(w.size for w in matrices(model).values()),
            "calibration_tokens": CALIBRATION_ROWS * ROW,
            "held_out_tokens": int(text.ids.numel()),
            "held_out_bytes": text.n_bytes,
            "float_bpb": text.bits(model) / text.n_bytes,
            "rows": [],
        }
        ranges = calibration_rows(tokens / "train.bin", 16, ROW)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        all_cases = cases(known, even)
        return cls(model, even_model, known, even, all_cases, text, ranges, results, keep)

    def measure(self, case: Case, names: list[str]) -> None:
        """Add to the results what is missing of these coders."""
        rows = self.results["rows"]
        row = next((r for r in rows if (r["quantizer"], r["at"]) == case.key), None)
        if row is not None and all(name in row["coded_bytes"] for name in names):
            return
        model = self.even_model if case.balanced else self.model
        found, seconds = self.integers(case, model)
        if row is None:
            row = {
                "quantizer": case.name,
                "at": case.at,
                "bpb": self.text.bits(with_matrices(model, found)) / self.text.n_bytes,
                "told_nats_a_token": self.told(case, model, found),
                "scale_bytes": sum(scale_bytes(q) for q in found.values()),
                "coded_bytes": {},
                "quantize_cpu_seconds": seconds,
            }
            if case.runs:
                weights = quantize(model, self.ranges, lambda name, w, scales: found[name])
                row["integer_bpb"] = self.text.integer_bits(weights) / self.text.n_bytes
            rows.append(row)
        for name in names:
            if name not in row["coded_bytes"]:
                row["coded_bytes"][name] = sum(
                    coded_bytes(q, case.n_states, name) for q in found.values()
                )
        RESULT.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(row), flush=True)

    def told(self, case: Case, model: Transformer, found: Mapping[str, Quantized]) -> float:
        """The loss by second moments."""
        moments = self.even_moments if case.balanced else self.moments
        return sum(moments[n].loss(w - found[n].floats()) for n, w in matrices(model).items())

    def integers(self, case: Case, model: Transformer) -> tuple[dict[str, Quantized], float]:
        """Of every matrix, and the CPU seconds that quantizing took; 0 if they were kept."""
        file = None if self.keep is None else self.keep / case.file
        if file is not None and file.exists():
            with np.load(file) as kept:
                names = [name.removesuffix(".values") for name in kept if ".values" in name]
                return {name: _quantized(kept, name) for name in names}, 0.0
        start, found = time.process_time(), {}
        for name, w in matrices(model).items():
            found[name] = case.quantizer(name, w, place_of_scales(name, model.config))
        seconds = time.process_time() - start
        if file is not None:
            arrays: dict[str, NDArray[Any]] = {}
            for name, q in found.items():
                arrays[f"{name}.values"] = q.values.astype(np.int8)
                arrays |= {f"{name}.rows": q.row_scales} if q.row_scales is not None else {}
                arrays |= {f"{name}.cols": q.column_scales} if q.column_scales is not None else {}
            np.savez(file, allow_pickle=False, **arrays)
        return found, seconds


def _quantized(kept: Mapping[str, NDArray[Any]], name: str) -> Quantized:
    values = kept[f"{name}.values"].astype(np.int32)
    return Quantized(values, kept.get(f"{name}.rows"), kept.get(f"{name}.cols"))


def draw(results: dict[str, Any], path: Path) -> None:
    """Loss against bytes: a line for each quantizer, in its best coder."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "quantizers"  # the same bytes again
    from matplotlib import pyplot

    lines: dict[str, list[tuple[float, float, str]]] = {}
    for row in results["rows"]:
        n_bytes, coder = min((n, name) for name, n in row["coded_bytes"].items())
        point = (n_bytes / 1e6, row["bpb"] - results["float_bpb"], coder)
        lines.setdefault(row["quantizer"], []).append(point)
    figure, axes = pyplot.subplots(figsize=(8, 5.5))
    for number, (name, points) in enumerate(lines.items()):
        x, y, best = zip(*sorted(points), strict=True)
        axes.plot(
            x, y, color=f"C{number}", marker="osv^D<>pX*"[number % 10], markersize=5,
            label=f"{name} · {', '.join(dict.fromkeys(best))}",
        )  # fmt: skip
    axes.set_xlabel("million bytes, all matrices with their scales")
    axes.set_ylabel("bpb more than in floating point")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def cases(moments: Mapping[str, Moments], balanced: Mapping[str, Moments]) -> list[Case]:
    plain, even = curvatures(moments), curvatures(balanced)
    bits = {"matrix": 6, "embedding": 8}

    def clipped(name: str, part: float, known: Mapping[str, Curvature] | None) -> Case:
        clips = {"matrix": 12.85 * part, "embedding": 20 * part}
        return Case(name, part, Gptq(bits, clips, known))

    def filled(name: str, cost: float, n_states: int = 1, **changes: Any) -> Case:
        return Case(name, cost, Waterfilled(even, cost, n_states, **changes), n_states, True)

    out = [clipped("GPTQ int6", part, plain) for part in CLIPS]
    for cost in COSTS:
        out.append(filled("trellis 32", cost, 32))
    for cost in COSTS[:2]:
        out.append(filled("trellis 32, rows only", cost, 32, columns=False))
        out.append(filled("waterfilled", cost))
    out += [clipped("nearest int6", part, None) for part in (0.7, 0.45)]
    for n in (6, 5):
        out.append(Case("clip search", n, Gptq({"matrix": n, "embedding": n + 1}, None)))
    for n in (6, 5):
        out.append(Case("row maximum", n, Range({"matrix": n, "embedding": n + 1})))
    for cost in COSTS[:2]:
        out.append(filled("trellis 8", cost, 8))
        out.append(filled("waterfilled, λ 0", cost, price_of_bits=0.0))
    return out


def scale_bytes(q: Quantized) -> int:
    return sum(s.nbytes for s in (q.row_scales, q.column_scales) if s is not None)


def coded_bytes(q: Quantized, n_states: int, coder: str) -> int:
    """Scales and a stream.  Of a trellis, the indices: only ``trellis`` sees the states too."""
    if coder == "trellis":
        values: NDArray[Any] = q.values.astype(np.int8)
        stream = trellis_coder.encode(values, n_states)
        again: NDArray[Any] = trellis_coder.decode(stream, values.shape)
    else:
        values = q.values >> 1 if n_states > 1 else q.values
        stream = coders.encode(values, coder)
        again = coders.decode(stream)
    if not np.array_equal(again, values):
        raise SystemExit(f"{coder}: what was decoded is not what was encoded")
    return len(stream) + scale_bytes(q)


def with_matrices(model: Transformer, found: Mapping[str, Quantized]) -> Transformer:
    """A copy of a model with merged scales that has the quantized matrices."""
    c, out = model.config, copy.deepcopy(model)
    p = dict(out.named_parameters())
    queries, keys = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    with torch.no_grad():
        for name, q in found.items():
            w = torch.from_numpy(q.floats())
            block, _, matrix = name.rpartition(".")
            if matrix == "qkv":
                parts = torch.split(w, [queries, keys, keys])
                for part, to in zip(parts, ("wq", "wk", "wv"), strict=True):
                    p[f"{block}.attention.{to}"].copy_(part)
            elif block:
                p[f"{block}.{'attention' if matrix == 'wo' else 'mlp'}.{matrix}"].copy_(w)
            else:
                p[name].copy_(w)
    return out


@dataclass(frozen=True, slots=True)
class Text:
    """Held-out rows of ids (rows, ROW)."""

    ids: torch.Tensor
    n_bytes: int

    @classmethod
    def of(cls, path: Path) -> Text:
        ids = np.fromfile(path, "<u2", count=HELD_OUT_ROWS * ROW).astype(np.int64)
        tokenizer = pgolf_codec.load_model().tokenizer
        rows = ids.reshape(-1, ROW)
        n_bytes = sum(len(tokenizer.decode(row.astype(np.int32))) for row in rows)
        return cls(torch.from_numpy(rows), n_bytes)

    def bits(self, model: Transformer) -> float:
        """Entropy of the rows by the float graph, each row from an empty past."""
        nats = 0.0
        with torch.no_grad():
            for y in torch.split(self.ids, BATCH):
                x = torch.cat((torch.full((len(y), 1), BOS_ID), y[:, :-1]), dim=1)
                logits = model.logits(model(x)).flatten(0, 1)
                nats += float(F.cross_entropy(logits, y.flatten(), reduction="sum"))
        return nats / math.log(2)

    def integer_bits(self, weights: IntegerWeights) -> float:
        """The same by the integer engine, of its frequencies."""
        ids = self.ids.numpy().astype(np.int32)
        _, freq = Engine(weights, bytes(32)).session(len(ids)).intervals(ids)
        return float(np.sum(24.0 - np.log2(freq.astype(np.float64))))


def moments_of(model: Transformer, tokens: Path, keep: Path | None) -> dict[str, Moments]:
    if keep is not None and keep.exists():
        return load_moments(keep)
    counted: NDArray[Any] = np.fromfile(tokens / "train.bin", "<u2", count=COUNTED_IDS)
    moments = calibrate(
        model, calibration_rows(tokens / "train.bin", CALIBRATION_ROWS, ROW), counted
    )
    if keep is not None:
        save_moments(keep, moments)
    return moments


def stored(checkpoint: str) -> dict[str, Any]:
    """The results so far, if they are of this checkpoint."""
    if not RESULT.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULT.read_bytes())
    return results if results["checkpoint"] == checkpoint else {}


if __name__ == "__main__":
    main()
