"""Training logs of the challenge, ours and other people's: one run, its scores and sizes.

Lines that are looked for, wherever they stand in the text::

    seed:1337
    step:N/TOTAL val_loss:X val_bpb:X train_time:Nms step_avg:Xms
    LABEL val_loss:X val_bpb:X ...
    Serialized model LABEL: N bytes
    Code size: N bytes
    Total submission size LABEL: N bytes

Among the lines with a label, those whose label ends in ``_exact`` have all digits, and the
last of them is the score; else the last labelled line is, else the last validation of
training.  A log may hold the source of its script: lines of a format string have
no numbers, and are not taken.  A ``metrics.jsonl`` of ``lm.train`` is read, too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf_codec.errors import FormatError

_NUMBER = r"(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_STEP = re.compile(
    rf"^step:(\d+)/(\d+) val_loss:{_NUMBER} val_bpb:{_NUMBER}"
    rf"(?: train_time:{_NUMBER}ms)?(?: step_avg:{_NUMBER}ms)?"
)
_SCORE = re.compile(rf"^([A-Za-z][\w+ -]*?) val_loss[:=]{_NUMBER} val_bpb[:=]{_NUMBER}")
_SEED = re.compile(r"^(?:seed[:=] ?)(\d+)\b")
_NAMED_SEED = re.compile(r"seed[_-]?(\d+)")
_MODEL = re.compile(r"^Serialized model(?: (\S.*?))?: (\d+) bytes")
_CODE = re.compile(r"^Code size: (\d+) bytes")
_TOTAL = re.compile(r"^Total submission size(?: (\S.*?))?: (\d+) bytes")
_TORCH = re.compile(r"^(?:pytorch_version:|Running PyTorch |PyTorch Version: ?)(\S+)")
_WORLD = re.compile(r"^world_size:(\d+)\b")
_DEVICE = re.compile(r"^device:(.+)$")
_CODE_DIGEST = re.compile(r"^code_sha256:([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Score:
    """One evaluation on the validation set."""

    label: str
    val_loss: float
    """Nats a token."""
    val_bpb: float
    """Bits a byte, as the run counts bytes."""


@dataclass(frozen=True, slots=True)
class Validation:
    """A validation during training."""

    step: int
    val_loss: float
    val_bpb: float
    train_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLog:
    """What a log says of its run; None is what it does not say."""

    path: Path
    seed: int | None
    score: Score
    scores: tuple[Score, ...]
    """All that have a label, in the order of the log."""
    curve: tuple[Validation, ...]
    steps: int | None
    train_ms: float | None
    model_bytes: int | None
    """Of the compressed model, not of the one that is written beside it for convenience."""
    code_bytes: int | None
    total_bytes: int | None
    pytorch_version: str | None
    world_size: int | None
    device: str | None
    code_sha256: str | None

    @property
    def nats_a_bit(self) -> float:
        """Loss by bpb: the same for all runs with one tokenizer and one validation set."""
        return self.score.val_loss / self.score.val_bpb


def read_log(path: Path, label: str | None = None) -> RunLog:
    """Parse one log; ``label`` chooses another line as the score than the module's rule.

    Raises :class:`FormatError`, with the path, if it holds no score, or none of that label.
    """
    text = path.read_bytes().decode("utf-8", "replace")
    if path.suffix == ".jsonl":
        return _read_metrics(path, text)
    return parse_log(text.splitlines(), path, label)


def parse_log(lines: Iterable[str], path: Path, label: str | None = None) -> RunLog:
    """:func:`read_log` of lines; ``path`` names them."""
    scores: list[Score] = []
    curve: list[Validation] = []
    found: dict[str, Any] = {}
    for line in lines:
        line = line.strip()
        if match := _STEP.match(line):
            step, _, loss, bpb, train_ms, _ = match.groups()
            time_ms = None if train_ms is None else float(train_ms)
            curve.append(Validation(int(step), float(loss), float(bpb), time_ms))
        elif match := _SCORE.match(line):
            scores.append(Score(match[1], float(match[2]), float(match[3])))
        elif match := _SEED.match(line):
            found.setdefault("seed", int(match[1]))
        elif match := _MODEL.match(line):
            # Without a label it is the float model, which is not submitted.
            found["model" if match[1] else "float_model"] = int(match[2])
        elif match := _CODE.match(line):
            found["code"] = int(match[1])
        elif match := _TOTAL.match(line):
            found["total" if match[1] else "float_total"] = int(match[2])
        elif match := _TORCH.match(line):
            found.setdefault("torch", match[1])
        elif match := _WORLD.match(line):
            found.setdefault("world", int(match[1]))
        elif match := _DEVICE.match(line):
            found.setdefault("device", match[1])
        elif match := _CODE_DIGEST.match(line):
            found["code_sha256"] = match[1]
    named = _NAMED_SEED.search(path.stem)
    last = curve[-1] if curve else None
    return RunLog(
        path=path,
        seed=found.get("seed", int(named[1]) if named else None),
        score=_choose(path, scores, last, label),
        scores=tuple(scores),
        curve=tuple(curve),
        steps=None if last is None else last.step,
        train_ms=None if last is None else last.train_ms,
        model_bytes=found.get("model"),
        code_bytes=found.get("code"),
        total_bytes=found.get("total"),
        pytorch_version=found.get("torch"),
        world_size=found.get("world"),
        device=found.get("device"),
        code_sha256=found.get("code_sha256"),
    )


def _choose(path: Path, scores: list[Score], last: Validation | None, label: str | None) -> Score:
    if label is not None:
        chosen = [score for score in scores if score.label == label]
        if not chosen:
            known = ", ".join(dict.fromkeys(score.label for score in scores)) or "none"
            raise FormatError(f"{path}: no line {label!r} with a score; known are {known}")
    else:
        chosen = [score for score in scores if score.label.endswith("_exact")] or scores
    if chosen:
        score = chosen[-1]
    elif last is not None:
        score = Score("step", last.val_loss, last.val_bpb)
    else:
        raise FormatError(f"{path}: not a training log: it has no val_loss and val_bpb")
    if not (math.isfinite(score.val_loss) and score.val_loss > 0 and score.val_bpb > 0):
        raise FormatError(
            f"{path}: {score.label}: {score.val_loss} and {score.val_bpb} are no score"
        )
    return score


def _read_metrics(path: Path, text: str) -> RunLog:
    """A ``metrics.jsonl``: objects with "step" and "val_bpb", and perhaps "val_loss"."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values = json.loads(line)
            if "val_bpb" not in values:
                continue
            loss, bpb = values.get("val_loss"), float(values["val_bpb"])
            if loss is None:
                raise FormatError(f"{path}: it has no val_loss, the nats a token")
            ms = 1000 * float(values.get("seconds", 0))
            step = int(values["step"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{path}:{number}: not a line of metrics: {error!r}") from None
        lines.append(f"step:{step}/{step} val_loss:{loss} val_bpb:{bpb} train_time:{ms}ms")
    return parse_log(lines, path)
