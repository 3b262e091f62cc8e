"""Tables of what comes out: files, tokenizers, the price of integers, adaptation, the referee."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pages.markdown import markdown
from pages.results import stored


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


def integers(results: dict[str, Any]) -> str:
    """One sentence."""
    return (
        f"Model `{results['model']}` on {results['n_tokens']:,} tokens of `{results['text']}`, "
        f"each row of 1,024 from an empty past: {results['float_bpb']:.4f} bpb in float32, "
        f"{results['integer_bpb']:.4f} from the artifact's integers: "
        f"{results['price_bpb']:+.4f} bpb for rounded weights and integer arithmetic together.\n"
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
    measured = stored("gpu")
    is_gpu = measured["machine"]["cuda"] is not None
    ours = []
    for model in measured["models"]:
        for size, n in challenge["symbols"].items():
            there, back = _gpu_seconds(model, n, assumed, is_gpu)
            row = [model["name"], f"V = {int(size):,}"]
            row += [f"{seconds:.3g}" for gpus in (1, 8) for seconds in (there / gpus, back / gpus)]
            ours.append([*row, "yes" if back <= limit else "no"])
    speeds = stored("speed")["models"]
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
