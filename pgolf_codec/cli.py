"""The command line: ``pgolf-codec VERB ...``.

Here are the verbs, their options and what happens to errors and signals; the verbs'
bodies are in :mod:`pgolf_codec.cli_coding` and :mod:`pgolf_codec.cli_reports`, and
are imported only when they run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import pgolf_codec
from pgolf_codec.errors import PgolfError, RefusedError

OK, FAILED, USAGE = 0, 1, 2
"""Exit statuses; a signal gives 128 + its number."""

SUFFIX = ".pgz"


class Verb(NamedTuple):
    """One subcommand."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


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
    verb.add_options(parser)
    options = parser.parse_intermixed_args(arguments[1:])
    options.verb = name
    try:
        status = verb.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        parser.error(str(error))
    return status


def _no_verb(arguments: list[str]) -> int:
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        prog="pgolf-codec",
        usage="pgolf-codec VERB [OPTION ...] [FILE ...]",
        description="Lossless text compression with small language models.",
        epilog="verbs:\n"
        + "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
        + "\n\n`pgolf-codec VERB --help` tells the options of a verb.",
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


def _coding_options(parser: argparse.ArgumentParser) -> None:
    """What compress, decompress and test have in common."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="`-` or none: standard input")
    _add_model(parser)
    _add_threads(parser)
    _add_talk(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a file, on stdout")


def _output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", help="write here (`-`: standard output)")
    parser.add_argument("-c", "--stdout", action="store_true", help="write to standard output")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite; write to a terminal")
    parser.add_argument(
        "-k", "--keep", dest="remove", action="store_false", help="keep the source (the default)"
    )
    parser.add_argument(
        "--rm", dest="remove", action="store_true", help="remove the source afterwards"
    )
    parser.set_defaults(remove=False)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", help="an embedded model's name, or a .pglm file")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-T", "--threads", type=_threads, metavar="N", help="0, the default: as many as CPUs"
    )


def _add_talk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no warnings")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell sizes and speed")


def _compress_options(parser: argparse.ArgumentParser) -> None:
    _coding_options(parser)
    _output_options(parser)
    parser.add_argument(
        "--streams",
        type=_positive,
        metavar="N",
        help="parts coded side by side: more are faster and compress less",
    )


def _decompress_options(parser: argparse.ArgumentParser) -> None:
    _coding_options(parser)
    _output_options(parser)


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="an archive")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    _add_talk(parser)


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs=1, metavar="TEXT", help="any file; `-`: standard input")
    _add_model(parser)
    _add_threads(parser)
    _add_talk(parser)
    parser.add_argument("--json", metavar="RECEIPT", help="write the receipt here (`-`: stdout)")


def _models_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a model")


def _demo_options(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_threads(parser)


def _threads(text: str) -> int | None:
    """0 is None, which is as many as there are CPUs."""
    return _at_least(text, 0) or None


def _positive(text: str) -> int:
    return _at_least(text, 1)


def _at_least(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} up")
    return int(text)


def _compress(options: argparse.Namespace) -> int:
    from pgolf_codec.cli_coding import compress

    return compress(options)


def _decompress(options: argparse.Namespace) -> int:
    from pgolf_codec.cli_coding import decompress

    return decompress(options)


def _test(options: argparse.Namespace) -> int:
    from pgolf_codec.cli_coding import test

    return test(options)


def _list(options: argparse.Namespace) -> int:
    from pgolf_codec.cli_reports import list_archives

    return list_archives(options)


def _verify(options: argparse.Namespace) -> int:
    from pgolf_codec.cli_reports import verify

    return verify(options)


def _models(options: argparse.Namespace) -> int:
    from pgolf_codec.cli_reports import models

    return models(options)


def _demo(options: argparse.Namespace) -> int:
    from pgolf_codec.demo import run

    return run(model=options.model, threads=options.threads)


VERBS = {
    "compress": Verb(f"write FILE{SUFFIX} for each FILE", _compress_options, _compress),
    "decompress": Verb(f"write FILE for each FILE{SUFFIX}", _decompress_options, _decompress),
    "test": Verb("decode and check archives, write nothing", _coding_options, _test),
    "list": Verb("tell what archives hold; needs no model", _list_options, _list),
    "verify": Verb(
        "compress, decompress in another process, compare, give a receipt", _verify_options, _verify
    ),
    "models": Verb("list the models that came with the package", _models_options, _models),
    "demo": Verb("compare with other compressors on a text that Python has", _demo_options, _demo),
}
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
