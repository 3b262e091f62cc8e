"""compress, decompress and test: one file after the other, an error stops only its own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from pgolf_codec import files
from pgolf_codec.cli import FAILED, OK, SUFFIX, UsageError, blame, complain
from pgolf_codec.cli.options import (
    add_adapt,
    add_device,
    add_model,
    add_output,
    add_talk,
    add_threads,
    positive,
)
from pgolf_codec.errors import PgolfError, RefusedError
from pgolf_codec.progress import Progress, size

_STDIN, _STDOUT = "(stdin)", "(stdout)"

Target = Path | Literal["-"] | None
"""Where output goes: a file, standard output, nowhere."""


class Source(NamedTuple):
    """An open input."""

    file: BinaryIO
    name: str
    status: os.stat_result | None
    """Of a regular file."""


class SkippedError(Exception):
    """A file that this verb has nothing to do with: a warning, unlike an error."""


Transfer = Callable[[Source, BinaryIO, Progress], dict[str, Any]]
"""Codes all of a source; returns what there is to tell: ``raw_bytes``, ``file_bytes`` ..."""


def compress_options(parser: argparse.ArgumentParser) -> None:
    _coding_options(parser)
    add_output(parser)
    add_adapt(parser)
    parser.add_argument(
        "--streams",
        type=positive,
        metavar="N",
        help="parts coded side by side, 1 to 64: more are faster, and compress less",
    )


def decompress_options(parser: argparse.ArgumentParser) -> None:
    _coding_options(parser)
    add_output(parser)


def test_options(parser: argparse.ArgumentParser) -> None:
    _coding_options(parser)


def _coding_options(parser: argparse.ArgumentParser) -> None:
    """What compress, decompress and test have in common."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="`-` or none: standard input")
    add_model(parser)
    add_threads(parser)
    add_device(parser)
    add_talk(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a file, on stdout")


def run_compress(options: argparse.Namespace) -> int:
    """Write an archive for each file."""
    import pgolf_codec
    from pgolf_codec.codec.stream import compress_stream
    from pgolf_codec.devices import adapting, frame_coder
    from pgolf_codec.eval.bpb import Sizes

    model = adapting(pgolf_codec.load_model(options.model), options.device, options.adapt)
    coder = frame_coder(options.device)

    def transfer(source: Source, out: BinaryIO, progress: Progress) -> dict[str, Any]:
        stats = compress_stream(
            source.file,
            out,
            model=model,
            threads=options.threads,
            streams=options.streams,
            coder=coder,
            progress=progress.update,
        )
        return dataclasses.asdict(Sizes.of(stats)) | {
            "frames": {m.name.lower(): n for m, n in sorted(stats.n_frames.items())},
            "model_fingerprint": model.predictor.fingerprint.hex(),
        }

    return _each(options, transfer)


def run_decompress(options: argparse.Namespace) -> int:
    """Write the original of each archive."""
    return _each(options, _decoder(options))


def run_test(options: argparse.Namespace) -> int:
    """Decode each archive and let its checksums and its digest speak."""
    options.output, options.stdout, options.force, options.remove = None, False, False, False
    return _each(options, _decoder(options))


def _decoder(options: argparse.Namespace) -> Transfer:
    import pgolf_codec
    from pgolf_codec.codec.stream import ArchiveReader
    from pgolf_codec.devices import frame_coder
    from pgolf_codec.models import find_by_fingerprint

    model = find_by_fingerprint if options.model is None else pgolf_codec.load_model(options.model)
    coder = frame_coder(options.device)

    def transfer(source: Source, out: BinaryIO, progress: Progress) -> dict[str, Any]:
        archive, n_raw = _Counted(source.file), 0
        reader = ArchiveReader(
            archive, model=model, threads=options.threads, coder=coder, progress=progress.update
        )
        while block := reader.read1():
            out.write(block)
            n_raw += len(block)
        return {"raw_bytes": n_raw, "file_bytes": archive.n_bytes}

    return transfer


def _each(options: argparse.Namespace, transfer: Transfer) -> int:
    """Run one verb over all its files; FAILED if any of them failed or was skipped."""
    names: list[str] = options.files or ["-"]
    _check_options(options, names)
    status = OK
    for name in names:
        shown = _STDIN if name == "-" else name
        report: dict[str, Any] = {"file": shown, "ok": True}
        try:
            report |= _one(name, options, transfer)
        except SkippedError as reason:
            status, report = FAILED, report | {"ok": False, "skipped": str(reason)}
            if not options.quiet:
                complain(f"{shown}: {reason}; skipped")
        except BrokenPipeError:
            raise
        except (PgolfError, OSError, MemoryError) as error:
            message = blame(error, shown)
            status = FAILED
            report |= {"ok": False, "error": type(error).__name__, "message": message}
            complain(message)
        if options.json:
            print(json.dumps(report), flush=True)
        if options.verbose and report["ok"]:
            complain(_summary(report))
    return status


def _check_options(options: argparse.Namespace, names: list[str]) -> None:
    to_stdout = options.stdout or options.output == "-"
    if options.stdout and options.output not in (None, "-"):
        raise UsageError("-c and -o FILE exclude each other")
    if options.output not in (None, "-") and len(names) > 1:
        raise UsageError("-o takes one input file")
    if options.remove and to_stdout:
        raise UsageError("--rm needs an output file")
    if (
        options.json
        and options.verb != "test"
        and (to_stdout or (names == ["-"] and not options.output))
    ):
        raise UsageError("--json and data can't share standard output")


def _one(name: str, options: argparse.Namespace, transfer: Transfer) -> dict[str, Any]:
    """One file, from its name to its report."""
    target = _target(name, options)
    with _source(name, options) as source:
        n_total = _raw_bytes(source, options)
        progress = Progress(source.name, n_total, None if options.quiet else sys.stderr)
        with _sink(target, source, options) as out, progress:
            report = transfer(source, out, progress)
    if options.remove and name != "-":
        os.unlink(name)
    n_raw = report["raw_bytes"]
    return report | {
        "output": _STDOUT if target == "-" else target and str(target),
        "bpb": 8 * report["file_bytes"] / n_raw if n_raw else None,
        "seconds": round(progress.seconds, 4),
    }


def _raw_bytes(source: Source, options: argparse.Namespace) -> int | None:
    """Size of the original, if it is easily known: progress is counted in it."""
    if source.status is None:
        return None
    if options.verb == "compress":
        return source.status.st_size
    from pgolf_codec.codec.inspection import inspect

    try:
        return inspect(source.file).raw_bytes
    except PgolfError:  # decoding will say it better
        return None
    finally:
        source.file.seek(0)


def _target(name: str, options: argparse.Namespace) -> Target:
    """Where the output of ``name`` goes; raises :class:`SkippedError` by its suffix."""
    if options.verb == "test":
        return None
    if options.output not in (None, "-"):
        return Path(options.output)
    if options.stdout or options.output == "-" or name == "-":
        return "-"
    if options.verb == "compress":
        if name.endswith(SUFFIX):
            raise SkippedError(f"already ends in {SUFFIX}")
        return Path(name + SUFFIX)
    stem = name.removesuffix(SUFFIX)
    if stem == name or not Path(name).stem:
        raise SkippedError(f"does not end in {SUFFIX}")
    return Path(stem)


@contextlib.contextmanager
def _source(name: str, options: argparse.Namespace) -> Iterator[Source]:
    if name == "-":
        if sys.stdin is None:
            raise RefusedError(_STDIN, "is closed")
        if options.verb != "compress" and sys.stdin.isatty():
            raise RefusedError(_STDIN, "is a terminal; an archive is expected")
        yield Source(sys.stdin.buffer, _STDIN, None)
        return
    path = Path(name)
    if options.remove and path.is_symlink():
        raise RefusedError(name, "is a symbolic link; --rm would remove only the link")
    with files.reading(path) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            yield Source(file, name, status)
        elif options.verb == "test" or options.stdout or options.output:
            yield Source(file, name, None)
        else:
            raise RefusedError(name, "is not a regular file; use -c or -o")


@contextlib.contextmanager
def _sink(target: Target, source: Source, options: argparse.Namespace) -> Iterator[BinaryIO]:
    if target is None:
        yield cast(BinaryIO, _Nowhere())
    elif target == "-":
        if sys.stdout is None:
            raise RefusedError(_STDOUT, "is closed")
        if options.verb == "compress" and sys.stdout.isatty() and not options.force:
            raise RefusedError(_STDOUT, "is a terminal; use -o FILE, or -f to write there anyway")
        with files.naming(_STDOUT):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
    else:
        if source.status and files.same_file(target, Path(source.name)):
            raise RefusedError(target, "is also the input")
        with files.replacing(target, overwrite=options.force, like=source.status) as out:
            yield out


def _summary(report: dict[str, Any]) -> str:
    n_raw, n_coded = report["raw_bytes"], report["file_bytes"]
    bpb = "" if report["bpb"] is None else f", {report['bpb']:.4f} bpb"
    speed = size(n_raw / max(report["seconds"], 1e-4))
    return (
        f"{report['file']}: {n_raw} bytes as {n_coded}{bpb}, {report['seconds']:.2f} s, {speed}/s"
    )


class _Counted:
    """A file to read that counts the bytes that pass."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        self.n_bytes += len(block)
        return block


class _Nowhere(io.RawIOBase):
    """Takes everything."""

    def write(self, block: Any) -> int:
        return len(block)
