"""list and models: verbs that tell, and write nothing."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgolf_codec import files
from pgolf_codec.cli import FAILED, OK, blame, complain
from pgolf_codec.cli.options import add_talk
from pgolf_codec.errors import PgolfError

if TYPE_CHECKING:
    from pgolf_codec.codec.inspection import ArchiveInfo

_LIST_HEAD = f"{'Frames':>6} {'Archive':>12} {'Original':>12} {'Ratio':>6} {'bpb':>6}  Model"


def list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="an archive")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    add_talk(parser)


def models_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a model")


def run_list(options: argparse.Namespace) -> int:
    """One line a file, from headers and index alone."""
    from pgolf_codec.codec.inspection import inspect

    status = OK
    if not options.json:
        print(f"{_LIST_HEAD:<64} {'Methods':<20} File")
    for name in options.files:
        try:
            with files.reading(Path(name)) as file:
                info = inspect(file)
        except (PgolfError, OSError) as error:
            status, message = FAILED, blame(error, name)
            complain(message)
            if options.json:
                report = {"error": type(error).__name__, "message": message}
                print(json.dumps({"file": name, "ok": False} | report))
            continue
        facts = _facts(info)
        if options.json:
            print(json.dumps({"file": name, "ok": True} | facts))
        else:
            print(_list_line(name, facts))
            if options.verbose:
                print(_frame_lines(info), end="")
    return status


def run_models(options: argparse.Namespace) -> int:
    """What came with the package; the default comes first."""
    from pgolf_codec.models import list_models

    if not options.json:
        print(f"{'Name':<16} {'Bytes':>10} {'Parameters':>12} {'bpb':>7}  Fingerprint")
    for model in list_models():
        facts = {
            "name": model.name,
            "bytes": model.n_bytes,
            "parameters": model.n_parameters,
            "bpb": model.bpb,
            "fingerprint": model.fingerprint.hex(),
        }
        if options.json:
            print(json.dumps(facts))
        else:
            bpb = "-" if model.bpb is None else f"{model.bpb:.4f}"
            print(
                f"{model.name:<16} {model.n_bytes:>10} {model.n_parameters:>12} {bpb:>7}  "
                f"{facts['fingerprint']}"
            )
    return OK


def _facts(info: ArchiveInfo) -> dict[str, Any]:
    methods = Counter(
        frame.method.name.lower() for member in info.members for frame in member.frames
    )
    return {
        "file_bytes": info.n_bytes,
        "raw_bytes": info.raw_bytes,
        "bpb": 8 * info.n_bytes / info.raw_bytes if info.raw_bytes else None,
        "frames": dict(sorted(methods.items())),
        "model_fingerprints": sorted({member.fingerprint.hex() for member in info.members}),
        "formats": sorted({member.format_version for member in info.members}),
        "numerics": sorted({member.numerics_version for member in info.members}),
    }


def _list_line(name: str, facts: dict[str, Any]) -> str:
    """Columns as in ``_LIST_HEAD``; the ratio is that of ``xz -l``."""
    n_raw, n_file = facts["raw_bytes"], facts["file_bytes"]
    ratio = f"{n_file / n_raw:.3f}" if n_raw else "---"
    bpb = f"{facts['bpb']:.3f}" if n_raw else "---"
    model = ",".join(facts["model_fingerprints"])
    methods = ", ".join(f"{method} {n}" for method, n in facts["frames"].items()) or "-"
    n_frames = sum(facts["frames"].values())
    columns = f"{n_frames:>6} {n_file:>12} {n_raw:>12} {ratio:>6} {bpb:>6}  {model}"
    return f"{columns:<64} {methods:<20} {name}"


def _frame_lines(info: ArchiveInfo) -> str:
    lines = [
        f"  frame {frame.index}: {frame.n_bytes} bytes at offset {frame.offset}, "
        f"{frame.method.name.lower()}, original {frame.raw_bytes} bytes from {frame.raw_start}\n"
        for member in info.members
        for frame in member.frames
    ]
    return "".join(lines)
