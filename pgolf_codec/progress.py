"""One line on a terminal that says how far a file is, how fast, and how long still."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, TextIO

_REDRAW_SECONDS = 0.1
_QUIET_SECONDS = 0.5
"""Work that ends sooner draws nothing."""


class Progress:
    """Counts bytes of one file; draws to ``stream`` if that is a terminal.

    ``n_total`` is the number of bytes to expect, None if unknown (a pipe).
    """

    def __init__(self, label: str, n_total: int | None, stream: TextIO | None) -> None:
        self.n_done = 0
        self._label = label
        self._n_total = n_total
        self._stream = stream if stream is not None and stream.isatty() else None
        self._start = time.monotonic()
        self._next_draw = self._start + _QUIET_SECONDS
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn and self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def update(self, n_done: int) -> None:
        """Note that ``n_done`` bytes are done in all."""
        self.n_done = n_done
        now = time.monotonic()
        if self._stream is None or now < self._next_draw:
            return
        self._next_draw = now + _REDRAW_SECONDS
        self._drawn = True
        self._stream.write("\r\x1b[K" + self.line(now - self._start))
        self._stream.flush()

    def line(self, seconds: float) -> str:
        """``label  38% 1.2 MB of 3.1 MB, 25 kB/s, 1:16 left``."""
        speed = self.n_done / max(seconds, 1e-9)
        if not self._n_total:
            return f"{self._label}  {size(self.n_done)}, {size(speed)}/s"
        share = min(self.n_done / self._n_total, 1.0)
        left = max(self._n_total - self.n_done, 0) / max(speed, 1e-9)
        return (
            f"{self._label}  {share:4.0%} {size(self.n_done)} of {size(self._n_total)}, "
            f"{size(speed)}/s, {_clock(left)} left"
        )


def size(n_bytes: float) -> str:
    """Three significant digits in decimal units: ``999 B``, ``1.23 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(min(seconds, 359999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
