"""eval: what a model says of a text, without a file; the quick look before ``verify``."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from pathlib import Path

from pgolf_codec import files
from pgolf_codec.cli import OK, UsageError
from pgolf_codec.cli.options import add_threads, measure, positive
from pgolf_codec.cli.referee import hint_archive, read_text
from pgolf_codec.errors import ConfigError
from pgolf_codec.eval.settings import CHUNK, RANK, Settings
from pgolf_codec.progress import Progress


def eval_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs=1, metavar="TEXT", help="any file; `-`: standard input")
    parser.add_argument(
        "-m", "--model", help="an embedded model's name, a .pglm file, or a checkpoint of `train`"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="of a checkpoint: SentencePiece's .model, tokenizer.bin of a build, or a .pglm",
    )
    parser.add_argument(
        "--documents", action="store_true", help="TEXT is .jsonl or .jsonl.zst: a document a line"
    )
    parser.add_argument(
        "--join", action="store_true", help="of documents: contexts cross into the next one"
    )
    parser.add_argument(
        "--context", type=positive, metavar="N", help="score in windows of N symbols"
    )
    parser.add_argument(
        "--stride", type=positive, metavar="N", help="from window to window (default: half of it)"
    )
    parser.add_argument(
        "--adapt",
        action=argparse.BooleanOptionalAction,
        help="the stage of the format learns from the text (default: yes; not in floats)",
    )
    parser.add_argument(
        "--float",
        dest="floats",
        action="store_true",
        help="by the float graph; of a checkpoint it is always",
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers here (`-`: stdout)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no table")
    add_threads(parser)
    _tuning_options(parser)


def _tuning_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "test-time training, score first", "Of the float graph; see docs/ADAPTATION.md."
    )
    group.add_argument(
        "--tune", choices=("full", "low-rank"), help="all weights learn, or additions of low rank"
    )
    group.add_argument(
        "--rank", type=positive, metavar="N", help=f"of the additions (default: {RANK})"
    )
    group.add_argument(
        "--optimizer", choices=("sgd", "adam"), help="default: SGD for full, Adam for low-rank"
    )
    group.add_argument("--rate", type=measure, metavar="R", help="learning rate")
    after = group.add_mutually_exclusive_group()
    after.add_argument(
        "--chunk", type=positive, metavar="N", help=f"learn after each N symbols (default: {CHUNK})"
    )
    after.add_argument(
        "--after-document", action="store_true", help="learn when a document is at its end"
    )
    group.add_argument("--passes", type=positive, metavar="N", help="over what was scored (1)")
    group.add_argument(
        "--carry", action="store_true", help="keep what was learned for the next document"
    )


def run_eval(options: argparse.Namespace) -> int:
    """Print the table, or write the numbers."""
    from pgolf_codec.eval.evaluation import evaluate

    (name,) = options.files
    settings = _settings(options)
    files.check_target(options.json)
    if not options.quiet:
        hint_archive(name)
    text = read_text(options, name)
    stream = None if options.quiet else sys.stderr
    with Progress(name, len(text.data), stream) as progress:
        found = evaluate(settings, text, threads=options.threads, progress=progress.update)
    if options.json == "-":
        print(found.to_json(), end="")
    elif options.json is not None:
        with files.replacing(Path(options.json), overwrite=True) as out:
            out.write(found.to_json().encode())
    if options.json != "-" and not options.quiet:
        print(found.describe(), end="")
    return OK


def _settings(options: argparse.Namespace) -> Settings:
    """The options; what they can't be together is told by their names."""
    names = [field.name for field in dataclasses.fields(Settings)]
    try:
        settings = Settings(**{name: getattr(options, name) for name in names})
    except ConfigError as error:
        raise UsageError(re.sub(r"`(\w+)`", _option, str(error))) from None
    for name in ("join", "carry"):
        if getattr(options, name) and not options.documents:
            raise UsageError(f"--{name} goes with --documents")
    return settings


def _option(name: re.Match[str]) -> str:
    """Of the command line, for a field of :class:`Settings`."""
    return "--float" if name[1] == "floats" else f"--{name[1].replace('_', '-')}"
