"""The process in which foreign code runs: loads it, and does what the referee asks.

Started by :mod:`pgolf_codec.eval.host` with one JSON object as its argument.  Requests
come on its standard input, answers leave on what was its standard output; what the
foreign code prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pgolf_codec.errors import PgolfError
from pgolf_codec.eval.isolation import Isolation

if TYPE_CHECKING:
    from pgolf_codec.eval.subject import Subject

BOOT = """\
import sys
sys.path.append(sys.argv[1])
from pgolf_codec.eval.worker import main
main(sys.argv[2])
"""
_TELL_SECONDS = 0.2
"""Progress is told no more often."""


def main(arguments: str) -> None:
    """Isolate, load, then answer requests until standard input ends."""
    settings = json.loads(arguments)
    requests, answers = _own_pipes()
    hidden = [Path(name) for name in settings["hidden"]]
    isolation = Isolation(Path(settings["scratch"]), hidden)  # while there is one thread

    from pgolf_codec.eval import archive, messages, tasks
    from pgolf_codec.eval.subject import Subject, load

    archive.warm()
    if settings["spec"].startswith("pgolf_codec."):  # ours: its machine code is cached
        import pgolf_codec.lm.integers.engine
        import pgolf_codec.quant.artifact  # noqa: F401
    sys.path.append(settings["folder"])
    isolation.seal(settings["memory_bytes"], settings["cpu_seconds"])

    def answer(work: Callable[[], dict[str, Any]]) -> bool:
        try:
            messages.send(answers, work())
        except Exception as error:  # noqa: BLE001 (foreign code may raise anything)
            messages.send(answers, {"error": _explain(error), "kind": type(error).__name__})
            return False
        return True

    subject: Subject
    told = time.monotonic()

    def start() -> dict[str, Any]:
        nonlocal subject
        factory, source = load(settings["spec"])
        subject = Subject(factory)
        return {"isolation": isolation.kind, "source": str(source)} | tasks.describe(subject)

    def tell(n_done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            messages.send(answers, {"progress": n_done})

    if not answer(start):
        return
    while (request := messages.receive(requests)) is not None:
        task = tasks.TASKS.get(request.pop("task"))
        if task is None:  # the only one that is not the subject's
            answer(lambda: {"files": [str(path) for path in isolation.files_read()]})
        else:
            answer(partial(task, subject, tell, **request))


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, out of the way of foreign code."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def _explain(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, PgolfError):
        return text
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}: "
    return f"{where}{type(error).__name__}: {text}"
