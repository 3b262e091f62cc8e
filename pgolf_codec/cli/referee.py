"""verify and audit: whether a score is real, and if not, which rule is broken."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pgolf_codec import files
from pgolf_codec.cli import FAILED, OK, UsageError, complain
from pgolf_codec.cli.options import add_adapt, add_model, add_talk, add_threads, measure, positive
from pgolf_codec.cli.ranks import all_ranks, is_first
from pgolf_codec.errors import PredictorError, VerificationError
from pgolf_codec.progress import Progress

if TYPE_CHECKING:
    from pgolf_codec.eval.foreign import Text
    from pgolf_codec.eval.host import Limits
    from pgolf_codec.eval.receipt import Receipt


_ARCHIVE = b"\x89pgz"
"""Its first bytes."""


def verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs=1, metavar="TEXT", help="any file; `-`: standard input")
    add_model(parser)
    add_threads(parser)
    add_adapt(parser)
    add_talk(parser)
    parser.add_argument("--json", metavar="RECEIPT", help="write the receipt here (`-`: stdout)")
    parser.add_argument(
        "--claim", type=measure, metavar="BPB", help="the score that is claimed for the predictor"
    )
    add_predictor(parser)


def run_verify(options: argparse.Namespace) -> int:
    """Print the receipt, or write it; FAILED if a claim does not hold."""
    (name,) = options.files
    files.check_target(options.json)
    if not options.quiet and is_first():
        hint_archive(name)
    try:
        with naming(options.predictor):
            receipt = _verify_predictor(options) if options.predictor else _verify_model(options)
    except VerificationError as error:
        receipt = error.receipt
        if is_first():
            complain(f"{name}: {error}")
    if not is_first():
        return OK if receipt.verified else FAILED
    if options.json is not None:
        _write(options.json, receipt.to_json())
    if options.json != "-" and not options.quiet:
        print(receipt.describe(), end="")
    return OK if receipt.verified else FAILED


def audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs=1, metavar="TEXT", help="any file; `-`: standard input")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing; see the status")
    parser.add_argument("--json", metavar="REPORT", help="write the report here (`-`: stdout)")
    parser.add_argument(
        "--symbols", type=positive, metavar="N", help="audit the first N symbols (default: 512)"
    )
    parser.add_argument(
        "--tolerance", type=measure, metavar="BITS", help="by which a probability may move (.01)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is changed (default: 0)")
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="SHA-256 of the training documents"
    )
    parser.add_argument(
        "--max-size", type=positive, metavar="BYTES", help="what the decoder may need in all"
    )
    add_predictor(parser, required=True)


def run_audit(options: argparse.Namespace) -> int:
    """Print the report, or write it; FAILED if a rule is broken."""
    from pgolf_codec.eval.audit import DEFAULT_SYMBOLS, DEFAULT_TOLERANCE_BITS, audit, read_manifest

    files.check_target(options.json)
    tolerance = options.tolerance
    text = read_text(options, options.files[0])
    manifest = None if options.manifest is None else read_manifest(options.manifest)
    with naming(options.predictor):
        report = audit(
            options.predictor,
            text,
            n_symbols=options.symbols or DEFAULT_SYMBOLS,
            tolerance_bits=DEFAULT_TOLERANCE_BITS if tolerance is None else tolerance,
            seed=options.seed,
            manifest=manifest,
            max_bytes=options.max_size,
            limits=limits_of(options),
        )
    if options.json is not None:
        _write(options.json, report.to_json())
    if options.json != "-" and not options.quiet:
        print(report.describe(), end="")
    return FAILED if report.broken else OK


def add_predictor(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    group = parser.add_argument_group(
        "a predictor of your own", "It runs in a process of its own; see docs/REFEREE.md."
    )
    group.add_argument(
        "--predictor",
        required=required,
        metavar="SPEC",
        help="package.module:factory or FILE.py:factory, with arguments if need be: "
        "'mine.py:make(rank=8)'; of our models: 'pgolf_codec.eval.ours:model(context=512)'",
    )
    group.add_argument(
        "--documents", action="store_true", help="TEXT is .jsonl or .jsonl.zst: a document a line"
    )
    group.add_argument(
        "--seconds", type=positive, metavar="N", help="limit of each process (default: 600)"
    )
    group.add_argument(
        "--memory", type=positive, metavar="MIB", help="limit of each process (default: 8192)"
    )


def _verify_model(options: argparse.Namespace) -> Receipt:
    from pgolf_codec.eval.verify import verify

    for name in ("documents", "claim", "seconds", "memory"):
        if getattr(options, name):
            raise UsageError(f"--{name} goes with --predictor")
    (name,) = options.files
    text: Path | bytes
    if name == "-":
        text = sys.stdin.buffer.read()
        n_total = len(text)
    else:
        text = Path(name)
        with files.reading(text):
            n_total = text.stat().st_size
    with _progress(options, n_total) as progress:
        return verify(
            text,
            model=options.model,
            threads=options.threads,
            progress=progress.update,
            adapt=options.adapt is not False,
        )


def _verify_predictor(options: argparse.Namespace) -> Receipt:
    from pgolf_codec.eval.foreign import verify_predictor

    for name in ("model", "threads", "adapt"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} doesn't go with --predictor")
    text = read_text(options, options.files[0])
    with _progress(options, len(text.data)) as progress:
        return verify_predictor(
            options.predictor,
            text,
            claimed_bpb=options.claim,
            limits=limits_of(options),
            progress=progress.update,
            ranks=all_ranks(),
        )


@contextlib.contextmanager
def naming(predictor: str | None) -> Iterator[None]:
    """Say whose failure it is."""
    try:
        yield
    except PredictorError as error:
        if predictor is None or predictor in str(error):
            raise
        raise PredictorError(f"{predictor}: {error}") from None


def hint_archive(name: str) -> None:
    """Tell who takes a compressed file for its text; any file may be coded, that one too."""
    path = Path(name)
    if name == "-" or not path.is_file():
        return
    with files.reading(path) as file:
        is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
    if is_archive:
        complain(f"{name}: is an archive, coded here once more; to check it: pgolf-codec test")


def read_text(options: argparse.Namespace, name: str) -> Text:
    """The file ``name``, one document or, with --documents, many."""
    from pgolf_codec.eval.foreign import Text

    if name == "-":
        if options.documents:
            raise UsageError("--documents needs a file")
        return Text((sys.stdin.buffer.read(),))
    with files.reading(Path(name)):
        return Text.read(Path(name), by_documents=options.documents)


def limits_of(options: argparse.Namespace) -> Limits:
    """Of the predictor's processes."""
    from pgolf_codec.eval.host import Limits

    default = Limits()
    return Limits(
        seconds=options.seconds or default.seconds,
        memory_bytes=(options.memory or 0) << 20 or default.memory_bytes,
    )


def _progress(options: argparse.Namespace, n_total: int) -> Progress:
    (name,) = options.files
    return Progress(name, n_total, sys.stderr if is_first() and not options.quiet else None)


def _write(path: str, text: str) -> None:
    if path == "-":
        print(text, end="")
        return
    with files.replacing(Path(path), overwrite=True) as out:
        out.write(text.encode())
