"""data, train, submit and significance: from a corpus to a model that has a score."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pgolf_codec import files
from pgolf_codec.cli import FAILED, OK, UsageError
from pgolf_codec.cli.options import positive
from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.data.variants import VARIANTS
from pgolf_codec.progress import Progress

if TYPE_CHECKING:
    from pgolf_codec.eval.logs import RunLog
    from pgolf_codec.eval.significance import Verdict


def data_options(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    fineweb = what.add_parser(
        "fineweb",
        help="download the challenge's token shards",
        description="Download the challenge's token shards, resumed and checked. The default "
        "of 80 training shards is 16 GB; a shard is 200 MB.",
    )
    fineweb.add_argument("--variant", choices=list(VARIANTS), default="sp1024")
    fineweb.add_argument("--train-shards", type=int, default=80, metavar="N")
    fineweb.add_argument("-o", "--output", type=Path, default=Path("data"), metavar="DIR")
    fineweb.add_argument("--repository", metavar="OWNER/NAME", help="another dataset repository")
    fineweb.add_argument("--dataset", metavar="NAME", help="another data set of its manifest")
    fineweb.add_argument("--prefix", help="folder of manifest.json in the repository")
    fineweb.add_argument("--revision", default="main")

    build = what.add_parser(
        "build",
        help="make token shards of documents",
        description="Make token shards of documents: .jsonl, .jsonl.zst and .parquet files with a "
        "text (and perhaps a source) a document, .txt files of one document each.",
    )
    build.add_argument("inputs", nargs="+", type=Path, metavar="FILE")
    build.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    cut = build.add_mutually_exclusive_group(required=True)
    cut.add_argument("--tokenizer", type=Path, metavar="MODEL", help="a SentencePiece model")
    cut.add_argument(
        "--vocab-size",
        type=positive,
        metavar="N",
        help="train a lossless tokenizer: 1024, 4096, 8192 ...; 256 is the bytes",
    )
    build.add_argument(
        "--lossless",
        action="store_true",
        help="of MODEL take the pieces, not the folding of white space and characters",
    )
    build.add_argument(
        "--case", action="store_true", help="write capital letters as operators before small ones"
    )
    split = build.add_mutually_exclusive_group()
    split.add_argument(
        "--val-share", type=float, metavar="X", help="of the documents, by hash (default 0.01)"
    )
    split.add_argument("--val-documents", type=int, metavar="N", help="the first N documents")
    split.add_argument("--val", type=Path, action="append", metavar="FILE", help="these documents")
    build.add_argument(
        "--keep-overlap",
        action="store_true",
        help="keep training documents that are in the validation split; training refuses them",
    )
    build.add_argument("--name", metavar="NAME", help="of the data set (default text)")
    build.add_argument("--stem", help="of the shards' names (default fineweb)")
    build.add_argument("--shard-tokens", type=positive, metavar="N", help="(default 100000000)")
    build.add_argument("-j", "--workers", type=positive, default=os.cpu_count() or 1, metavar="N")

    check = what.add_parser(
        "check", help="check shards against their manifest, and the splits against each other"
    )
    check.add_argument("manifest", type=Path, metavar="MANIFEST", help="or a folder that has one")
    check.add_argument("--dataset", metavar="NAME", help="if the manifest has several")
    check.add_argument(
        "--tokens",
        action="store_true",
        help="compare the documents' tokens, too, if the manifest states no hashes",
    )


def run_data(options: argparse.Namespace) -> int:
    run = {"fineweb": _data_fineweb, "build": _data_build, "check": _data_check}[options.what]
    return run(options)


def train_options(parser: argparse.ArgumentParser) -> None:
    from pgolf_codec.lm.training.options import add_train_options

    add_train_options(parser)
    parser.add_argument(
        "--ranks",
        type=positive,
        metavar="N",
        help="processes that share each batch: by default one for each GPU, or else for each "
        "CPU that batch_rows can be dealt out to",
    )


def run_train(options: argparse.Namespace) -> int:
    """In this process, or, where there is work for several ranks, by ``torchrun``."""
    from pgolf_codec.lm.training.launch import default_ranks, train_in_ranks
    from pgolf_codec.lm.training.options import train_settings

    model_config, config = train_settings(options)
    ranks = options.ranks or default_ranks(config.batch_rows)
    if ranks > 1:
        return train_in_ranks(options, ranks)
    from pgolf_codec.lm.train import train
    from pgolf_codec.lm.training.stopping import Stopped

    try:
        train(model_config, config, options.tokens, options.out, options.compile)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])
    return OK


def submit_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write the folder of a submission from runs of several seeds; or, with --recipe and "
        "without runs, the self-contained train_gpt.py that makes such runs."
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="logs/RUN_ID of train_gpt.py, or a log"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder, or program")
    parser.add_argument(
        "--recipe", type=Path, metavar="NAME", help="write the program of a preset or a .toml file"
    )
    parser.add_argument("--plain", action="store_true", help="a program that can be read")
    parser.add_argument("--program", type=Path, metavar="FILE", help="the train_gpt.py that ran")
    parser.add_argument("--track", choices=("record", "non-record"), default="non-record")
    parser.add_argument("--name", help="of the submission (default: of the folder)")
    parser.add_argument("--author", default="")
    parser.add_argument("--github-id", default="", metavar="ID")
    parser.add_argument("--blurb", default="", help="a sentence or two on what is new")
    parser.add_argument("--hardware", help="if the logs do not say it")
    parser.add_argument("--label", help="take the score from lines of this label")
    add_standing(parser)


def add_standing(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    bar = parser.add_mutually_exclusive_group(required=required)
    bar.add_argument(
        "--standing", nargs="+", type=Path, metavar="LOG", help="logs of the standing score"
    )
    bar.add_argument(
        "--standing-loss", type=float, metavar="NATS", help="its mean val_loss, if that is all"
    )
    parser.add_argument(
        "--margin", type=float, default=0.005, metavar="NATS", help="demanded gain (default 0.005)"
    )


def significance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="one of each seed")
    add_standing(parser, required=True)
    parser.add_argument("--label", help="take the score from lines of this label")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run_submit(options: argparse.Namespace) -> int:
    if options.recipe is not None:
        return _write_program(options)
    if not options.runs or options.program is None:
        raise UsageError("give runs and their --program, or a --recipe to make a program of")
    from pgolf_codec.eval.submission import (
        MAX_BYTES,
        Details,
        make_submission,
        read_run,
        write_submission,
    )

    runs = [read_run(path, options.label) for path in options.runs]
    with files.reading(options.program) as file:
        program = file.read()
    details = Details(
        name=options.name or options.output.name,
        author=options.author,
        github_id=options.github_id,
        blurb=options.blurb,
        date=datetime.now(UTC).date().isoformat(),
        track=options.track,
        hardware=options.hardware,
    )
    compared = options.standing is not None or options.standing_loss is not None
    verdict = _verdict([run.log for run in runs], options) if compared else None
    submission = make_submission(runs, program, details, verdict)
    write_submission(submission, options.output)
    left = MAX_BYTES - submission.bytes_total
    print(f"{options.output}: val_bpb {submission.val_bpb:.6f}, {left:,} bytes to spare")
    return OK


def _write_program(options: argparse.Namespace) -> int:
    from pgolf_codec.eval.bundle import make_bundle
    from pgolf_codec.lm.presets import preset_path

    if options.runs or options.program is not None:
        raise UsageError("--recipe makes a program; runs and --program are for a folder")
    with files.reading(preset_path(str(options.recipe))) as file:
        recipe = file.read().decode("utf-8", "replace")
    program = make_bundle(recipe, name=options.name or options.recipe.stem, plain=options.plain)
    with files.replacing(options.output) as file:
        file.write(program)
    print(f"{options.output}: {len(program):,} bytes")
    return OK


def _verdict(runs: list[RunLog], options: argparse.Namespace) -> Verdict:
    """Runs against the standing score that the options name."""
    from pgolf_codec.eval.logs import read_log
    from pgolf_codec.eval.significance import compare, compare_logs, need_different_runs

    need_different_runs(runs)
    if options.standing is not None:
        standing = [read_log(path) for path in options.standing]
        return compare_logs(runs, standing, margin=options.margin)
    losses = [run.score.val_loss for run in runs]
    return compare(losses, [options.standing_loss], margin=options.margin)


def run_significance(options: argparse.Namespace) -> int:
    """Exit status 0: better by the margin at p < 0.01."""
    from pgolf_codec.eval.logs import read_log

    runs = [read_log(path, options.label) for path in options.logs]
    verdict = _verdict(runs, options)
    if options.json:
        print(json.dumps(dataclasses.asdict(verdict) | {"significant": verdict.significant}))
    else:
        for run in runs:
            bpb, label = run.score.val_bpb, run.score.label
            print(f"seed {run.seed}  val_bpb {bpb:.6f}  {label}  {run.path.name}")
        print(verdict.describe(), end="")
    return OK if verdict.significant else FAILED


def _data_fineweb(options: argparse.Namespace) -> int:
    from pgolf_codec.lm.data.hub import Hub, download_variant

    named = {"repository": options.repository, "dataset": options.dataset, "prefix": options.prefix}
    source = dataclasses.replace(
        VARIANTS[options.variant],
        **{key: value for key, value in named.items() if value is not None},
    )
    hub = Hub(source=source, folder=options.output, revision=options.revision, report=_tell)
    print(download_variant(hub, options.train_shards))
    return OK


def _data_build(options: argparse.Namespace) -> int:
    from pgolf_codec.lm.data.dataset_writer import DatasetOptions, build_dataset
    from pgolf_codec.lm.data.tokenizers import load_tokenizer

    if options.lossless and options.tokenizer is None:
        raise UsageError("--lossless goes with --tokenizer: a trained one is lossless")
    named = {
        key: getattr(options, key)
        for key in ("name", "stem", "shard_tokens", "val_share", "val_documents")
        if getattr(options, key) is not None
    }
    settings = DatasetOptions(
        **named,
        val_files=tuple(options.val or ()),
        keep_overlap=options.keep_overlap,
        case=options.case,
        workers=options.workers,
    )
    tokenizer = options.vocab_size
    if options.tokenizer is not None:
        with files.reading(options.tokenizer):
            tokenizer = load_tokenizer(
                options.tokenizer, lossless=options.lossless, case=options.case
            )
    with Progress("build", None, sys.stderr) as progress:
        folder = build_dataset(
            options.inputs,
            options.output,
            tokenizer,
            settings,
            log=_tell,
            progress=progress.update,
        )
    print(folder)
    return OK


def _data_check(options: argparse.Namespace) -> int:
    from pgolf_codec.lm.data.dataset import check_tokens
    from pgolf_codec.lm.data.manifest import (
        check_no_overlap,
        check_shards,
        dataset_entry,
        find_manifest,
    )

    manifest: Path = options.manifest
    if manifest.is_dir():
        found = find_manifest(manifest)
        if found is None:
            raise ConfigError(f"{manifest}: there is no manifest.json")
        manifest = found
    n_bytes = check_shards(manifest, options.dataset)
    print(f"{n_bytes:,} bytes of shards have the digests that the manifest states")
    n_compared = check_no_overlap(manifest, options.dataset)
    if n_compared is None and options.tokens:
        n_compared = check_tokens(dataset_entry(manifest, options.dataset).folder)
    if n_compared is None:
        print("the manifest states no hashes of documents: the splits were not compared")
    else:
        print(f"none of {n_compared:,} training documents is a validation document")
    return OK


def _tell(line: str) -> None:
    """One line on stderr, in place of whatever progress is drawn there."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{clear}{line}", file=sys.stderr, flush=True)
