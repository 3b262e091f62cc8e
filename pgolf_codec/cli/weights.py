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
    from pgolf_codec.quant.tensors import Tensor

SUFFIX = ".pgw"


def pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=".safetensors, or a torch checkpoint")
    parser.add_argument("-o", "--output", metavar="OUT", help=f"default: FILE with {SUFFIX}")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite")
    _add_source(parser, default="none")
    parser.add_argument(
        "--coder", default="auto", metavar="NAME", help="see `pgolf-codec coders`; default: auto"
    )
    parser.add_argument("--json", action="store_true", help="print a report, a row a tensor")
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


def coders_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a coder")


def bench_coders_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help=f"{SUFFIX}, .pglm, .safetensors, or a torch checkpoint"
    )
    _add_source(parser, default="none")
    parser.add_argument("--coders", metavar="NAME,...", help="only these; default: all there are")
    parser.add_argument("--plot", metavar="PICTURE", help="draw bits against speed: .png, .svg")
    parser.add_argument("--json", action="store_true", help="print rows and totals as JSON")
    add_talk(parser)


def run_coders(options: argparse.Namespace) -> int:
    """One line a coder; of one that can't be loaded, why."""
    from pgolf_codec.errors import CoderNotFoundError
    from pgolf_codec.quant.coders import coder_names, find_coder
    from pgolf_codec.quant.coders.registry import BUILT_IN

    for name in coder_names():
        try:
            summary, usable = find_coder(name).summary, True
        except CoderNotFoundError as error:
            summary, usable = str(error), False
        if options.json:
            facts = {"name": name, "summary": summary, "built_in": name in BUILT_IN}
            print(json.dumps(facts | {"usable": usable}))
        else:
            print(f"{name:<16} {summary}")
    return OK


def run_bench_coders(options: argparse.Namespace) -> int:
    """Every coder on every tensor of integers."""
    from pgolf_codec.quant.coders import coder_names
    from pgolf_codec.quant.comparison import compare, draw, integers_of, totals

    names = options.coders.split(",") if options.coders else coder_names()
    tensors = integers_of(_tensors(Path(options.file), options.key), _rules(options))

    def progress(tensor: str, coder: str) -> None:
        if not options.quiet and sys.stderr.isatty():
            print(f"\r\x1b[K{tensor}  {coder}", end="", file=sys.stderr, flush=True)

    rows = compare(tensors, names, progress)
    if not options.quiet and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    found = totals(rows)
    if options.plot:
        draw(Path(options.plot), found)
    if options.json:
        print(json.dumps({"rows": [row.to_dict() for row in rows], "totals": found}))
        return OK
    print(f"{'Coder':<12} {'Bytes':>12} {'bits':>7} {'/ H0':>7} {'there':>8} {'back':>8}  Mparam/s")
    for total in found:
        print(
            f"{total['coder']:<12} {total['coded_bytes']:>12} {total['bits_per_param']:>7.4f} "
            f"{total['ratio_to_entropy'] or 1:>7.4f} {total['encode_mparam_per_second']:>8.1f} "
            f"{total['decode_mparam_per_second']:>8.1f}"
        )
    return OK


def _tensors(path: Path, key: str | None) -> dict[str, Tensor]:
    """Of any file that has some."""
    from pgolf_codec.quant.checkpoints import read_tensors

    if path.suffix == SUFFIX:
        return _packed_integers(path)
    if path.suffix == ".pglm":
        from pgolf_codec.quant.artifact import load_artifact
        from pgolf_codec.quant.tensors import Tensor

        weights = load_artifact(path).artifact.weights
        return {name: Tensor.from_array(array) for name, array in weights.tensors.items()}
    return read_tensors(path, key)


def _packed_integers(path: Path) -> dict[str, Tensor]:
    """Quantized tensors as their integers, the others as they are."""
    from pgolf_codec.quant.bag import Bag
    from pgolf_codec.quant.tensors import Tensor

    with files.reading(path) as file:
        bag, found = Bag(file), {}
        for name in bag.entries:
            quantized = bag.quantized(name)
            found[name] = bag[name] if quantized is None else Tensor.from_array(quantized.values)
    return found


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
    if options.json:
        print(json.dumps(facts))
        return
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
