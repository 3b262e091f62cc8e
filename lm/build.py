"""From a recipe and corpora to a model artifact, in stages that can be resumed.

::

    python -m pgolf_codec.lm.build RECIPE.toml --corpora DIR --work DIR -o MODEL.pglm

    tokenizer   corpora            -> WORK/tokenizer.bin
    tokens      corpora, tokenizer -> WORK/tokens/train.bin, val.bin, val.json
    train       tokens             -> WORK/run/checkpoint.pt, metrics.jsonl
    export      checkpoint         -> WORK/draft.pglm
    measure     draft, held-out    -> MODEL.pglm, WORK/receipt.json

A stage leaves a stamp: the digest of what went in, and of each file that came out.
It is skipped as long as both still hold, so the same command continues a build that
was stopped, training included, and repeats what a change of the recipe touches.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pgolf_codec.errors import ConfigError, PgolfError
from pgolf_codec.files import replacing
from pgolf_codec.lm.config import (
    CADENCE,
    DataConfig,
    ModelConfig,
    TrainConfig,
    load_data_config,
    load_recipe,
)
from pgolf_codec.lm.export_config import ExportConfig, load_export_config
from pgolf_codec.lm.training.stopping import SIGNALS, Stopped

Inputs = dict[str, Any]
"""All that a stage's outputs depend on, as JSON values."""

_STDERR = 2
_PATIENCE_SECONDS = 60
"""How long training may take to stop when it is told to."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a build; ``run`` makes ``outputs`` of ``inputs``."""

    name: str
    inputs: Callable[[], Inputs]
    outputs: tuple[Path, ...]
    run: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Build:
    """What to make, of what, and where."""

    recipe: Path
    corpora: Path
    work: Path
    output: Path
    ranks: int | None = None
    """Processes that train, of one thread each; None is as the verb ``train`` has it."""
    workers: int = 1
    """Processes that tokenize."""
    compile: bool = True

    def __post_init__(self) -> None:
        if self.workers < 1 or (self.ranks is not None and self.ranks < 1):
            raise ConfigError("there must be a rank and a worker at least")

    def __call__(self, until: str = "measure") -> None:
        """Run every stage up to ``until`` that is not done.

        Raises :class:`ConfigError` or :class:`FormatError` for impossible recipes and
        corpora, :class:`OverlapError` if training documents are in the held-out text,
        :class:`VerificationError` if the model does not give the held-out
        text back, and :class:`subprocess.CalledProcessError` if training fails.
        """
        stages = self.stages()
        for stage in stages[: [stage.name for stage in stages].index(until) + 1]:
            run_stage(stage, self.work / "stamps" / f"{stage.name}.json")

    def stages(self) -> list[Stage]:
        """Read the recipe; the stages in their order."""
        model, train = load_recipe(self.recipe)
        data = load_data_config(self.recipe)
        export = load_export_config(self.recipe)
        return [
            Stage(
                "tokenizer",
                lambda: {"data": self._text(data), "vocab_size": model.vocab_size},
                (self.tokenizer,),
                lambda: self.make_tokenizer(data, model.vocab_size),
            ),
            Stage(
                "tokens",
                lambda: {
                    "data": self._text(data),
                    "tokenizer": digest(self.tokenizer),
                    "seq_len": train.seq_len,
                },
                tuple(self.tokens / name for name in ("train.bin", "val.bin", "val.json")),
                lambda: self.make_tokens(data, train.seq_len),
            ),
            Stage(
                "train",
                lambda: self._training(model, train),
                (self.run / "checkpoint.pt",),
                lambda: self.train(model, train),
            ),
            Stage(
                "export",
                lambda: {
                    "name": self.recipe.stem,
                    "checkpoint": digest(self.run / "checkpoint.pt"),
                    "calibration": digest(self.tokens / "train.bin"),
                    "tokenizer": digest(self.tokenizer),
                    "seq_len": train.seq_len,
                    "export": dataclasses.asdict(export),
                },
                (self.draft,),
                lambda: self.export(export, train.seq_len),
            ),
            Stage(
                "measure",
                lambda: {
                    "draft": digest(self.draft),
                    "held_out": digest(self.corpora / data.held_out),
                },
                (self.output, self.work / "receipt.json"),
                lambda: self.measure(data, export),
            ),
        ]

    def make_tokenizer(self, data: DataConfig, vocab_size: int) -> None:
        from pgolf_codec.codec.tokenizer import train_tokenizer
        from pgolf_codec.lm.data.corpora import tokenizer_sample

        # As one text: a separator at the end of a text would be lost on sentencepiece.
        sample = "".join(tokenizer_sample(self.corpora, data))
        tokenizer = train_tokenizer([sample], vocab_size=vocab_size, kind=data.tokenizer)
        log(f"{tokenizer.n_symbols:,} symbols from {len(sample):,} characters")
        with replacing(self.tokenizer, overwrite=True) as file:
            file.write(tokenizer.to_bytes())

    def make_tokens(self, data: DataConfig, seq_len: int) -> None:
        from pgolf_codec.codec.tokenizer import Tokenizer
        from pgolf_codec.lm.data.corpora import write_held_out_tokens, write_training_tokens

        tokenizer = Tokenizer.from_bytes(self.tokenizer.read_bytes())
        self.tokens.mkdir(exist_ok=True)
        write_held_out_tokens(self.corpora / data.held_out, tokenizer, seq_len, self.tokens)
        write_training_tokens(
            self.corpora,
            data,
            tokenizer,
            self.tokens / "train.bin",
            held_out=(self.corpora / data.held_out).read_bytes(),
            workers=self.workers,
            log=log,
        )

    def train(self, model: ModelConfig, train: TrainConfig) -> None:
        self._claim_run(model, train)
        command = [sys.executable, "-m", "pgolf_codec", "train", "--config", str(self.recipe)]
        command += ["--tokens", str(self.tokens), "--out", str(self.run)]
        command += [] if self.ranks is None else ["--ranks", str(self.ranks)]
        command += [] if self.compile else ["--no-compile"]
        run_to_the_end(command, {**os.environ, "OMP_NUM_THREADS": "1"})

    def export(self, config: ExportConfig, seq_len: int) -> None:
        from pgolf_codec.codec.tokenizer import Tokenizer
        from pgolf_codec.lm.artifact import pack
        from pgolf_codec.lm.conversion.export import load_checkpoint

        blob = pack(
            load_checkpoint(self.run / "checkpoint.pt", seq_len),
            self.tokens / "train.bin",
            Tokenizer.from_bytes(self.tokenizer.read_bytes()),
            config,
            name=self.recipe.stem,
            seq_len=seq_len,
            keep=self.work / "export.search",
            log=log,
        )
        with replacing(self.draft, overwrite=True) as file:
            file.write(blob)
        log(f"{len(blob):,} bytes")

    def measure(self, data: DataConfig, export: ExportConfig) -> None:
        """Weigh the held-out text, record its bpb in the artifact, have that one verified."""
        import pgolf_codec
        from pgolf_codec.quant.artifact import dump_artifact, load_artifact

        draft = load_artifact(self.draft)
        text = (self.corpora / data.held_out).read_bytes()
        archive = pgolf_codec.compress(text, model=draft)
        bpb = round(8 * len(archive) / len(text), 4)
        blob = dump_artifact(
            draft.artifact.weights, draft.tokenizer, name=draft.name, bpb=bpb, coder=export.coder
        )
        receipt = pgolf_codec.verify(text, model=load_artifact(blob))
        with replacing(self.work / "receipt.json", overwrite=True) as file:
            file.write(receipt.to_json().encode())
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.output, overwrite=True) as file:
            file.write(blob)
        log(f"{self.output}: {len(blob):,} bytes, {bpb} bpb on {data.held_out}")

    @property
    def tokenizer(self) -> Path:
        return self.work / "tokenizer.bin"

    @property
    def tokens(self) -> Path:
        return self.work / "tokens"

    @property
    def run(self) -> Path:
        return self.work / "run"

    @property
    def draft(self) -> Path:
        return self.work / "draft.pglm"

    def _text(self, data: DataConfig) -> Inputs:
        """The data table, and the names and sizes of the files that it leads to."""
        from pgolf_codec.lm.data.corpora import corpus_files

        paths = [file.path for file in corpus_files(self.corpora, data)]
        paths.append(self.corpora / data.held_out)
        if not paths[-1].is_file():
            raise ConfigError(f"data config: held_out: {paths[-1]} is not a file")
        sizes = {path.relative_to(self.corpora).as_posix(): path.stat().st_size for path in paths}
        return {"config": dataclasses.asdict(data), "files": sizes}

    def _training(self, model: ModelConfig, train: TrainConfig) -> Inputs:
        return {
            "model": model.to_dict(),
            "train": dataclasses.asdict(train),
            "tokens": {name: digest(self.tokens / name) for name in ("train.bin", "val.bin")},
        }

    def _claim_run(self, model: ModelConfig, train: TrainConfig) -> None:
        """Make the run's folder this recipe's; a checkpoint of another one is not continued."""
        inputs = self._training(model, train)
        claim, mine = self.run / "inputs.json", json.dumps(inputs, indent=1)
        self.run.mkdir(exist_ok=True)
        there = (self.run / "checkpoint.pt").exists()
        if there and _without_cadence(_read(claim)) != _without_cadence(mine):
            raise ConfigError(
                f"{self.run} holds a checkpoint of another recipe or other tokens; "
                "remove it, or take another work folder"
            )
        with replacing(claim, overwrite=True) as file:
            file.write(mine.encode())


def run_stage(stage: Stage, stamp: Path) -> None:
    """Run a stage unless its stamp says that the outputs there are those of its inputs."""
    started = time.monotonic()
    inputs = hashlib.sha256(json.dumps(stage.inputs(), sort_keys=True).encode()).hexdigest()
    if _read(stamp) == _stamp(stage, inputs):
        log(f"{stage.name}: done before")
        return
    log(f"{stage.name} ...")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stage.run()
    with replacing(stamp, overwrite=True) as file:
        file.write((_stamp(stage, inputs) or "").encode())
    log(f"{stage.name}: {time.monotonic() - started:.0f} s")


def run_to_the_end(command: list[str], environment: dict[str, str]) -> None:
    """Run a command with its output on stderr; it is told to stop when this process is."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        process_group=0,  # a terminal's Ctrl-C would come twice, and cut off what the first began
    )
    try:
        status = process.wait()
    except BaseException as error:
        process.send_signal(error.args[0] if isinstance(error, Stopped) else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
        raise
    if status:
        raise subprocess.CalledProcessError(status, command)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stop(number: int, frame: FrameType | None = None) -> None:
    """A signal's handler."""
    raise Stopped(number)


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _stamp(stage: Stage, inputs: str) -> str | None:
    """What the stamp of a finished stage says; None if an output is missing."""
    if not all(path.is_file() for path in stage.outputs):
        return None
    outputs = {path.name: digest(path) for path in stage.outputs}
    return json.dumps({"inputs": inputs, "outputs": outputs}, indent=1)


def _without_cadence(claim: str) -> Inputs:
    """What a claim says of a run, but for what may change; nothing if it can't be read."""
    try:
        inputs: Inputs = json.loads(claim)
        inputs["train"] = {k: v for k, v in inputs["train"].items() if k not in CADENCE}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return inputs


def _read(path: Path) -> str:
    """The text of a file; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def main() -> int:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m pgolf_codec.lm.build",
        description=summary,
        epilog=details.replace("::\n\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpora", type=Path, required=True, help="what [data] is relative to")
    parser.add_argument("--work", type=Path, required=True, help="for all that is made on the way")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the artifact")
    parser.add_argument("--ranks", type=int, help="training processes; with GPUs, one for each")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="tokenizing processes"
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    stages = ("tokenizer", "tokens", "train", "export", "measure")
    parser.add_argument("--until", choices=stages, default=stages[-1], help="the last stage to run")
    arguments = vars(parser.parse_args())
    until = arguments.pop("until")
    return exit_status(parser.prog, arguments["work"], lambda: Build(**arguments)(until))


def exit_status(name: str, work: Path, run: Callable[[], None]) -> int:
    """Of ``run``, which goes on from ``work`` when it was stopped; says why it ended."""
    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        run()
    except (PgolfError, OSError, subprocess.CalledProcessError) as error:
        log(f"{name}: {error}")
        return 1
    except Stopped as stopped:
        log(f"stopped; the same command goes on from {work}")
        return 128 + int(stopped.args[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
