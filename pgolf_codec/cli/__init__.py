"""The command line: ``pgolf-codec VERB ...``.

Here are the names of the verbs and what happens to errors and signals; a verb's options
and body are in the module that :data:`VERBS` names, imported only when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import pgolf_codec
from pgolf_codec import notices
from pgolf_codec.errors import PgolfError, RefusedError

OK, FAILED, USAGE = 0, 1, 2
"""Exit statuses; a signal gives 128 + its number."""

SUFFIX = ".pgz"


class Verb(NamedTuple):
    """One subcommand.

    ``module`` of this package has two functions for a verb NAME, with ``_`` for ``-``:
    ``NAME_options(parser)`` and ``run_NAME(options) -> exit status``.  Importing it is
    cheap: what is heavy is imported by ``run_NAME``.
    """

    summary: str
    module: str
    has_subverbs: bool = False
    """Its parser has subparsers, which can't have options among their positionals."""


class UsageError(Exception):
    """Options that parse but don't go together."""


class _Stopped(BaseException):
    """SIGTERM or SIGHUP: unwinds, so that temporary files are removed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _stoppable():
            return _run(arguments)
    except SystemExit as done:  # argparse: help, version, usage
        return done.code if isinstance(done.code, int) else FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except _Stopped as stopped:
        return 128 + int(stopped.args[0])
    except BrokenPipeError:  # the reader of our output has gone: nobody to tell
        _silence_stdout()
        return 128 + signal.SIGPIPE
    except (PgolfError, OSError, MemoryError) as error:
        complain(explain(error))
        return FAILED


def complain(message: str) -> None:
    """One line on stderr, after whatever progress is drawn there."""
    if sys.stderr is not None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{clear}pgolf-codec: {message}", file=sys.stderr, flush=True)


def explain(error: BaseException) -> str:
    """What is wrong, in one line, with the file's name where the error knows it."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        what = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {what}" if error.filename is not None else what
    return str(error) or type(error).__name__


def blame(error: BaseException, name: str) -> str:
    """``FILE: what is wrong``; the file is ``name`` unless the error knows better."""
    knows = isinstance(error, RefusedError) or getattr(error, "filename", None) is not None
    return explain(error) if knows else f"{name}: {explain(error)}"


def _run(arguments: list[str]) -> int:
    if arguments:
        arguments[0] = _ALIASES.get(arguments[0], arguments[0])
    if not arguments or arguments[0] not in VERBS:
        return _no_verb(arguments)
    name = arguments[0]
    verb = VERBS[name]
    parser = argparse.ArgumentParser(
        prog=f"pgolf-codec {name}", description=verb.summary[0].upper() + verb.summary[1:] + "."
    )
    module = importlib.import_module(f"{__name__}.{verb.module}")
    function = name.replace("-", "_")
    getattr(module, f"{function}_options")(parser)
    parse = parser.parse_args if verb.has_subverbs else parser.parse_intermixed_args
    options = parse(arguments[1:])
    options.verb = name
    if not getattr(options, "quiet", False):
        notices.tell = complain
    try:
        status: int = getattr(module, f"run_{function}")(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        parser.error(str(error))
    return status


def _no_verb(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pgolf-codec",
        usage="pgolf-codec VERB [OPTION ...] [FILE ...]",
        description="Lossless text compression with small language models.",
        epilog=f"{_listed()}\n\n`pgolf-codec VERB --help` tells the options of a verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"pgolf-codec {pgolf_codec.__version__}"
    )
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE
    parser.parse_known_args(arguments[:1])
    known = f"known are {', '.join(VERBS)}"
    hint = f"try: pgolf-codec compress {arguments[0]}" if os.path.exists(arguments[0]) else known
    return parser.error(f"{arguments[0]!r} is not a verb; {hint}")


def _listed() -> str:
    """All verbs with their summaries, by group."""
    width = max(map(len, VERBS))
    groups = [
        "\n".join([f"{title}:", *(f"  {n:<{width}}  {v.summary}" for n, v in verbs.items())])
        for title, verbs in GROUPS.items()
    ]
    return "\n\n".join(groups)


GROUPS = {
    "text": {
        "compress": Verb(f"write FILE{SUFFIX} for each FILE", "coding"),
        "decompress": Verb(f"write FILE for each FILE{SUFFIX}", "coding"),
        "test": Verb("decode and check archives, write nothing", "coding"),
        "list": Verb("tell what archives hold; needs no model", "reports"),
        "models": Verb("list the models that came with the package", "reports"),
        "compress-all": Verb("compress folders in one batch; under torchrun by all ranks", "batch"),
        "demo": Verb("compare with other compressors on a text that Python has", "demo"),
    },
    "the referee": {
        "verify": Verb(
            "compress, decompress in another process, compare, give a receipt", "referee"
        ),
        "verify-all": Verb("verify folders in one batch; under torchrun by all ranks", "batch"),
        "eval": Verb(
            "score a text without a file: other contexts, test-time training", "evaluation"
        ),
        "audit": Verb("find the rule that a scoring function breaks, if any", "referee"),
        "report": Verb("draw where the bits of a text went: one HTML page", "picture"),
        "significance": Verb("say whether runs beat a standing score, from their logs", "training"),
    },
    "weights": {
        "pack": Verb("quantize and code the weights of any model: write a .pgw", "weights"),
        "unpack": Verb("write a .pgw as .safetensors again", "weights"),
        "coders": Verb("list the entropy coders, those of other packages too", "weights"),
        "bench-coders": Verb("compare the entropy coders on given weights", "weights"),
    },
    "training": {
        "data": Verb("token shards: the challenge's, or of your own documents", "training", True),
        "train": Verb("train a model on token shards, on all GPUs or CPUs there are", "training"),
        "submit": Verb("make the folder of a submission, or its train_gpt.py", "training"),
    },
}
"""What they are about, in the order that the help has."""
VERBS = {name: verb for group in GROUPS.values() for name, verb in group.items()}
_ALIASES = {
    alias: verb
    for verb, aliases in {
        "compress": "c -z --compress",
        "decompress": "d x -d --decompress",
        "test": "t -t --test",
        "list": "l -l --list",
    }.items()
    for alias in aliases.split()
}


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, where they would kill the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(number)

    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        numbers.clear()
    replaced = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


def _silence_stdout() -> None:
    """Let the interpreter's last flush of stdout go nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
