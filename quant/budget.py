"""A byte budget that lands: search one knob until the artifact is just under its cap.

The knob is in octaves of the steps.  Bytes fall almost linearly with it, by an eighth of
a byte a weight and octave, so that a secant lands in a few tries; each costs a
quantization of the whole model.  What a try weighed can be kept in a file: the search
asks the same questions in the same order, so it goes on from where it was stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pgolf_codec.errors import BudgetError
from pgolf_codec.files import replacing

WITHIN = 0.001
MAX_TRIES = 24
GRID = 1 << 16
"""Knobs are multiples of 1 / GRID octaves: no try depends on a last bit."""
FAR = 16.0
"""Octaves from the start, in either direction, at which the search gives up."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fit:
    """Where a search landed."""

    octaves: float
    n_bytes: int
    tries: dict[float, int]
    """Bytes by octaves, in the order in which they were weighed."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What an artifact costs, in bytes."""

    model_bytes: int
    code_bytes: int = 0
    """The challenge's own: one script, as it is on disk."""
    tokenizer_bytes: int = 0
    decoder_bytes: int = 0
    """Of the programs that the script calls, and that the challenge does not count."""

    @property
    def challenge_bytes(self) -> int:
        """What the challenge caps at 16,000,000: code and model."""
        return self.model_bytes + self.code_bytes

    @property
    def all_bytes(self) -> int:
        """All that another machine needs beside Python."""
        return self.challenge_bytes + self.tokenizer_bytes + self.decoder_bytes

    def to_dict(self) -> dict[str, int]:
        return {
            "model_bytes": self.model_bytes,
            "code_bytes": self.code_bytes,
            "challenge_bytes": self.challenge_bytes,
            "tokenizer_bytes": self.tokenizer_bytes,
            "decoder_bytes": self.decoder_bytes,
            "all_bytes": self.all_bytes,
        }


def decoder_bytes() -> int:
    """Of the Python files of this package that decoding may import; no library it needs."""
    from pgolf_codec import codec, lm, quant

    folders = [Path(file).parent for m in (codec, lm, quant) if (file := m.__file__)]
    return file_bytes(folders)


def file_bytes(paths: Iterable[Path]) -> int:
    """Bytes on disk of files, and of the Python files below folders."""
    total = 0
    for path in paths:
        files = path.rglob("*.py") if path.is_dir() else [path]
        total += sum(file.stat().st_size for file in files)
    return total


def fit(
    weigh: Callable[[float], int],
    cap_bytes: int,
    *,
    bytes_per_octave: float,
    within: float = WITHIN,
    keep: Path | None = None,
    key: str = "",
    log: Log = lambda line: None,
) -> Fit:
    """The knob at which ``weigh(octaves)`` is at most ``cap_bytes``, and at most ``within`` below.

    ``weigh`` makes the artifact with steps of 2**octaves times their first size and
    returns its bytes; it must be deterministic, and fall.  ``bytes_per_octave`` is a
    guess at how fast.  ``keep`` is a file for what was weighed, for this ``key`` (of
    everything that the bytes depend on) only.  Raises :class:`BudgetError` if no knob
    within ±:data:`FAR` octaves, or none of :data:`MAX_TRIES` tries, lands.
    """
    known = _kept(keep, key)
    tries: dict[float, int] = {}
    least = cap_bytes - int(cap_bytes * within)
    aim = (least + cap_bytes) / 2
    small: tuple[float, int] | None = None  # the coarsest known to be above the cap
    large: tuple[float, int] | None = None  # the finest known to be below it
    octaves = 0.0
    while len(tries) < MAX_TRIES:
        if octaves not in known:
            known[octaves] = weigh(octaves)
            _keep(keep, key, known)
        n_bytes = tries[octaves] = known[octaves]
        log(f"{octaves:+.4f} octaves: {n_bytes:,} bytes of {cap_bytes:,}")
        if least <= n_bytes <= cap_bytes:
            return Fit(octaves, n_bytes, tries)
        if n_bytes > cap_bytes:
            small = (octaves, n_bytes)
        else:
            large = (octaves, n_bytes)
        octaves = _next(list(tries.items()), aim, small, large, bytes_per_octave)
        if abs(octaves) > FAR or octaves in tries:
            break
    best = max((n for n in tries.values() if n <= cap_bytes), default=None)
    told = "none was under it" if best is None else f"the largest under it has {best:,}"
    raise BudgetError(f"no steps land within {within:.2%} of {cap_bytes:,} bytes; {told}")


def _next(
    tries: list[tuple[float, int]],
    aim: float,
    small: tuple[float, int] | None,
    large: tuple[float, int] | None,
    bytes_per_octave: float,
) -> float:
    """The next try: along the line through the bracket, or through the last two tries."""
    if small is None or large is None:
        (octaves, n_bytes) = tries[-1]
        slope = bytes_per_octave
        if len(tries) > 1:
            before, bytes_before = tries[-2]
            slope = max((bytes_before - n_bytes) / (octaves - before), slope / 16)
        move = max(min((n_bytes - aim) / slope, 4.0), -4.0)
        return _on_grid(octaves + math.copysign(max(abs(move), 1 / GRID), move))
    (a, bytes_a), (b, bytes_b) = small, large
    part = (bytes_a - aim) / (bytes_a - bytes_b)
    # Not nearer to either end than an eighth, so that the bracket shrinks whatever the curve.
    return _on_grid(a + (b - a) * min(max(part, 0.125), 0.875))


def _on_grid(octaves: float) -> float:
    return round(octaves * GRID) / GRID


def _kept(path: Path | None, key: str) -> dict[float, int]:
    """What an earlier search for the same key weighed."""
    if path is None or not path.exists():
        return {}
    try:
        values = json.loads(path.read_bytes())
        if values["key"] != key:
            return {}
        return {float(octaves): int(n_bytes) for octaves, n_bytes in values["weighed"]}
    except (ValueError, KeyError, TypeError):
        return {}


def _keep(path: Path | None, key: str, known: dict[float, int]) -> None:
    if path is not None:
        with replacing(path, overwrite=True) as file:
            file.write(json.dumps({"key": key, "weighed": list(known.items())}).encode())
