"""The folder of a submission: logs and program of several seeds, weighed and compared.

::

    README.md  submission.json  train_gpt.py  train_seed42.log ...

Nothing is taken on trust that can be looked up: the artifact's bytes are those of the file,
the program's those of the program, and a log that states another size, or the digest
of another program, is refused.  Code and artifact together may have 16,000,000 bytes.
A record must also have run as the rules say and be better than the standing score
(:mod:`pgolf_codec.eval.significance`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pgolf_codec.errors import RefusedError, SubmissionError
from pgolf_codec.eval.logs import RunLog, read_log
from pgolf_codec.eval.significance import Verdict, mean, variance

MAX_BYTES = 16_000_000
MAX_TRAIN_MS = 601_000
"""Of a record: ten minutes, and the step that was under way when they ended."""
RECORD_RANKS = 8
RECORD_DEVICE = "H100"

LOGS = ("log.txt", "train.log")
ARTIFACT = "model.pglm"

Track = Literal["record", "non-record"]
TRACKS: dict[Track, str] = {"record": "track_10min_16mb", "non-record": "track_non_record_16mb"}
"""And the names of the challenge's folders for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """What no log says."""

    name: str
    author: str
    github_id: str
    blurb: str
    date: str
    track: Track
    hardware: str | None = None
    """None is what the logs say."""


@dataclass(frozen=True, slots=True)
class Run:
    """One seed."""

    log: RunLog
    seed: int
    model_bytes: int
    """Of the artifact: of the file if it is there, else as the log states."""
    weighed: bool
    """Whether the artifact was there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """Checked runs, their program and what follows from them."""

    details: Details
    runs: tuple[Run, ...]
    program: bytes
    verdict: Verdict | None

    @property
    def val_loss(self) -> float:
        """Mean over the seeds, nats a token."""
        return mean([run.log.score.val_loss for run in self.runs])

    @property
    def val_bpb(self) -> float:
        return mean([run.log.score.val_bpb for run in self.runs])

    @property
    def val_bpb_std(self) -> float | None:
        """Of the sample; None of one seed."""
        scores = [run.log.score.val_bpb for run in self.runs]
        return variance(scores) ** 0.5 if len(scores) > 1 else None

    @property
    def bytes_total(self) -> int:
        """Program and the largest artifact."""
        return len(self.program) + max(run.model_bytes for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``submission.json``."""
        d = self.details
        return {
            "author": d.author,
            "github_id": d.github_id,
            "name": d.name,
            "blurb": d.blurb,
            "date": d.date,
            "track": TRACKS[d.track],
            "val_loss": self.val_loss,
            "val_bpb": self.val_bpb,
            "val_bpb_std": self.val_bpb_std,
            "bytes_total": self.bytes_total,
            "bytes_code": len(self.program),
            "seeds": [run.seed for run in self.runs],
            "seed_results": {str(run.seed): _seed_result(run) for run in self.runs},
            "hardware": self.hardware,
            "pytorch_version": self._stated("pytorch_version"),
            "code_sha256": hashlib.sha256(self.program).hexdigest(),
            "significance": None
            if self.verdict is None
            else asdict(self.verdict) | {"significant": self.verdict.significant},
        }

    @property
    def hardware(self) -> str | None:
        return self.details.hardware or self._stated("device")

    def _stated(self, what: str) -> str | None:
        """What the logs say, with one voice or several."""
        said = dict.fromkeys(getattr(run.log, what) for run in self.runs)
        return ", ".join(text for text in said if text is not None) or None


def read_run(path: Path, label: str | None = None) -> Run:
    """A folder of ``lm.golf`` with its log and artifact, or a log alone, of anybody.

    Raises :class:`FormatError` for what is no log, and :class:`SubmissionError` if the
    seed or the artifact's size is not known, or not the one that the log states.
    """
    folder = path if path.is_dir() else None
    if folder is not None:
        logs = [folder / name for name in LOGS if (folder / name).is_file()]
        if not logs:
            raise SubmissionError(f"{folder}: there is none of {', '.join(LOGS)}")
        path = logs[0]
    log = read_log(path, label)
    if log.seed is None:
        raise SubmissionError(f"{path}: neither the log nor its name says the seed")
    artifact = folder / ARTIFACT if folder is not None else None
    if artifact is None or not artifact.is_file():
        if log.model_bytes is None:
            raise SubmissionError(f"{path}: no artifact is there, and the log states no size of it")
        return Run(log, log.seed, log.model_bytes, weighed=False)
    n_bytes = artifact.stat().st_size
    if log.model_bytes not in (None, n_bytes):
        raise SubmissionError(f"{artifact}: {n_bytes} bytes, its log states {log.model_bytes}")
    return Run(log, log.seed, n_bytes, weighed=True)


def make_submission(
    runs: Sequence[Run], program: bytes, details: Details, verdict: Verdict | None
) -> Submission:
    """Check that these runs may be submitted together.

    Raises :class:`SubmissionError` for the first reason why not: more bytes than
    allowed, by how many; another program; a seed twice; for a record, whatever its
    rules forbid.
    """
    if not runs:
        raise SubmissionError("there are no runs")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise SubmissionError(f"seeds {seeds}: one is there twice")
    ordered = tuple(sorted(runs, key=lambda run: run.seed))
    submission = Submission(details=details, runs=ordered, program=program, verdict=verdict)
    for run in ordered:
        check_program(run, program)
    if (over := submission.bytes_total - MAX_BYTES) > 0:
        largest = max(run.model_bytes for run in runs)
        raise SubmissionError(
            f"{over} bytes too many: code {len(program)} + artifact {largest} = "
            f"{submission.bytes_total}, the limit is {MAX_BYTES}"
        )
    if details.track == "record":
        check_record(submission)
    return submission


def check_program(run: Run, program: bytes) -> None:
    """Raise :class:`SubmissionError` if the log speaks of another program."""
    digest = hashlib.sha256(program).hexdigest()
    if run.log.code_sha256 not in (None, digest):
        raise SubmissionError(f"{run.log.path}: another program ran: sha256 {run.log.code_sha256}")
    if run.log.code_bytes not in (None, len(program)):
        raise SubmissionError(
            f"{run.log.path}: a program of {run.log.code_bytes} bytes ran, not of {len(program)}"
        )


def check_record(submission: Submission) -> None:
    """Raise :class:`SubmissionError` for the first rule of records that is not kept."""
    for run in submission.runs:
        log = run.log
        if log.train_ms is None:
            raise SubmissionError(f"{log.path}: the log does not say how long training took")
        if log.train_ms > MAX_TRAIN_MS:
            raise SubmissionError(f"{log.path}: {log.train_ms / 1000:.1f} s of training, not 600")
        if log.world_size not in (None, RECORD_RANKS):
            raise SubmissionError(f"{log.path}: {log.world_size} ranks, not {RECORD_RANKS}")
    hardware = submission.hardware
    if hardware is not None and RECORD_DEVICE not in hardware:
        raise SubmissionError(f"a record runs on {RECORD_RANKS}x{RECORD_DEVICE}, not on {hardware}")
    if submission.verdict is None:
        raise SubmissionError("a record must be compared with the standing score")
    if not submission.verdict.significant:
        raise SubmissionError(f"not a record:\n{submission.verdict.describe()}".rstrip())


def write_submission(submission: Submission, folder: Path) -> None:
    """Write the folder as a whole; raises :class:`RefusedError` if it exists."""
    if folder.exists():
        raise RefusedError(folder, "already exists; not overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".pgolf-codec-{secrets.token_hex(8)}.tmp")
    partial.mkdir()
    try:
        text = json.dumps(submission.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (partial / "submission.json").write_text(text, encoding="utf-8")
        (partial / "README.md").write_text(readme(submission), encoding="utf-8")
        (partial / "train_gpt.py").write_bytes(submission.program)
        for run in submission.runs:
            shutil.copyfile(run.log.path, partial / f"train_seed{run.seed}.log")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def readme(submission: Submission) -> str:
    """What was run and measured, from the logs; the ideas are for the author to add."""
    d, runs = submission.details, submission.runs
    std = submission.val_bpb_std
    spread = "" if std is None else f" (standard deviation {std:.4f}, {len(runs)} seeds)"
    largest = max(run.model_bytes for run in runs)
    torch = submission.to_dict()["pytorch_version"]
    torchrun = f"torchrun --standalone --nproc_per_node={runs[0].log.world_size or 1}"
    lines = [
        f"# {d.name}",
        "",
        f"**val_bpb {submission.val_bpb:.4f}**{spread}, {submission.bytes_total:,} bytes",
        "",
        d.blurb,
        "",
        "| seed | steps | training s | val_loss | val_bpb | artifact bytes | code + artifact |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_row(run, len(submission.program)) for run in runs),
        "",
        f"The score is the line `{runs[0].log.score.label}` of each log.",
        "",
        "## Bytes",
        "",
        f"Code {len(submission.program):,} (`train_gpt.py`) + artifact {largest:,} "
        f"= {submission.bytes_total:,}; {MAX_BYTES - submission.bytes_total:,} are left. "
        + (
            "Each artifact was weighed on disk."
            if all(run.weighed for run in runs)
            else "Sizes of artifacts are those that the logs state."
        ),
        "",
        "## Run",
        "",
        f"Hardware: {submission.hardware or 'not stated'}; PyTorch {torch or 'not stated'}.",
        "",
        f"    RUN_ID=seed{runs[0].seed} SEED={runs[0].seed} {torchrun} train_gpt.py",
    ]
    if submission.verdict is not None:
        lines += ["", "## Against the standing score", ""]
        lines += [f"    {line}" for line in submission.verdict.describe().splitlines()]
    return "\n".join(lines) + "\n"


def _row(run: Run, n_code: int) -> str:
    log = run.log
    seconds = "" if log.train_ms is None else f"{log.train_ms / 1000:.1f}"
    steps = "" if log.steps is None else f"{log.steps:,}"
    return (
        f"| {run.seed} | {steps} | {seconds} | {log.score.val_loss:.6f} | "
        f"{log.score.val_bpb:.6f} | {run.model_bytes:,} | {run.model_bytes + n_code:,} |"
    )


def _seed_result(run: Run) -> dict[str, Any]:
    log = run.log
    return {
        "val_loss": log.score.val_loss,
        "val_bpb": log.score.val_bpb,
        "steps": log.steps,
        "train_seconds": None if log.train_ms is None else log.train_ms / 1000,
        "bytes_model": run.model_bytes,
    }
