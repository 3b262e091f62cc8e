"""compress-all and verify-all: all files of folders in one batch, by all ranks of torchrun."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgolf_codec.cli import FAILED, OK, SUFFIX, complain
from pgolf_codec.cli.options import (
    add_adapt,
    add_device,
    add_model,
    add_talk,
    add_threads,
    positive,
)
from pgolf_codec.cli.ranks import all_ranks
from pgolf_codec.errors import RefusedError

if TYPE_CHECKING:
    from pgolf_codec.codec.batch import Job
    from pgolf_codec.codec.frame_coder import FrameCoder
    from pgolf_codec.codec.sharding import Ranks


def compress_all_options(parser: argparse.ArgumentParser) -> None:
    _batch_options(parser)
    parser.add_argument("-o", "--output", metavar="FOLDER", help="write here, not beside the files")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite")


def verify_all_options(parser: argparse.ArgumentParser) -> None:
    _batch_options(parser)


def _batch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder with files")
    add_model(parser)
    add_threads(parser)
    add_device(parser)
    add_adapt(parser)
    parser.add_argument(
        "--streams",
        type=positive,
        metavar="N",
        help="parts of a frame coded side by side, 1 to 64: more are faster, and compress less",
    )
    add_talk(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a file, on stdout")


def run_compress_all(options: argparse.Namespace) -> int:
    """Write an archive for each file."""
    import pgolf_codec
    from pgolf_codec.codec.batch import compress_files
    from pgolf_codec.codec.sharding import together
    from pgolf_codec.devices import adapting
    from pgolf_codec.eval.bpb import Sizes

    ranks = all_ranks()
    model = adapting(pgolf_codec.load_model(options.model), options.device, options.adapt)
    coder = _coder(options, ranks)
    jobs = together(ranks, lambda: _jobs(options) if ranks.rank == 0 else [])[0]
    if ranks.rank:
        jobs = [job._replace(target=None) for job in jobs]
    for done in compress_files(
        jobs,
        model=model,
        coder=coder,
        threads=_threads(options, ranks),
        streams=options.streams,
        overwrite=options.force,
    ):
        if ranks.rank == 0:
            sizes = dataclasses.asdict(Sizes.of(done.stats))
            _tell(options, {"file": str(done.job.source), "output": str(done.job.target)} | sizes)
    return OK


def run_verify_all(options: argparse.Namespace) -> int:
    """Compress, decompress in other processes, compare; FAILED if a file does not come back."""
    from pgolf_codec.codec.sharding import together
    from pgolf_codec.eval.batch import verify_files
    from pgolf_codec.models import load_model

    ranks = all_ranks()
    receipts = verify_files(
        together(ranks, lambda: [path for path, _ in _files(options)])[0],
        model=load_model(options.model),
        coder=_coder(options, ranks),
        ranks=ranks,
        device=_device(options, ranks),
        threads=_threads(options, ranks),
        streams=options.streams,
        adapt=options.adapt,
    )
    for receipt in receipts if ranks.rank == 0 else []:
        _tell(options, dataclasses.asdict(receipt))
        if not receipt.verified:
            complain(f"{receipt.file}: does not hold: {receipt.why}")
    return OK if all(receipt.verified for receipt in receipts) else FAILED


def _coder(options: argparse.Namespace, ranks: Ranks) -> FrameCoder:
    from pgolf_codec.codec.sharding import ShardedCoder
    from pgolf_codec.devices import frame_coder

    coder = frame_coder(_device(options, ranks))
    return coder if ranks.size == 1 else ShardedCoder(coder, ranks)


def _device(options: argparse.Namespace, ranks: Ranks) -> str | None:
    """On a machine with several ranks each has a GPU of its own."""
    name: str | None = options.device
    if name == "cuda" and ranks.size > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


def _threads(options: argparse.Namespace, ranks: Ranks) -> int:
    from pgolf_codec.codec.workers import default_threads

    local = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size))
    return options.threads or max(1, default_threads() // local)


def _jobs(options: argparse.Namespace) -> list[Job]:
    """What to write where; raises :class:`RefusedError` before anything is done."""
    from pgolf_codec.codec.batch import Job

    jobs: list[Job] = []
    targets: set[Path] = set()
    for path, inside in _files(options):
        folder = path.parent if options.output is None else Path(options.output) / inside.parent
        target = folder / f"{path.name}{SUFFIX}"
        if target in targets:
            raise RefusedError(target, "would be written twice")
        if target.exists() and not options.force:
            raise RefusedError(target, "exists already; -f overwrites")
        targets.add(target)
        jobs.append(Job(path, target))
    for job in jobs:
        if job.target is not None:
            job.target.parent.mkdir(parents=True, exist_ok=True)
    return jobs


def _files(options: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Every file that is meant, and its path within the folder that was named."""
    found: list[tuple[Path, Path]] = []
    for name in options.paths:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != SUFFIX)
            found += [(p, p.relative_to(path)) for p in inside]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise RefusedError(name, "is neither a file nor a folder")
    return found


def _tell(options: argparse.Namespace, report: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(report), flush=True)
    elif not options.quiet:
        sizes = f"{report['raw_bytes']} bytes as {report['file_bytes']}"
        print(f"{report['file']}: {sizes}", file=sys.stderr)
