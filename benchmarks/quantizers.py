"""Bytes against loss: every quantizer and entropy coder on one trained model.

    python benchmarks/quantizers.py CHECKPOINT TOKENS [--moments FILE] [--only NAME ...]
                                            [--coders NAME ...]
    python benchmarks/quantizers.py --draw PICTURE

writes benchmarks/results/quantizers.json, one row as soon as it is measured; rows that are
there for the same checkpoint are kept, so that a run can be stopped and continued, and a
row whose coders are not all there gets the missing ones.

TOKENS is a folder with train.bin (calibration: its first rows) and val.bin (held out, and
only measured on).  Loss is of the float graph with the quantized matrices; bytes are
those of the matrices, their scales included, and each stream is decoded again.  Loss
against bytes is a curve; ``at`` is the quantizer's knob.  The picture (.svg, .png) is drawn
from the JSON alone.
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
    quantize,
)
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant import coders
from pgolf_codec.quant.coders import trellis as trellis_coder
from pgolf_codec.quant.gptq import Curvature
from pgolf_codec.quant.moments import Moments, load_moments, save_moments
from pgolf_codec.quant.quantizers import Gptq, Quantizer, Waterfilled, curvatures
from pgolf_codec.quant.rounding import Quantized

RESULT = Path(__file__).resolve().parent / "results" / "quantizers.json"
ROW, BATCH = 1024, 4
HELD_OUT_ROWS, CALIBRATION_ROWS, COUNTED_IDS = 16, 64, 1 << 25
COSTS = (5e-9, 1e-8, 2.5e-9)
"""Nats a token for the rounding of one weight."""
CLIPS = (1.0, 0.7, 0.5)
"""Of 12.85 standard deviations at int6 (embedding: 20 at int8)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One quantizer at one setting."""

    name: str
    at: float
    quantizer: Quantizer
    n_states: int = 1
    columns: tuple[str, ...] = ()
    """Matrices that may have a scale a column beside that of the row."""
    balanced: bool = False
    coders: tuple[str, ...] = ("trellis",)

    @property
    def runs(self) -> bool:
        """Whether it is one of those that the integer engine is measured with."""
        wanted = (("GPTQ int6", 1.0), ("trellis 32", COSTS[0]), ("waterfilled", COSTS[0]))
        return (self.name, self.at) in wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("tokens", type=Path, nargs="?")
    parser.add_argument("--draw", type=Path, help="a picture of what was measured before")
    parser.add_argument("--moments", type=Path, help="where to keep the calibration")
    parser.add_argument("--only", nargs="*", help="quantizers to measure, by name")
    parser.add_argument("--coders", nargs="*", default=[], help="more of quant/coders to try")
    arguments = parser.parse_args()
    if arguments.draw is not None:
        draw(json.loads(RESULT.read_bytes()), arguments.draw)
        return
    if arguments.tokens is None:
        parser.error("CHECKPOINT and TOKENS are needed")
    torch.set_num_threads(1)
    model = merge_scales(load_checkpoint(arguments.checkpoint, ROW))
    moments = moments_of(model, arguments.tokens, arguments.moments)
    text = Text.of(arguments.tokens / "val.bin")
    checkpoint = digest(arguments.checkpoint)
    results = stored(checkpoint)
    if not results:
        float_bits = text.bits(model)
        results = {
            "checkpoint": checkpoint,
            "n_weights": sum(w.size for w in matrices(model).values()),
            "calibration_tokens": CALIBRATION_ROWS * ROW,
            "held_out_tokens": int(text.ids.numel()),
            "held_out_bytes": text.n_bytes,
            "float_bpb": float_bits / text.n_bytes,
            "rows": [],
        }
    there = {"trellis", *coders.coder_names()}
    even_model, even_moments = balance(model, moments)
    for case in cases(moments, even_moments):
        names = [name for name in (*case.coders, *arguments.coders) if name in there]
        if arguments.only and case.name not in arguments.only:
            continue
        row = next((r for r in results["rows"] if (r["quantizer"], r["at"]) == key(case)), None)
        done = row is not None and all(name in row["coded_bytes"] for name in names)
        if not done or (case.runs and row is not None and "integer_bpb" not in row):
            graph = even_model if case.balanced else model
            new = measured(
                case,
                graph,
                even_moments if case.balanced else moments,
                text,
                calibration_rows(arguments.tokens / "train.bin", 16, ROW),
                names,
                row,
            )
            if row is not None:
                results["rows"].remove(row)
            results["rows"].append(new)
            RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(new), flush=True)


def draw(results: dict[str, Any], path: Path) -> None:
    """Loss against bytes: a line for each quantizer and coder that has points."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "quantizers"  # the same bytes again
    from matplotlib import pyplot

    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in results["rows"]:
        for coder, n_bytes in row["coded_bytes"].items():
            point = (n_bytes / 1e6, row["bpb"] - results["float_bpb"])
            lines.setdefault((row["quantizer"], coder), []).append(point)
    figure, axes = pyplot.subplots(figsize=(8, 5.5))
    styles = {"brotli": ":", "trellis": "-"}
    names = list(dict.fromkeys(name for name, _ in lines))
    for (name, coder), points in lines.items():
        axes.plot(
            *zip(*sorted(points), strict=True), styles.get(coder, "--"),
            color=f"C{names.index(name) % 10}", marker="sov^D"[names.index(name) // 10],
            markersize=4, label=f"{name} · {coder}",
        )  # fmt: skip
    axes.set_xlabel("million bytes, all matrices with their scales")
    axes.set_ylabel("bpb more than in floating point")
    axes.set_yscale("log")
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def key(case: Case) -> tuple[str, float]:
    return case.name, case.at


def cases(moments: Mapping[str, Moments], balanced: Mapping[str, Moments]) -> list[Case]:
    plain, even = curvatures(moments), curvatures(balanced)
    bits = {"matrix": 6, "embedding": 8}
    everywhere = tuple(name for name in moments if name != "bigram")

    def clipped(name: str, part: float, known: Mapping[str, Curvature] | None) -> Case:
        clips = {"matrix": 12.85 * part, "embedding": 20 * part}
        return Case(name, part, Gptq(bits, clips, known), coders=("brotli", "trellis"))

    def searched(n: int) -> Case:
        quantizer = Gptq({"matrix": n, "embedding": n + 1}, None)
        return Case("clip search", n, quantizer, coders=("brotli", "trellis"))

    def filled(name: str, cost: float, n_states: int = 1, columns: tuple[str, ...] = ()) -> Case:
        quantizer = Waterfilled(even, cost, n_states)
        return Case(name, cost, quantizer, n_states, columns, balanced=True)

    middle = COSTS[0]
    unpriced = Waterfilled(even, middle, 1, price_of_bits=0.0)
    out = [clipped("GPTQ int6", part, plain) for part in CLIPS]
    for cost in COSTS:
        out.append(filled("trellis 32", cost, 32))
        out.append(filled("waterfilled", cost))
        out.append(filled("trellis 32, embedding columns", cost, 32, ("embedding",)))
    out += [filled("trellis 8", middle, 8), filled("trellis 256", middle, 256)]
    out += [
        Case("trellis 8, not balanced", middle, Waterfilled(plain, middle, 8), 8),
        Case("trellis 8, all columns", middle, Waterfilled(plain, middle, 8), 8, everywhere),
        Case("waterfilled, λ 0", middle, unpriced, balanced=True),
    ]
    out += [clipped("nearest int6", part, None) for part in CLIPS[:2]]
    return out + [searched(6), searched(5)]


def measured(
    case: Case,
    model: Transformer,
    moments: Mapping[str, Moments],
    text: Text,
    rows: torch.Tensor,
    names: list[str],
    old: dict[str, Any] | None,
) -> dict[str, Any]:
    """A row of the results."""
    floats, start = matrices(model), time.process_time()
    found = {}
    for name, w in floats.items():
        scales = "columns" if name == "bigram" else "both" if name in case.columns else "rows"
        found[name] = case.quantizer(name, w, scales)  # type: ignore[arg-type]
    seconds = time.process_time() - start
    sizes = {} if old is None else dict(old["coded_bytes"])
    for coder in names:
        if coder == "trellis":
            sizes[coder] = sum(trellis_bytes(q, case.n_states) for q in found.values())
        elif coder not in sizes:
            sizes[coder] = sum(generic_bytes(q, case.n_states, coder) for q in found.values())
    told = sum(moments[n].loss(w - found[n].floats()) for n, w in floats.items())
    bits = old["bpb"] * text.n_bytes if old else text.bits(with_matrices(model, found))
    row = {
        "quantizer": case.name,
        "at": case.at,
        "bpb": bits / text.n_bytes,
        "told_nats_a_token": told,
        "scale_bytes": sum(scale_bytes(q) for q in found.values()),
        "coded_bytes": sizes,
        "quantize_cpu_seconds": seconds,
    }
    if case.runs:
        row["integer_bpb"] = text.integer_bits(quantize(model, rows, case.quantizer)) / text.n_bytes
    return row


def scale_bytes(q: Quantized) -> int:
    return sum(s.nbytes for s in (q.row_scales, q.column_scales) if s is not None)


def generic_bytes(q: Quantized, n_states: int, coder: str) -> int:
    """Scales and a stream; of a trellis, that of its indices: the coder sees no states."""
    values = q.values >> 1 if n_states > 1 else q.values
    stream = coders.encode(values, coder)
    if not np.array_equal(coders.decode(stream), values):
        raise SystemExit(f"{coder}: what was decoded is not what was encoded")
    return len(stream) + scale_bytes(q)


def trellis_bytes(q: Quantized, n_states: int) -> int:
    """Scales and a stream of the adaptive coder that knows the states."""
    x = q.values.astype(np.int8)
    payload = trellis_coder.encode(x, n_states)
    if not np.array_equal(trellis_coder.decode(payload, x.shape), x):
        raise SystemExit("trellis: what was decoded is not what was encoded")
    return len(payload) + scale_bytes(q)


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
