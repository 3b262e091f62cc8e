"""pack, unpack, coders and bench-coders: weights ⇄ bytes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgolf_codec import files
from pgolf_codec.cli import OK
from pgolf_codec.cli.options import add_talk
from pgolf_codec.progress import Progress

if TYPE_CHECKING:
    from pgolf_codec.quant.packing import PackReport, Rule

SUFFIX = ".pgw"


def pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=".safetensors, or a torch checkpoint")
    parser.add_argument("-o", "--output", metavar="OUT", help=f"default: FILE with {SUFFIX}")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite")
    _add_source(parser, default="none")
    parser.add_argument(
        "--coder", default="auto", metavar="NAME", help="see `pgolf-codec coders`; default: auto"
    )
    parser.add_argument("--json", metavar="REPORT", help="write a report here (`-`: stdout)")
    add_talk(parser)


def unpack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"a {SUFFIX}")
    parser.add_argument("-o", "--output", metavar="OUT", help="default: FILE with .safetensors")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite")
    parser.add_argument(
        "--tensor", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument(
        "--integers", action="store_true", help="quantized tensors as NAME.q, NAME.s, NAME.t"
    )
    add_talk(parser)


def run_pack(options: argparse.Namespace) -> int:
    """Read, quantize and code, write, report."""
    from pgolf_codec.quant.checkpoints import read_tensors
    from pgolf_codec.quant.packing import pack

    source = Path(options.file)
    rules = _rules(options)
    tensors = read_tensors(source, options.key)
    n_total = sum(tensor.n_bytes for tensor in tensors.values())
    with Progress(options.file, n_total, None if options.quiet else sys.stderr) as progress:
        blob, report = pack(tensors, rules=rules, coder=options.coder, progress=progress.update)
    target = Path(options.output) if options.output else source.with_suffix(SUFFIX)
    with files.replacing(target, overwrite=options.force) as out:
        out.write(blob)
    _report(options, report)
    return OK


def run_unpack(options: argparse.Namespace) -> int:
    """Write the tensors, or those asked for, as .safetensors."""
    from pgolf_codec.errors import TensorError
    from pgolf_codec.quant.bag import Bag
    from pgolf_codec.quant.safetensors_file import write_safetensors
    from pgolf_codec.quant.tensors import Tensor

    source = Path(options.file)
    tensors: dict[str, Tensor] = {}
    with files.reading(source) as file:
        bag = Bag(file)
        for name in options.tensor or bag:
            if name not in bag:
                raise TensorError(f"{source}: has no tensor {name!r}")
            quantized = bag.quantized(name) if options.integers else None
            if quantized is None:
                tensors[name] = bag[name]
                continue
            tensors[f"{name}.q"] = Tensor.from_array(_narrow(quantized.values))
            for suffix, scales in (("s", quantized.row_scales), ("t", quantized.column_scales)):
                if scales is not None:
                    tensors[f"{name}.{suffix}"] = Tensor.from_array(scales)
    target = Path(options.output) if options.output else source.with_suffix(".safetensors")
    write_safetensors(target, tensors, overwrite=options.force)
    return OK


def _add_source(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--quant", default=default, metavar="SCHEME",
        help="none, int8, int6, int5, int4, ternary, binary; int6:12.85 clips rows at 12.85 "
        f"standard deviations; default: {default}",
    )  # fmt: skip
    parser.add_argument("--rules", metavar="TOML", help="schemes by name pattern")
    parser.add_argument("--key", help="the entry of a checkpoint that has the weights")


def _rules(options: argparse.Namespace) -> list[Rule]:
    """Those of the file, then one for every matrix that is left."""
    from pgolf_codec.quant.packing import LEAST_ITEMS, Rule, parse_rules, parse_scheme

    rules = []
    if options.rules:
        rules = parse_rules(Path(options.rules).read_text(encoding="utf-8"))
    return [*rules, Rule("*", parse_scheme(options.quant), least_items=LEAST_ITEMS)]


def _report(options: argparse.Namespace, report: PackReport) -> None:
    facts = report.to_dict()
    if options.json == "-":
        print(json.dumps(facts))
        return
    if options.json is not None:
        with files.replacing(Path(options.json), overwrite=True) as out:
            out.write(json.dumps(facts, indent=1).encode() + b"\n")
    if options.verbose:
        for row in facts["tensors"]:
            _print_row(row)
    if not options.quiet:
        totals = facts["totals"]
        print(
            f"{totals['n_params']} parameters, {totals['file_bytes']} bytes, "
            f"{totals['bits_per_param']:.3f} bits a parameter"
        )


def _print_row(row: dict[str, Any]) -> None:
    shape = "×".join(map(str, row["shape"]))
    print(
        f"{row['tensor']:<40} {shape:>14} {row['scheme']:<12} {row['coder']:<10} "
        f"{row['coded_bytes']:>10} + {row['scale_bytes']} bytes"
    )


def _narrow(values: Any) -> Any:
    """The least of int8, int16, int32 that holds the values."""
    import numpy as np

    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values
