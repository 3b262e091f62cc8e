"""eval: what a model says of a text, without a file; the quick look before ``verify``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pgolf_codec import files
from pgolf_codec.cli import OK, UsageError
from pgolf_codec.cli.options import add_threads, measure, positive
from pgolf_codec.cli.referee import hint_archive, read_text
from pgolf_codec.errors import LossyTokenizerError
from pgolf_codec.progress import Progress

if TYPE_CHECKING:
    from pgolf_codec.codec.tokenizer import Tokenizer
    from pgolf_codec.eval.evaluation import Contexts, Evaluation
    from pgolf_codec.eval.foreign import Text
    from pgolf_codec.eval.tuning import Schedule
    from pgolf_codec.eval.vocabulary import Vocabulary

CHECKPOINT = ".pt"
FLOAT_CONTEXT = 512
"""Symbols of a window where floats have none given."""
CHUNK = 256
"""Symbols that are learned from together."""
RANK = 8
RATES = {
    ("full", "sgd"): 0.05,
    ("full", "adam"): 2e-4,
    ("low-rank", "sgd"): 0.5,
    ("low-rank", "adam"): 2e-3,
}
"""Learning rates, where none is given."""


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
        "--float", action="store_true", help="by the float graph; of a checkpoint it is always"
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
    is_float = options.float or str(options.model).endswith(CHECKPOINT)
    _check(options, is_float)
    files.check_target(options.json)
    if not options.quiet:
        hint_archive(options.files[0])
    text = read_text(options, options.files[0])
    stream = None if options.quiet else sys.stderr
    with Progress(options.files[0], len(text.data), stream) as progress:
        found = (_by_floats if is_float else _by_integers)(options, text, progress)
    if options.json == "-":
        print(found.to_json(), end="")
    elif options.json is not None:
        with files.replacing(Path(options.json), overwrite=True) as out:
            out.write(found.to_json().encode())
    if options.json != "-" and not options.quiet:
        print(found.describe(), end="")
    return OK


def _by_integers(options: argparse.Namespace, text: Text, progress: Progress) -> Evaluation:
    import pgolf_codec
    from pgolf_codec.codec.adaptation import adapted
    from pgolf_codec.eval.evaluation import evaluate_integers

    model = pgolf_codec.load_model(options.model)
    vocabulary = _vocabulary(options) or _own_vocabulary(model.tokenizer)
    reading = _contexts(options)
    return evaluate_integers(
        model if options.adapt is False else adapted(model),
        text,
        reading,
        vocabulary=vocabulary,
        threads=options.threads,
        progress=progress.update,
        proof=_proof(options, reading, vocabulary),
    )


def _by_floats(options: argparse.Namespace, text: Text, progress: Progress) -> Evaluation:
    import pgolf_codec
    from pgolf_codec.eval.evaluation import evaluate_float
    from pgolf_codec.models import DEFAULT, embedded_paths

    name = options.model or DEFAULT
    path = Path(embedded_paths().get(name, name))
    with files.reading(path):
        vocabulary = _vocabulary(options)
    if vocabulary is None and path.suffix == CHECKPOINT:
        raise UsageError(f"{path} has no tokenizer in it: name one with --tokenizer")
    reading = _contexts(options, FLOAT_CONTEXT)
    vocabulary = vocabulary or _own_vocabulary(pgolf_codec.load_model(name).tokenizer)
    return evaluate_float(
        path,
        text,
        reading,
        _schedule(options),
        vocabulary=vocabulary,
        chunk=None if options.after_document or not options.tune else options.chunk or CHUNK,
        threads=options.threads,
        progress=progress.update,
        proof="pgolf-codec verify --predictor FILE.py:FACTORY, of a TunedScorer (docs/REFEREE.md)",
    )


def _contexts(options: argparse.Namespace, default_length: int | None = None) -> Contexts:
    from pgolf_codec.eval.evaluation import Contexts

    length, stride = options.context or default_length, options.stride
    if stride is not None and length is not None and stride > length:
        raise UsageError(f"a stride of {stride} in windows of {length} would leave symbols out")
    return Contexts(length=length, stride=stride, joined=options.join, carried=options.carry)


def _schedule(options: argparse.Namespace) -> Schedule:
    """The options', or their defaults; without --tune one that takes no steps."""
    from pgolf_codec.eval.tuning import Schedule

    if options.tune is None:
        return Schedule(learning_rate=0.0, passes=0)
    optimizer: Literal["sgd", "adam"] = options.optimizer or (
        "sgd" if options.tune == "full" else "adam"
    )
    rate = RATES[options.tune, optimizer] if options.rate is None else options.rate
    return Schedule(
        learning_rate=rate,
        optimizer=optimizer,
        rank=0 if options.tune == "full" else options.rank or RANK,
        passes=options.passes or 1,
    )


def _check(options: argparse.Namespace, is_float: bool) -> None:
    """Options that do nothing, or nothing together, are refused."""
    if options.tune and not is_float:
        raise UsageError("--tune is of the float graph: add --float, or give a checkpoint")
    if is_float and options.adapt:
        raise UsageError("--adapt is of integers: in floats --tune learns")
    for name in ("rank", "optimizer", "rate", "chunk", "passes", "after_document"):
        if getattr(options, name) and not options.tune:
            raise UsageError(f"--{name.replace('_', '-')} goes with --tune")
    if options.rank and options.tune == "full":
        raise UsageError("--rank goes with --tune low-rank")
    if options.join and not options.documents:
        raise UsageError("--join goes with --documents")
    if options.stride and not (options.context or is_float):
        raise UsageError("--stride goes with --context")
    if options.carry and (options.join or not options.documents):
        raise UsageError("--carry goes with --documents, and not with --join: all is one then")
    if options.carry and not (options.tune if is_float else options.adapt is not False):
        raise UsageError("--carry: nothing learns")
    if options.after_document and not options.carry:
        raise UsageError("--after-document needs --carry: it is of use to the next one only")


def _vocabulary(options: argparse.Namespace) -> Vocabulary | None:
    """The one that is named."""
    if options.tokenizer is None:
        return None
    from pgolf_codec.eval.vocabulary import read_vocabulary

    return read_vocabulary(options.tokenizer)


def _own_vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """That of a model, which can't tell how a lossy one reads text."""
    from pgolf_codec.eval.vocabulary import of_tokenizer

    try:
        return of_tokenizer(tokenizer)
    except LossyTokenizerError as error:
        raise LossyTokenizerError(f"{error}; name its SentencePiece .model: --tokenizer") from None


def _proof(options: argparse.Namespace, reading: Contexts, vocabulary: Vocabulary) -> str:
    """The command that settles what integers say."""
    if options.documents or reading.length is not None or vocabulary.counts is not None:
        return "pgolf-codec verify --predictor FILE.py:FACTORY, in these contexts (docs/REFEREE.md)"
    words = ["pgolf-codec", "verify", *options.files]
    words += ["-m", options.model] if options.model else []
    words += ["--no-adapt"] if options.adapt is False else []
    return shlex.join(words)
