"""Foreign code in a process of its own: started, asked, limited, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import pgolf_codec
from pgolf_codec.errors import PredictorError
from pgolf_codec.eval import messages, worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Of one process."""

    seconds: int = 600
    """On the clock, from its start; processor time may be that for each CPU."""
    memory_bytes: int = 8 << 30
    """Of address space."""


class Host:
    """A predictor in its own process, from ``with`` to its end."""

    def __init__(
        self, spec: str, limits: Limits | None = None, *, hidden: Sequence[Path] = ()
    ) -> None:
        """``hidden`` are files that it must not see, where namespaces can be had."""
        self._spec = spec
        self._limits = limits or Limits()
        self._hidden = [str(path.resolve()) for path in hidden]
        self._timed_out = False
        self.about: dict[str, Any] = {}
        """What the process says of the predictor, and of its isolation."""

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        try:
            self._start()
            self.about = self._answer(None)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def ask(
        self, task: str, progress: Callable[[int], None] | None = None, **values: Any
    ) -> dict[str, Any]:
        """The answer to one task of :mod:`pgolf_codec.eval.tasks`.

        Raises :class:`PredictorError` with what the predictor raised, or how it ended.
        """
        try:
            messages.send(self._requests, {"task": task} | values)
        except (BrokenPipeError, ConnectionResetError):
            raise PredictorError(self._how_it_ended()) from None
        return self._answer(progress)

    def _start(self) -> None:
        scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pgolf-codec-"))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the stack)
        self._stack.enter_context(self._errors)
        package_folder = str(Path(pgolf_codec.__file__).resolve().parents[1])
        settings = {
            "spec": self._spec,
            "folder": os.getcwd(),
            "scratch": scratch,
            "hidden": self._hidden,
            "memory_bytes": self._limits.memory_bytes,
            "cpu_seconds": self._limits.seconds * (os.cpu_count() or 1),
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", worker.BOOT, package_folder, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._process = process
        self._requests = cast(BinaryIO, process.stdin)
        self._answers = cast(BinaryIO, process.stdout)
        timer = threading.Timer(self._limits.seconds, self._time_out)
        timer.daemon = True
        timer.start()
        self._stack.callback(self._end)
        self._stack.callback(timer.cancel)

    def _answer(self, progress: Callable[[int], None] | None) -> dict[str, Any]:
        while True:
            try:
                message = messages.receive(self._answers)
            except PredictorError:
                if self._timed_out or self._process.poll() is not None:
                    raise PredictorError(self._how_it_ended()) from None
                raise
            if message is None:
                raise PredictorError(self._how_it_ended())
            if "error" in message:
                raise PredictorError(str(message["error"]))
            if "progress" not in message:
                return message
            if progress is not None:
                progress(int(message["progress"]))

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        """The process and all that it started in its session."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._kill()
        self._process.wait()
        self._answers.close()

    def _how_it_ended(self) -> str:
        if self._timed_out:
            return f"the predictor ran past its {self._limits.seconds} seconds"
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the predictor's process closed its pipe"
        if status == -signal.SIGXCPU:
            return "the predictor used up its processor time"
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"the predictor's process ended with status {status}: {' '.join(last)}"
