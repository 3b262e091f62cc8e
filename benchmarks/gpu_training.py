"""One GPU: baseline and golf-1gpu for the same minutes, then the large model, packed and verified.

    python benchmarks/gpu_training.py --tokens data --text TEXT --work DIR [--large-minutes 60]
    python benchmarks/gpu_training.py ... --device cpu --reduced       toy models on any machine

``--tokens`` are data sets of ``data fineweb`` or ``data build``, one for each vocabulary, or the
folder that has them all; ``TEXT`` is held-out text, in none of them.  The same command goes on
where it was stopped, also in the middle of a run.  A run on a GPU writes
benchmarks/results/gpu_training.json, one that is reduced, or on a CPU, DIR/gpu_training.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pgolf_codec.errors import ConfigError, PgolfError
from pgolf_codec.files import replacing
from pgolf_codec.lm.build import Stage, digest, exit_status, log, run_stage, run_to_the_end
from pgolf_codec.lm.presets import Preset, load_preset, reduced

RESULT = Path(__file__).with_name("results") / "gpu_training.json"
COMPARED = ("baseline", "golf-1gpu")
LARGE = "large"
MICRO_TOKENS = 65_536
"""Of one forward pass: what one of eight GPUs has of the baseline's batch."""
SLACK_SECONDS = 1800
"""For compiling and validating, beyond the minutes of training."""
REDUCED_STEPS = 24


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: what, on what, for how long, and where."""

    name: str
    recipe: str
    """A preset's name, or a file."""
    preset: Preset
    tokens: Path
    minutes: float
    work: Path
    compiled: bool

    @property
    def out(self) -> Path:
        return self.work / self.name

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def command(self) -> list[str]:
        micro_rows = max(1, MICRO_TOKENS // self.preset.train.seq_len)
        return [
            *("train", "--config", self.recipe, "--tokens", str(self.tokens)),
            *("--out", str(self.out), "--minutes", str(self.minutes), "--ranks", "1"),
            *("--set", f"micro_rows={micro_rows}", "--set", "eval_seconds=1e9"),
            *([] if self.compiled else ["--no-compile"]),
        ]

    def report(self) -> dict[str, Any]:
        """What its metrics say."""
        from pgolf_codec.lm.training.run_log import read_metrics

        rows, train = read_metrics(self.out), self.preset.train
        last = rows[-1]
        return {
            "recipe": Path(self.recipe).stem,
            "minutes": self.minutes,
            "val_bpb": round(last["val_bpb"], 5),
            "n_params": next(row["params"] for row in rows if "params" in row),
            "n_steps": last["step"],
            "n_tokens": last["step"] * train.batch_rows * train.seq_len,
            "step_ms": round(1000 * last["seconds"] / last["step"], 2),
            "mfu": statistics.median(row["mfu"] for row in rows if "mfu" in row),
        }


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGALRM, out_of_time)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return exit_status("gpu_training", options.work, lambda: measure(options))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--text", type=Path, required=True, help="held-out text, to be verified")
    parser.add_argument("--work", type=Path, required=True, help="for all that is made on the way")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each run compared")
    parser.add_argument("--large-minutes", type=float, default=60.0, help="of the large model")
    parser.add_argument("--large", default="golf-1gpu", metavar="NAME", help="its preset")
    parser.add_argument("--pack-minutes", type=float, default=120.0, help="limit; verifying's too")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--reduced", action="store_true", help="as little as shows that it works")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """All stages that are not done, then the result.

    Raises :class:`ConfigError` if there is no GPU or tokens do not fit, :class:`TimeoutError`
    and :class:`subprocess.CalledProcessError` with the command that failed.
    """
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no GPU here; --device cpu --reduced shows that it works")
    if not options.text.is_file():
        raise ConfigError(f"--text: {options.text} is not a file")
    options.work.mkdir(parents=True, exist_ok=True)
    runs = [planned(name, name, options.minutes, options) for name in COMPARED]
    runs.append(planned(LARGE, options.large, options.large_minutes, options))
    stages, commands = planned_stages(runs, options)
    for stage in stages:
        run_stage(stage, options.work / "stamps" / f"{stage.name}.json")
    receipt = json.loads((options.work / "receipt.json").read_bytes())
    on_gpu = options.device == "cuda"
    results = {
        "device": torch.cuda.get_device_name(0) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "reduced": options.reduced,
        "runs": {run.name: run.report() for run in runs},
        "artifact_bytes": receipt["model_bytes"],
        "text_bytes": receipt["input_bytes"],
        "file_bytes": receipt["file_bytes"],
        "verified_bpb": receipt["bpb_file"],
        "verified": receipt["verified"],
        "commands": [shown(command, runs, options) for command in commands],
    }
    final = on_gpu and not options.reduced
    target = RESULT if final else options.work / RESULT.name
    with replacing(target, overwrite=True) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())
    log(f"{target}: verified {receipt['bpb_file']:.4f} bpb, {receipt['model_bytes']:,} bytes")


def planned(name: str, recipe: str, minutes: float, options: argparse.Namespace) -> Run:
    """A run on the first of the data sets that fits its vocabulary."""
    preset = load_preset(recipe)
    if options.reduced:
        tokens, n_symbols = fitting(recipe, None, options.tokens)
        preset = reduced(preset, n_symbols)
        train = dataclasses.replace(
            preset.train, iterations=REDUCED_STEPS, checkpoint_seconds=0.0, log_steps=1
        )
        preset = preset._replace(train=train)
        recipe = str(options.work / f"{name}-reduced.toml")
        with replacing(Path(recipe), overwrite=True) as file:
            file.write(toml(preset).encode())
    else:
        tokens, _ = fitting(recipe, preset.model.vocab_size, options.tokens)
    return Run(
        name=name,
        recipe=recipe,
        preset=preset,
        tokens=tokens,
        minutes=minutes,
        work=options.work,
        compiled=not options.reduced,
    )


def fitting(recipe: str, vocab_size: int | None, folders: Iterable[Path]) -> tuple[Path, int]:
    """The first data set of these symbols (None: of any), and their number."""
    from pgolf_codec.lm.data.tokenizers import tokenizer_from

    why = []
    for folder in folders:
        inner = folder / "datasets"
        for path in sorted(inner.iterdir()) if inner.is_dir() else [folder]:
            try:
                file, case = tokenizer_of(path)
            except (PgolfError, OSError) as error:
                why.append(str(error))
                continue
            n_symbols = tokenizer_from(file.read_bytes(), case=case).n_symbols
            if vocab_size in (None, n_symbols):
                return path, n_symbols
            why.append(f"{path} has {n_symbols} symbols")
    needs = "needs token shards" if vocab_size is None else f"has vocab_size {vocab_size}"
    raise ConfigError(f"{recipe} {needs}, --tokens no such data: {why}")


def tokenizer_of(tokens: Path) -> tuple[Path, bool]:
    """The file that a data set's manifest names, and whether case operators go with it."""
    from pgolf_codec.lm.data.dataset import open_dataset

    dataset = open_dataset(tokens)
    if dataset.tokenizer_file is None:
        raise ConfigError(f"{tokens}: no manifest names the tokenizer")
    return dataset.tokenizer_file, bool(dataset.case_operators)


def planned_stages(
    runs: list[Run], options: argparse.Namespace
) -> tuple[list[Stage], list[list[str]]]:
    """Trainings, packing of the last one, verifying; and their commands."""
    from pgolf_codec.lm.data.shards import split_paths

    large, work = runs[-1], options.work
    artifact, receipt = work / f"{LARGE}.pglm", work / "receipt.json"
    tokenizer, _ = tokenizer_of(large.tokens)
    pack = ["pack", str(large.checkpoint), "-o", str(artifact), "--force"]
    pack += ["--recipe", large.recipe, "--tokenizer", str(tokenizer)]
    pack += ["--calibration", str(split_paths(large.tokens, "train")[0])]
    verify = ["verify", "--model", str(artifact), "--json", str(receipt), str(options.text)]
    limit = 60 * options.pack_minutes
    stages = [
        stage(
            f"train-{run.name}", run.command, [], run.checkpoint, 60 * run.minutes + SLACK_SECONDS
        )
        for run in runs
    ]
    stages.append(stage("pack", pack, [large.checkpoint], artifact, limit))
    stages.append(stage("verify", verify, [artifact, options.text], receipt, limit))
    return stages, [*(run.command for run in runs), pack, verify]


def stage(name: str, command: list[str], inputs: list[Path], output: Path, limit: float) -> Stage:
    """A verb of pgolf-codec, told to stop after ``limit`` seconds."""

    def run() -> None:
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            run_to_the_end([sys.executable, "-m", "pgolf_codec", *command], dict(os.environ))
        except TimeoutError:
            raise TimeoutError(f"{name}: not done after {limit:.0f} s") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    made_of = lambda: {"command": command, "files": [digest(path) for path in inputs]}  # noqa: E731
    return Stage(name, made_of, (output,), run)


def out_of_time(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def shown(command: list[str], runs: list[Run], options: argparse.Namespace) -> str:
    """A command without this machine's folders."""
    line = " ".join(["pgolf-codec", *command])
    for run in runs:
        line = line.replace(str(run.tokens.parent.parent), "TOKENS")
    return line.replace(str(options.work), "WORK").replace(str(options.text), "TEXT")


def toml(preset: Preset) -> str:
    """A recipe file of it; JSON's values are TOML's."""
    tables = {
        "model": preset.model.to_dict(),
        "train": dataclasses.asdict(preset.train),
        "export": dataclasses.asdict(preset.export),
    }
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
