"""report: one HTML page that shows where the bits of a text went."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pgolf_codec import files
from pgolf_codec.cli import FAILED, OK, UsageError, complain
from pgolf_codec.cli.options import add_model, add_talk, add_threads
from pgolf_codec.cli.referee import add_predictor, hint_archive, limits_of, naming, read_text
from pgolf_codec.errors import CorruptError, RefusedError
from pgolf_codec.progress import Progress

if TYPE_CHECKING:
    from pgolf_codec.eval.receipt import Receipt
    from pgolf_codec.eval.report import Page

_STEPS = {
    "verify": "coding, and decoding in another process",
    "encode": "coding",
    "decode": "decoding, in another process",
    "trace": "asking for the bits of each symbol",
    "compare": "other compressors",
    "prime": "zstd with a dictionary",
}
_MOST_RECEIPT_BYTES = 1 << 20


def report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs=1,
        metavar="RECEIPT|TEXT",
        help="a receipt of `verify --json`, or any other file: that is coded and decoded",
    )
    parser.add_argument(
        "-o", "--output", metavar="PAGE", help="write here (default: FILE.html; `-`: stdout)"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite; write to a terminal")
    parser.add_argument("--text", metavar="TEXT", help="the text of the receipt, to show it too")
    parser.add_argument(
        "--prime",
        action="append",
        default=[],
        metavar="FILE",
        help="text of the same kind, for a zstd dictionary as large as the model; may be repeated",
    )
    add_model(parser)
    add_threads(parser)
    add_talk(parser)
    add_predictor(parser)


def run_report(options: argparse.Namespace) -> int:
    """Write the page; FAILED if a claim of its receipt does not hold."""
    (name,) = options.files
    target = _target(name, options)
    receipt = _receipt(name)
    _check_options(options, receipt)
    if not options.quiet:
        hint_archive(name)
    with contextlib.ExitStack() as steps, naming(options.predictor):
        page = _page(options, receipt, _teller(options, steps))
    _write(target, page.html, options)
    if not page.receipt.verified:
        complain(f"{name}: does not hold: {', '.join(page.receipt.failed)}")
        return FAILED
    return OK


def _page(
    options: argparse.Namespace,
    receipt: Receipt | None,
    step: Callable[[str], Callable[[int], None]],
) -> Page:
    from pgolf_codec.eval.report import report, report_predictor, report_receipt

    (name,) = options.files
    if receipt is None and options.predictor:
        text = read_text(options, name)
        return report_predictor(
            options.predictor, text, limits=limits_of(options), prime=options.prime, step=step
        )
    if receipt is None:
        return report(
            sys.stdin.buffer.read() if name == "-" else name,
            model=options.model,
            prime=options.prime,
            threads=options.threads,
            step=step,
        )
    return report_receipt(
        receipt,
        Path(name).name,
        text=read_text(options, options.text) if options.documents else options.text,
        model=options.model,
        predictor=options.predictor,
        limits=limits_of(options),
        prime=options.prime,
        threads=options.threads,
        step=step,
    )


def _target(name: str, options: argparse.Namespace) -> Path | None:
    """Where the page goes; None is standard output.  Nothing is done if it can't go there."""
    if options.output == "-" or (name == "-" and options.output is None):
        if sys.stdout.isatty() and not options.force:
            raise RefusedError("(stdout)", "is a terminal; use -o PAGE, or -f to write there")
        return None
    target = Path(options.output or f"{name}.html")
    files.check_target(str(target))
    if target.exists() and not options.force:
        raise RefusedError(target, "already exists; -f overwrites")
    if name != "-" and files.same_file(target, Path(name)):
        raise RefusedError(target, "is also the input")
    return target


def _receipt(name: str) -> Receipt | None:
    """What the file holds, if it is a receipt; a damaged one is an error."""
    if name == "-":
        return None
    with files.reading(Path(name)) as file:
        begin = file.read(_MOST_RECEIPT_BYTES + 1)
    if len(begin) > _MOST_RECEIPT_BYTES or not begin.lstrip().startswith(b"{"):
        return None
    if b'"input_sha256"' in begin and b'"nothing_was_coded"' in begin:
        raise RefusedError(name, "is of `eval`: nothing was coded, so there is nothing to draw")
    if b'"input_sha256"' not in begin or b'"claims"' not in begin:
        return None
    from pgolf_codec.eval.receipt import read_receipt

    try:
        return read_receipt(begin)
    except CorruptError as error:
        raise CorruptError(f"{name}: {error}") from None


def _check_options(options: argparse.Namespace, receipt: Receipt | None) -> None:
    (name,) = options.files
    of_predictor = receipt is None or "claim_is_coded" in receipt.claims
    if options.predictor and not of_predictor:
        raise UsageError(f"{name} is the receipt of a model of ours, not of a predictor")
    if (options.model or options.threads) and (
        options.predictor or (receipt is not None and of_predictor)
    ):
        raise UsageError("--model and --threads don't go with a predictor")
    if receipt is not None and options.text is None and (options.predictor or options.documents):
        raise UsageError("with a receipt, --predictor and --documents need --text")
    if not options.predictor and (options.seconds or options.memory):
        raise UsageError("--seconds and --memory go with --predictor")
    if receipt is None and options.documents and not options.predictor:
        raise UsageError("--documents goes with --predictor, or a predictor's receipt")
    if receipt is None and options.text is not None:
        raise UsageError(f"--text goes with a receipt, and {name} is none")
    if receipt is not None and options.text is None and (options.prime or options.model):
        raise UsageError("with a receipt, --prime and --model need --text")


def _teller(
    options: argparse.Namespace, steps: contextlib.ExitStack
) -> Callable[[str], Callable[[int], None]]:
    """Shows each step of the work as its own line of progress."""
    text = options.text or options.files[0]
    n_total = Path(text).stat().st_size if text != "-" and Path(text).is_file() else None

    def begin(name: str) -> Callable[[int], None]:
        steps.close()  # the line of the step before
        stream = None if options.quiet else sys.stderr
        progress = Progress(_STEPS[name], n_total, stream)
        steps.enter_context(progress)
        progress.update(0)
        return progress.update

    return begin


def _write(target: Path | None, html: str, options: argparse.Namespace) -> None:
    data = html.encode()
    if target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with files.replacing(target, overwrite=options.force) as out:
        out.write(data)
    if not options.quiet:
        complain(f"{target}: {len(data):,} bytes, needs nothing else; open it in a browser")
