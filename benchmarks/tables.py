"""Draws the tables of the documents from benchmarks/results, and from nothing else.

python benchmarks/tables.py [--check]     with --check: fails if a table is an old one

A table stands between two marks, ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Table:
    """One generated table: where it stands, and how it is drawn from NAME.json."""

    name: str
    document: str
    body: Callable[[Any], str]

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: written by benchmarks/tables.py from benchmarks/results -->\n"

    @property
    def end(self) -> str:
        return f"<!-- end of {self.name} -->\n"

    def draw(self) -> str:
        """Markdown of the stored result."""
        path = RESULTS / f"{self.name}.json"
        return self.body(json.loads(path.read_bytes())) if path.exists() else "No results yet.\n"


def main(arguments: list[str]) -> int:
    stale = []
    for table in TABLES:
        path = ROOT / table.document
        old = path.read_text(encoding="utf-8")
        new = replace(old, table, table.draw())
        if arguments == ["--check"]:
            stale += [f"{table.document}: {table.name}"] if old != new else []
        else:
            path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{name} is not what benchmarks/results says")
    return int(bool(stale))


def replace(text: str, table: Table, body: str) -> str:
    """``text`` with ``body`` between the table's marks."""
    pattern = re.compile(re.escape(table.begin) + ".*?" + re.escape(table.end), re.DOTALL)
    text, n_found = pattern.subn(lambda _: table.begin + body + table.end, text)
    if n_found != 1:
        raise SystemExit(f"{table.document} has {n_found} places for {table.name}, not one")
    return text


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def texts(results: dict[str, Any]) -> str:
    """Bits per byte of real files, one column a compressor, and our speed."""
    texts, ours = results["texts"], results["texts"][0]["ours"]
    peers = [row["name"] for row in texts[0]["peers"]]
    rows = []
    for text in texts:
        n, receipt = text["n_bytes"], text["ours"]
        scores = [8 * row["n_bytes"] / n for row in text["peers"]] + [receipt["bpb_file"]]
        marks = ["**" if score == min(scores) else "" for score in scores]
        rows.append(
            [
                text["name"],
                f"{n:,}",
                *(f"{mark}{score:.3f}{mark}" for mark, score in zip(marks, scores, strict=True)),
                f"{n / 1000 / receipt['encode_seconds']:.0f}",
                f"{n / 1000 / receipt['decode_seconds']:.0f}",
            ]
        )
    return (
        f"Bits per byte of files on disk, each decoded again by another process; {len(texts)} "
        f"texts, {results['machine']['threads']} threads, model `{ours['model_name']}` "
        f"({ours['model_bytes']:,} bytes, fingerprint `{ours['model_fingerprint'][:16]}`).\n\n"
        + markdown(
            ["text", "bytes", *peers, "pgolf-codec", "there, kB/s", "back, kB/s"],
            rows,
        )
    )


def streams(results: dict[str, Any]) -> str:
    """The curve of lock-step streams, one row a number of streams and size."""
    best = {
        size: min(row["bpb"] for row in results["rows"] if row["raw_bytes"] == size)
        for size in {row["raw_bytes"] for row in results["rows"]}
    }
    rows = [
        [
            f"{row['raw_bytes']:,}",
            str(row["streams"]),
            f"{row['file_bytes']:,}",
            f"{row['bpb']:.4f}",
            f"+{100 * (row['bpb'] / best[row['raw_bytes']] - 1):.2f}%",
            f"{row['compress_kb_s']:.1f}",
            f"{row['decompress_kb_s']:.1f}",
        ]
        for row in results["rows"]
    ]
    head = ["bytes", "streams", "archive", "bpb", "price", "compress kB/s", "decompress kB/s"]
    return (
        f"Prefixes of `{results['text']}`, model `{results['model']}`, {results['threads']} "
        f"threads, one run.\n\n{markdown(head, rows)}"
    )


def engine(results: dict[str, Any]) -> str:
    """Shares of the machine's limits, then where a token's time goes."""
    models = results["models"]
    shares = [
        [
            name,
            f"{m['peak_gflops']['best']:.0f}",
            f"{m['prefill_gflops']['best']:.0f}",
            f"{m['prefill_of_peak']:.0%}",
            f"{m['memory_gb_s']['best']:.1f}",
            f"{m['step_gb_s']['best']:.1f}",
            f"{m['step_of_memory']:.0%}",
        ]
        for name, m in models.items()
    ]
    head = [
        "model",
        "peak, GOP/s",
        "prefill, GOP/s",
        "share",
        "memory, GB/s",
        "step, GB/s",
        "share",
    ]
    names = list(next(iter(models.values()))["parts_us_per_token"])
    spent = [
        [name, *(f"{m['parts_us_per_token'][part]:.1f}" for part in names)]
        + [f"{sum(m['parts_us_per_token'].values()):.1f}"]
        for name, m in models.items()
    ]
    return (
        f"One core, `{results['instruction_set']}`; best figures, shares are medians.\n\n"
        f"{markdown(head, shares)}\nMicroseconds a token of known text, by part, best of "
        f"several:\n\n{markdown(['model', *names, 'all'], spent)}"
    )


def speed(results: dict[str, Any]) -> str:
    """Whole processes: speed, memory, start."""
    ways = ("compress", "decompress")
    rows = [
        [name, f"{m['raw_bytes']:,}", str(m["runs"])]
        + [
            shown
            for way in ways
            for shown in (
                f"{m[way]['kb_s']:.0f} ({m[way]['best_kb_s']:.0f})",
                f"{m[way]['peak_mb']:.0f}",
            )
        ]
        for name, m in results["models"].items()
    ]
    columns = [column for way in ways for column in (f"{way}, kB/s", "memory, MB")]
    start, xz = results["start"], results["xz_kb_s"]
    return (
        f"`{results['text']}`, {results['threads']} threads, `{results['instruction_set']}`, "
        f"whole processes, in turns, medians (and best) of as many runs; xz -9e among them "
        f"made {xz['median']:.0f} kB/s ({xz['best']:.0f}).\n\n"
        f"{markdown(['model', 'bytes', 'runs', *columns], rows)}\n"
        f"Compressing 1,000 bytes takes {start['compress_1kb_seconds']:.2f} s in all, the very "
        f"first time {start['first_use_seconds']:.0f} s; `--help` {start['help_seconds']:.2f} s.\n"
    )


def integers(results: dict[str, Any]) -> str:
    """One sentence."""
    return (
        f"Model `{results['model']}` on {results['n_tokens']:,} tokens of `{results['text']}`, "
        f"each row of 1,024 from an empty past: {results['float_bpb']:.4f} bpb in float32, "
        f"{results['integer_bpb']:.4f} from the artifact's integers: "
        f"{results['price_bpb']:+.4f} bpb for rounded weights and integer arithmetic together.\n"
    )


def tokenizers(results: dict[str, Any]) -> str:
    """Vocabularies side by side."""
    rows = [
        [
            row["name"],
            f"{row['symbols']:,}",
            "yes" if row["lossless"] else "no",
            f"{row['tokens']:,}",
            f"{row['bytes_per_token']:.3f}",
            f"{row['trigram_bpb']:.4f}",
        ]
        for row in results["rows"]
    ]
    return (
        f"`{results['text']}`, {results['text_bytes']:,} bytes; vocabularies of ours trained on "
        f"{results['sample_bytes']:,} bytes of `{results['train']}`, the trigram on "
        f"{results['train_bytes']:,}.\n\n"
        + markdown(["", "symbols", "lossless", "tokens", "bytes a token", "trigram bpb"], rows)
    )


def gpu(results: dict[str, Any]) -> str:
    """Equality by hash, symbols a second by number of lanes, whole files."""
    machine = results["machine"]
    equal = [
        [
            model["name"],
            f"{model['equality']['raw_bytes']:,}",
            f"`{model['equality']['cpu_sha256'][:16]}`",
            f"`{model['equality']['device_sha256'][:16]}`",
            "yes" if model["equality"]["cpu_reads_device"] else "no",
            "yes" if model["equality"]["device_reads_cpu"] else "no",
        ]
        for model in results["models"]
    ]
    steps = [
        [
            model["name"],
            str(row["lanes"]),
            f"{row['encode_symbols_s']:,.0f}",
            f"{row['decode_symbols_s']:,.0f}",
        ]
        for model in results["models"]
        for row in model["steps"]
    ]
    files = [
        [
            model["name"],
            *(f"{model['archives'][key]:,}" for key in ("raw_bytes", "file_bytes")),
            *(f"{model['archives'][f'{way}_mb_s']:.3f}" for way in ("compress", "decompress")),
        ]
        for model in results["models"]
        if model["archives"]
    ]
    head = [
        "model",
        "bytes",
        "archive by numba",
        "by torch",
        "numba reads torch",
        "torch reads numba",
    ]
    body = (
        f"Device: {machine['device']}, torch {machine['torch']}"
        f"{', a reduced run' if machine['reduced'] else ''}; products in "
        f"{'int8' if machine['int8_products'] else 'float64'}.\n\n{markdown(head, equal)}\n"
        + markdown(["model", "lanes", "symbols/s, encoding", "symbols/s, decoding"], steps)
    )
    if files:
        head = ["model", "bytes", "archive", "compress MB/s", "decompress MB/s"]
        body += f"\n{markdown(head, files)}"
    return body


def referee(results: dict[str, Any]) -> str:
    """A plan for the whole validation set on 1 and 8 GPUs, from what was measured."""
    challenge, assumed = results["challenge"], results["assumed"]
    costs, limit = results["microseconds_a_symbol"], challenge["seconds"]
    own = [
        [
            f"V = {int(size):,}",
            f"{n / 1e6:.1f}M",
            *(f"{costs[size][way]:.0f}" for way in ("encode", "decode")),
            *(f"{n * max(costs[size].values()) / 1e6 / ranks / 60:.0f}" for ranks in (1, 8)),
            f"{left:.0f}"
            if (left := 1e6 * limit * 8 / n - max(costs[size].values())) > 0
            else "none",
        ]
        for size, n in challenge["symbols"].items()
    ]
    head = ["", "symbols", "µs there", "µs back", "minutes, 1 rank", "8 ranks"]
    measured = json.loads((RESULTS / "gpu.json").read_bytes())
    is_gpu = measured["machine"]["cuda"] is not None
    ours = []
    for model in measured["models"]:
        for size, n in challenge["symbols"].items():
            there, back = _gpu_seconds(model, n, assumed, is_gpu)
            row = [model["name"], f"V = {int(size):,}"]
            row += [f"{seconds:.3g}" for gpus in (1, 8) for seconds in (there / gpus, back / gpus)]
            ours.append([*row, "yes" if back <= limit else "no"])
    speeds = json.loads((RESULTS / "speed.json").read_bytes())["models"]
    needed = challenge["bytes"] / limit / 1000
    cpus = ", ".join(
        f"`{name}` {m['decompress']['kb_s']:.0f} kB/s, {needed / m['decompress']['kb_s']:.1f} "
        "such machines"
        for name, m in speeds.items()
    )
    source = (
        f"measured on {measured['machine']['device']}"
        if is_gpu
        else (
            f"reckoned for {assumed['gpu']}, for none was measured: int8 "
            f"{assumed['int8_ops_s'] / 1e12:,.0f} TOPS of which {assumed['compute_share']:.0%} are "
            f"reached, two products of each weight, memory {assumed['memory_bytes_s'] / 1e12:g} "
            f"TB/s of which {assumed['memory_share']:.0%}, {1e6 * assumed['step_seconds']:.0f} µs "
            f"between steps, {assumed['lanes']:,} lanes"
        )
    )
    return (
        f"{challenge['bytes']:,} bytes in {challenge['documents']:,} documents, "
        f"{limit // 60} minutes a direction. The referee's own work, processor time measured on "
        "one thread of a machine in use; the last column is what it leaves the predictor for a "
        f"symbol on 8 ranks, in µs:\n\n{markdown([*head, 'left'], own)}\n"
        f"Our models, seconds, {source}:\n\n"
        + markdown(
            ["model", "symbols", "there, 1 GPU", "back", "there, 8 GPUs", "back", "fits 1"], ours
        )
        + f"\nOn processors, {needed:.0f} kB/s are needed; measured on 2 threads: {cpus}.\n"
    )


def _gpu_seconds(
    model: dict[str, Any], n_symbols: int, assumed: dict[str, Any], is_gpu: bool
) -> tuple[float, float]:
    """Encoding and decoding all symbols on one GPU.

    Known text is bound by products.  A step of all lanes reads every weight, the keys and
    values of every lane, and multiplies; then the host has to answer.
    """
    if is_gpu:
        rows = model["steps"]
        best = [max(row[f"{way}_symbols_s"] for row in rows) for way in ("encode", "decode")]
        return n_symbols / best[0], n_symbols / best[1]
    ops_s = assumed["int8_ops_s"] * assumed["compute_share"]
    bytes_s = assumed["memory_bytes_s"] * assumed["memory_share"]
    weights = model["n_parameters"]
    rings = (
        model["lane_bytes"] * assumed["ring_bytes_a_place"] / assumed["ring_bytes_a_place_on_cpu"]
    )
    most = int((assumed["memory_bytes"] - 2 * weights) * 0.8 / rings)
    lanes = min(assumed["lanes"], most)
    products = 4 * weights / ops_s
    a_step = weights / bytes_s + assumed["step_seconds"]
    return n_symbols * products, n_symbols * (products + rings / bytes_s + a_step / lanes)


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


def portability(results: dict[str, Any]) -> str:
    """Environments by the archives that they gave."""
    names = [file["name"] for file in results["files"]]
    rows = [
        [
            row["name"],
            f"{row['python']} {row['machine']}" if row["python"] else "",
            *(
                f"`{row['archives'][name][:12]}`" if name in row["archives"] else ""
                for name in names
            ),
            row["outcome"] + (f": {row['why']}" if row["why"] else ""),
        ]
        for row in results["environments"]
    ]
    sizes = ", ".join(f"`{file['name']}` {file['n_bytes']:,} bytes" for file in results["files"])
    return f"{sizes}; SHA-256 of the archives, the first 12 digits.\n\n" + markdown(
        ["environment", "Python", *names, "archives"], rows
    )


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


def recipes(results: dict[str, Any]) -> str:
    """Ours and the baseline's, seed by seed; then what each switch is worth."""
    runs = results["runs"]

    def bpb(name: str) -> float | None:
        return runs[name]["val_bpb"] if name in runs else None

    def number(value: float | None, form: str = ".4f") -> str:
        return "" if value is None else format(value, form)

    head = ["seed", "ours", "baseline", "gain", "ours at the baseline's tokens", "gain"]
    rows, gains = [], []
    for seed in sorted({run["seed"] for run in runs.values()}):
        ours, theirs = bpb(f"ours, seed {seed}"), bpb(f"baseline, seed {seed}")
        same = bpb(f"ours, seed {seed}, baseline's tokens")
        by_time = None if ours is None or theirs is None else theirs - ours
        by_tokens = None if same is None or theirs is None else theirs - same
        gains += [] if by_time is None else [by_time]
        rows.append(
            [
                str(seed),
                *(number(v) for v in (ours, theirs, by_time, same, by_tokens)),
            ]
        )
    out = markdown(head, rows)
    first = runs["ours, seed 1"]
    out += f"\nBits per byte on the first {results['val_rows']} rows of 1,024 tokens of the "
    out += f"held-out text, in bfloat16, after {first['cpu_seconds']:.0f} CPU seconds of "
    out += f"{results['machine']}: {first['n_tokens']:,} tokens of ours"
    if (theirs_run := runs.get("baseline, seed 1")) is not None:
        out += f", {theirs_run['n_tokens']:,} of the baseline's"
    out += ".\n"
    same = runs.get("ours, equal tokens")
    if same is not None:
        switches = [run for name, run in runs.items() if name.endswith(", equal tokens")]
        out += f"\nEach after {same['n_tokens']:,} tokens, seed {same['seed']}:\n\n" + markdown(
            ["", "bpb", "worse by", "CPU seconds"],
            [
                [
                    run["kind"] if run is same else f"ours, but {run['kind']}",
                    f"{run['val_bpb']:.4f}",
                    f"{run['val_bpb'] - same['val_bpb']:+.4f}",
                    f"{run['cpu_seconds']:.0f}",
                ]
                for run in switches
            ],
        )
    return out


def scaling(results: dict[str, Any]) -> str:
    """Runs, the curves through them, and what these say of 8 H100."""
    head = ["model", "weights used", "tokens", "nats a token", "bpb", "CPU ms a step"]
    out = markdown(
        head,
        [
            [
                run["size"],
                f"{run['n_matrix_params'] + run['n_head_params']:,}",
                f"{run['n_tokens']:,}",
                f"{run['val_loss']:.3f}",
                f"{run['val_bpb']:.3f}",
                f"{run['cpu_ms_per_step']:.0f}",
            ]
            for run in results["runs"]
        ],
    )
    if fit := results.get("loss_fit"):
        out += (
            f"\nloss = {fit['E']:.3f} + {fit['A']:.3g} / N^{fit['alpha']:.2f} + "
            f"{fit['B']:.3g} / D^{fit['beta']:.2f}, off by {fit['rms']:.3f} nats (root mean "
            "square) on the runs above.\n"
        )
    if fit := results.get("time_fit"):
        out += (
            f"A token costs {fit['fixed_ns'] / 1000:.0f} µs of a core, and its operations at "
            f"{fit['gflops_per_s']:.0f} GFLOP/s.\n"
        )
    if not (found := results.get("extrapolated")):
        return out
    out += "\n" + markdown(
        ["published log, 8 H100", "ms a step", "steps", "bpb before packing", "MFU"],
        [
            [
                f"`{r['preset']}`",
                f"{r['ms_per_step']}",
                f"{r['n_steps']:,}",
                f"{r['val_bpb']}",
                f"{r['mfu']:.1%}",
            ]
            for r in results["records"]
        ],
    )
    head = ["preset, 10 minutes", "MFU assumed", "ms a step", "steps", "tokens", "fitted nats"]
    return (
        out
        + "\n"
        + markdown(
            head,
            [
                [
                    f"`{row['preset']}`",
                    f"{row[way]['mfu']:.1%}",
                    f"{row[way]['ms_per_step']}",
                    f"{row[way]['n_steps']:,}",
                    f"{row[way]['n_tokens'] / 1e9:.2f} G",
                    str(row[way].get("fitted_loss", "")),
                ]
                for row in found
                for way in ("slow", "fast")
            ],
        )
    )


def adaptation(results: dict[str, Any]) -> str:
    """What learning from the text gives: in the format, and in float at test time."""
    out = ""
    if exact := results.get("format"):
        rows = []
        for row in exact["rows"]:
            plain, adapted, kilobytes = row["plain"], row["adapted"], row["n_bytes"] / 1000
            rows.append(
                [
                    row["text"],
                    f"{plain['bpb']:.4f}",
                    f"{adapted['bpb']:.4f}",
                    f"{100 * (adapted['bpb'] / plain['bpb'] - 1):+.1f}%",
                    *(
                        f"{1000 * kind[way] / kilobytes:.0f}"
                        for way in ("encode_seconds", "decode_seconds")
                        for kind in (plain, adapted)
                    ),
                ]
            )
        head = ["text", "bpb plain", "adapted", "", "ms/kB to compress", "adapted"]
        head += ["to decompress", "adapted"]
        out += (
            f"In the format: the first {exact['rows'][0]['n_bytes']:,} bytes of each text, model "
            f"`{exact['model']}`, whole archives, CPU time of one thread.\n\n"
            f"{markdown(head, rows)}"
        )
    if tuned := results.get("float"):
        none = {row["text"]: row["bpb"] for row in tuned["rows"] if row["variant"] == "nothing"}
        rows = [
            [
                f"{row['text']}: {row['variant']}",
                f"{row['learning_rate']:g}",
                f"{row['bpb']:.4f}",
                f"{row['bpb'] - none[row['text']]:+.4f}",
                f"{row['milliseconds_a_symbol']:.2f}",
            ]
            for row in tuned["rows"]
        ]
        head = ["what learns", "rate", "bpb", "gain", "ms a symbol"]
        out += (
            f"{out and chr(10)}In float, at test time: the first {tuned['rows'][0]['n_bytes']:,} "
            f"bytes, blocks of {tuned['block']} symbols behind {tuned['context']}, one step a "
            f"block, CPU time of one thread.\n\n{markdown(head, rows)}"
        )
    if (found := results.get("documents")) and found["rows"]:
        out += f"{out and chr(10)}{by_documents(found)}"
    return out


def by_documents(results: dict[str, Any]) -> str:
    """Reset against carried: bpb and speed of each way to learn, text by text."""
    out = ""
    for text, rows in groupby(results["rows"], key=lambda row: row["text"]):
        lines, none = [], 0.0
        for row in rows:
            if row["carried"] is None:
                none = row["bpb"]
            after = "a document" if row["after"] is None else f"{row['after']} symbols"
            if row["what"].startswith("integers"):
                after = "a symbol"
            lines.append(
                [
                    row["what"].removeprefix("integers: ").replace("stage", "stage of the format"),
                    "integers" if row["what"].startswith("integers") else "float",
                    "" if row["carried"] is None else after,
                    {None: "", False: "reset", True: "carried"}[row["carried"]],
                    f"{row['learning_rate']:g}" if row["learning_rate"] else "",
                    f"{row['bpb']:.4f}",
                    "" if row["carried"] is None else f"{row['bpb'] - none:+.4f}",
                    f"{row['milliseconds_a_symbol']:.2f}",
                ]
            )
        head = ["what learns", "by", "after", "from document to document", "rate", "bpb"]
        about = f"{row['n_documents']} documents, {row['n_bytes']:,} bytes"
        table = markdown([*head, "gain", "ms a symbol"], lines)
        out += f"{out and chr(10)}{text}, {about}:\n\n{table}"
    return out


TABLES = (
    Table("adaptation", "docs/ADAPTATION.md", adaptation),
    Table("text", "README.md", texts),
    Table("streams", "docs/STREAMS.md", streams),
    Table("engine", "docs/SPEED.md", engine),
    Table("speed", "docs/SPEED.md", speed),
    Table("integers", "docs/NUMERICS.md", integers),
    Table("tokenizers", "docs/DATA.md", tokenizers),
    Table("gpu", "docs/GPU.md", gpu),
    Table("referee", "docs/REFEREE.md", referee),
    Table("coders", "docs/WEIGHTS.md", weight_coders),
    Table("trellis", "docs/QUANTIZERS.md", trellis),
    Table("quantizers", "docs/QUANTIZERS.md", quantizers),
    Table("artifacts", "docs/QUANTIZERS.md", artifacts),
    Table("portability", "docs/PORTABILITY.md", portability),
    Table("recipes", "docs/TRAINING.md", recipes),
    Table("scaling", "docs/SCALING.md", scaling),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
