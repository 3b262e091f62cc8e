"""Tables of speed: streams, the engine and its limits, users' figures, GPUs, portability."""

from __future__ import annotations

from typing import Any

from pages.markdown import markdown


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
    ways = {"parts_us_per_token": "known text", "lock_step_us_per_token": "16 streams in lock step"}
    spent = [
        [name, shown, *(f"{m[way][part]:.1f}" for part in names), f"{sum(m[way].values()):.1f}"]
        for name, m in models.items()
        for way, shown in ways.items()
    ]
    return (
        f"One core, `{results['instruction_set']}`; best figures, shares are medians.\n\n"
        f"{markdown(head, shares)}\nMicroseconds a token, by part, best of several:\n\n"
        f"{markdown(['model', 'of', *names, 'all'], spent)}"
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


def portability(results: dict[str, Any]) -> str:
    """Environments by the archives that they gave."""
    files = {file["name"]: file["n_bytes"] for file in results["files"]}
    rows = [
        [
            row["name"],
            f"{row['python']} {row['machine']}" if row["python"] else "",
            *(
                f"`{row['archives'][name][:8]}`" if name in row["archives"] else ""
                for name in files
            ),
            row["outcome"] + (f": {row['why']}" if row["why"] else ""),
        ]
        for row in results["environments"]
    ]
    sizes = [f"`{name}` {size:,} bytes" for name, size in files.items() if "," not in name]
    return (
        f"{', '.join(sizes)}; SHA-256 of the archives, the first 8 digits; *plain* is without "
        f"adaptation.\n\n{markdown(['environment', 'Python', *files, 'archives'], rows)}"
    )
