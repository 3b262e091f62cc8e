"""Tables of weights: coders, the trellis, quantizers, artifacts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from pages.markdown import markdown


def weight_coders(results: dict[str, Any]) -> str:
    """Bytes of each coder on each set, and what our own take of the others' bytes."""
    body = ""
    for name, found in results.items():
        sums = {total["coder"]: total for total in found["totals"]}
        bars = {"brotli": sums["brotli"]["coded_bytes"]} | found["others"]
        head = ["coder", "bytes", "bits", "/ order 0", *(f"/ {bar}" for bar in bars)]
        head += ["Mparam/s there", "back"]
        rows = []
        for coder, total in sums.items():
            ratios = [f"{total['coded_bytes'] / size:.4f}" for size in bars.values()]
            speeds = [f"{total[f'{way}_mparam_per_second']:.1f}" for way in ("encode", "decode")]
            rows.append(
                [
                    f"`{coder}`",
                    f"{total['coded_bytes']:,}",
                    f"{total['bits_per_param']:.4f}",
                    f"{total['ratio_to_entropy']:.4f}",
                    *ratios,
                    *speeds,
                ]
            )
        for other, size in found["others"].items():
            bits = 8 * size / found["n_params"]
            shares = [f"{size / bar:.4f}" for bar in bars.values()]
            entropy = sums["raw"]["entropy_bits_per_param"]
            rows.append(
                [other, f"{size:,}", f"{bits:.4f}", f"{bits / entropy:.4f}", *shares, "", ""]
            )
        true = found["true_entropy_bits"]
        limit = f"; entropy given the true scales: {true:.4f} bits" if true else ""
        size = f"{found['n_tensors']} tensors, {found['n_params']:,} parameters"
        body += f"**{name}**: {size}{limit}.\n\n"
        body += markdown(head, rows) + "\n"
    return body + "Whole streams; processor time of one thread, on a machine in use.\n"


def trellis(results: dict[str, Any]) -> str:
    """Gap to the rate-distortion bound, one row a number of states."""
    rows = [
        [
            "uniform"
            if not row["priced"]
            else "1"
            if row["n_states"] == 1
            else f"{row['n_states']}",
            f"{row['bits']:.3f}",
            f"{row['gap_bits']:.3f}",
            f"{row['search_ns']:.0f}",
        ]
        for row in results["rows"]
    ]
    return (
        f"{results['n_weights']:,} independent normal weights, one tensor; bits are bytes of the "
        "whole coded tensor.\n\n"
        + markdown(["states", "bits a weight", "gap, bits", "search, ns a weight"], rows)
    )


def quantizers(results: dict[str, Any]) -> str:
    """Loss of every quantizer and its fewest bytes, and bytes by coder at the baseline's loss."""
    base, found = results["float_bpb"], results["rows"]
    rows = []
    for row in sorted(found, key=lambda row: (row["quantizer"], row["at"])):
        n_bytes, coder = min((n, name) for name, n in row["coded_bytes"].items())
        engine = f"{row['integer_bpb'] - base:+.4f}" if "integer_bpb" in row else ""
        name = f"{row['quantizer']}, {row['at']:g}"
        rows.append([name, f"{row['bpb'] - base:+.4f}", engine, f"{n_bytes:,}", coder])
    baseline = next(r for r in found if (r["quantizer"], r["at"]) == ("GPTQ int6", 1.0))
    n_baseline, loss = baseline["coded_bytes"]["brotli"], baseline["bpb"] - base
    coders = sorted({name for row in found for name in row["coded_bytes"]})
    at_loss = {
        name: {coder: bytes_at(results, name, coder, loss) for coder in coders}
        for name in dict.fromkeys(row["quantizer"] for row in found)
    }
    fewest = {name: min(filter(None, sizes.values()), default=0) for name, sizes in at_loss.items()}
    names = sorted((name for name in fewest if fewest[name]), key=lambda name: fewest[name])
    coders.sort(key=lambda coder: min(at_loss[name][coder] or math.inf for name in names))

    def change(n_bytes: float | None) -> str:
        return f"{100 * (n_bytes / n_baseline - 1):+.1f}%" if n_bytes else ""

    return (
        f"{results['n_weights']:,} weights; float model {base:.4f} bpb on "
        f"{results['held_out_tokens']:,} held-out tokens; loss is what quantizing adds.\n\n"
        + markdown(
            ["quantizer, knob", "loss, bpb", "by the integer engine", "fewest bytes", "coder"], rows
        )
        + f"\nAt the loss of GPTQ int6 ({loss:+.4f} bpb), between two measured points (bytes over "
        f"the log of the loss), against the {n_baseline:,} bytes of GPTQ int6 with brotli:\n\n"
        + markdown(
            ["coder", *names],
            [
                *([coder, *(change(at_loss[name][coder]) for name in names)] for coder in coders),
                ["fewest bytes", *(f"{fewest[name]:,.0f}" for name in names)],
            ],
        )
    )


def artifacts(results: dict[str, Any]) -> str:
    """Bytes of artifacts by coder, and of archives made with them."""
    texts, first = results["raw_bytes"], results["rows"][0]
    coders = list(first["file_bytes"])
    rows = [
        [
            row["quantizer"],
            *(f"{row['file_bytes'][coder]:,}" for coder in coders),
            f"{100 * (row['file_bytes']['auto'] / first['file_bytes']['ans'] - 1):+.1f}%",
            *(f"{8 * row['archive_bytes'][text] / n:.4f}" for text, n in texts.items()),
        ]
        for row in results["rows"]
    ]
    against = "auto against the first's ans"
    head = ["quantizer, knob", *coders, against, *(f"bpb, {text}" for text in texts)]
    sizes = ", ".join(f"{n:,} bytes of {text}" for text, n in texts.items())
    return f"Whole files, each archive decompressed again: {sizes}.\n\n{markdown(head, rows)}"


def ternary(results: dict[str, Any]) -> str:
    """What few levels in the layers cost: bytes of the artifact, bits of a text."""
    n_raw = results["raw_bytes"]
    rows = [
        [
            row["layers"],
            row["others"],
            f"{100 * row['zeros']:.1f}%",
            f"{row['file_bytes']:,}",
            f"{8 * row['layer_bytes'] / row['layer_weights']:.4f}",
            f"{row['entropy_bits'] / n_raw:.4f}",
            f"{8 * row['archive_bytes'] / n_raw:.4f}",
        ]
        for row in results["rows"]
    ]
    head = ["layers", "other matrices", "zeros", "artifact, bytes", "bits a weight of the layers"]
    head += ["bpb by the engine", "bpb of the archive"]
    return (
        f"{n_raw:,} bytes of {results['text']}; all rounded to nearest, coder `auto`; the archive "
        f"adapts, and takes another coder where that is better.\n\n{markdown(head, rows)}"
    )


def bytes_at(results: dict[str, Any], name: str, coder: str, loss: float) -> float | None:
    """Bytes of a quantizer at a loss in bpb, if that lies between two of its points."""
    points = sorted(
        (math.log(row["bpb"] - results["float_bpb"]), row["coded_bytes"][coder])
        for row in results["rows"]
        if row["quantizer"] == name and coder in row["coded_bytes"]
    )
    for (a, bytes_a), (b, bytes_b) in pairwise(points):
        if a <= math.log(loss) <= b:
            return float(bytes_a + (bytes_b - bytes_a) * (math.log(loss) - a) / (b - a))
    return None
