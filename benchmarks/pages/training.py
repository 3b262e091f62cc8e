"""Tables of training: recipes and scaling."""

from __future__ import annotations

from typing import Any

from pages.markdown import markdown


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


def case_operators(results: dict[str, Any]) -> str:
    """The same text with and without, seed by seed."""
    runs = {(run["seed"], run["case"]): run for run in results["runs"]}
    rows = []
    for seed in sorted({seed for seed, case in runs if case}):
        bpb = [runs[seed, case]["text_bpb"] for case in (False, True)]
        rows.append([str(seed), *(f"{value:.4f}" for value in bpb), f"{bpb[0] - bpb[1]:.4f}"])
    plain, case = runs[1, False], runs[1, True]
    return (
        markdown(["seed", "without", "with case operators", "gain"], rows)
        + f"\nBits per byte of `{results['text']}`, {plain['n_bytes']:,} bytes, by `nano`'s graph "
        f"after {plain['n_tokens']:,} tokens: {plain['bytes_seen']:,} bytes of "
        f"`{results['train']}` without and {case['bytes_seen']:,} with operators. Vocabularies of "
        f"4,096 were trained on {plain['sample_bytes']:,} other bytes of it.\n"
    )


def scaling(results: dict[str, Any]) -> str:
    """Runs, the curve through them, what it says of runs left out, and of 8 H100."""
    head = ["model", "weights used", "tokens", "nats a token", "bpb", "fit, nats", "CPU ms a step"]
    out = markdown(
        head,
        [
            [
                run["size"],
                f"{run['n_matrix_params'] + run['n_head_params']:,}",
                f"{run['n_tokens']:,}",
                f"{run['val_loss']:.3f}",
                f"{run['val_bpb']:.3f}",
                f"{run['residual']:+.3f}",
                f"{run['cpu_ms_per_step']:.0f}" if "cpu_ms_per_step" in run else "",
            ]
            for run in results["runs"]
        ],
    )
    out += f"\nThe curve through all, {formula(results['loss_fit'])}, is off by "
    out += f"{results['loss_fit']['rms']:.3f} nats (root mean square).\n"
    if fit := results["time_fit"]:
        out += (
            f"A token costs {fit['fixed_ns'] / 1000:.0f} µs of a core, and its operations at "
            f"{fit['gflops_per_s']:.0f} GFLOP/s.\n"
        )
    out += "\n" + markdown(
        ["curve through all runs but", "it", "says of these, nats"],
        [
            [
                left["without"],
                formula(left["fit"]),
                ", ".join(
                    f"{nats:+.3f} at {run['n_tokens'] / 1e6:.1f}M tokens"
                    for nats, run in zip(left["off"], left["runs"], strict=True)
                ),
            ]
            for left in results["left_out"]
        ],
    )
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
    curves = ["all", *(left["without"] for left in results["left_out"])]
    names = ["bpb by all runs", *(f"without {name}" for name in curves[1:])]
    head = ["preset, 10 minutes", "MFU assumed", "ms a step", "steps", "tokens", *names]
    rows = [
        [
            f"`{row['preset']}`",
            f"{row[way]['mfu']:.1%}",
            f"{row[way]['ms_per_step']}",
            f"{row[way]['n_steps']:,}",
            f"{row[way]['n_tokens'] / 1e9:.2f} G",
            *(f"{row[way]['bpb'][name]:.3f}" for name in curves),
        ]
        for row in results["extrapolated"]
        for way in ("slow", "fast")
    ]
    return out + "\n" + markdown(head, rows)


def formula(fit: dict[str, float]) -> str:
    """A fit, as it is written."""
    return (
        f"{fit['E']:.2f} + {fit['A']:.3g} / N^{fit['alpha']:.2f} + "
        f"{fit['B']:.3g} / D^{fit['beta']:.3f} - {fit['P']:.3f} with a pair table"
    )
