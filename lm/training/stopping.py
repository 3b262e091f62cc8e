"""Ctrl-C and SIGTERM as a request: the step that runs is finished, and a checkpoint written."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 5.0
"""After which another signal is not the same one again."""


class Stopped(KeyboardInterrupt):
    """A run ended before its time, with a checkpoint; the argument is the signal's number."""


class StopRequest:
    """Notes the first signal in a ``with`` block; one that comes much later ends the process.

    ``torchrun`` passes on a signal that a terminal has sent to all, so the same one comes twice.
    """

    def __init__(self) -> None:
        self.signal = 0
        """The number of the signal that came; 0: none."""
        self._noted_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.signal:
            self.signal, self._noted_at = number, now
        elif now - self._noted_at > PATIENCE_SECONDS:
            raise KeyboardInterrupt
