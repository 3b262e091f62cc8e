"""pack, unpack, coders and bench-coders: weights ⇄ bytes."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgolf_codec import files, notices
from pgolf_codec.cli import OK, UsageError
from pgolf_codec.cli.options import add_talk, positive
from pgolf_codec.errors import (
    BudgetError,
    CoderError,
    ConfigError,
    FormatError,
    MissingPackageError,
    OutputLimitError,
    RefusedError,
    TensorError,
)
from pgolf_codec.progress import Progress

if TYPE_CHECKING:
    from pgolf_codec.codec.tokenizer import Tokenizer
    from pgolf_codec.quant.packing import Rule
    from pgolf_codec.quant.rounding import Quantized
    from pgolf_codec.quant.tensors import Tensor

SUFFIX, MODEL = ".pgw", ".pglm"
PICTURES = (".png", ".svg")
OPTIONAL = ("brotli",)
"""Coders of ours that need a package which is an option."""
SEQ_LEN = 1024
"""Ids of a row of calibration text."""
_ZSTD = b"\x28\xb5\x2f\xfd"
"""What a tokenizer of ours begins with, as builds keep it (``tokenizer.bin``)."""


def pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help=".safetensors, a torch checkpoint, or a .pglm to code again"
    )
    parser.add_argument("-o", "--output", metavar="OUT", help=f"default: FILE with {SUFFIX}")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite")
    _add_source(parser)
    parser.add_argument(
        "--coder", metavar="NAME", help="see `pgolf-codec coders`; default: the recipe's, or auto"
    )
    parser.add_argument(
        "--budget", type=positive, metavar="BYTES",
        help="search the steps at which file and --code just fit; --quant is then trellis",
    )  # fmt: skip
    parser.add_argument(
        "--code", nargs="+", default=[], metavar="FILE", help="counted in the budget, as it is"
    )
    parser.add_argument("--json", action="store_true", help="print a report, a row a tensor")
    model = parser.add_argument_group(f"a checkpoint of `pgolf-codec train` as a model ({MODEL})")
    model.add_argument("--tokenizer", metavar="FILE", help="a sentencepiece model, or ours")
    model.add_argument(
        "--calibration", metavar="FILE", help="training text, or its ids: a shard, or uint16 (.bin)"
    )
    model.add_argument(
        "--recipe",
        metavar="NAME",
        help="a preset or .toml, whose [export] says how; default: trellis",
    )
    add_talk(parser)


def unpack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"a {SUFFIX}")
    parser.add_argument("-o", "--output", metavar="OUT", help="default: FILE with .safetensors")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite")
    parser.add_argument(
        "--tensor", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument(
        "--integers", action="store_true",
        help="quantized tensors as NAME.q, NAME.s, NAME.t; NAME.g: columns in a group of scales",
    )  # fmt: skip
    add_talk(parser)


def run_pack(options: argparse.Namespace) -> int:
    """Read, quantize and code, write, report."""
    from pgolf_codec.quant.budget import Bill, decoder_bytes, file_bytes

    source = _source(options)
    code_bytes = file_bytes(map(Path, options.code))
    tokenizer_bytes = file_bytes([Path(options.tokenizer)] if options.tokenizer else [])
    if options.budget is not None and code_bytes >= options.budget:
        raise BudgetError(f"--code alone has {code_bytes:,} bytes of {options.budget:,}")
    if source.suffix == MODEL:
        target, blob, tensors = _coded_again(options, source)
    elif options.calibration or Path(options.output or "").suffix == MODEL:
        target, blob, tensors = _packed_model(options, source, code_bytes)
    else:
        target, blob, tensors = _packed_tensors(options, source, code_bytes)
    with files.replacing(target, overwrite=options.force) as out:
        out.write(blob)
    _search_file(target).unlink(missing_ok=True)
    beside = 0 if target.suffix == MODEL else tokenizer_bytes  # a .pglm contains it
    bill = Bill(len(blob), code_bytes, beside, decoder_bytes())
    _report(options, tensors | {"bill": bill.to_dict()})
    return OK


def _packed_tensors(
    options: argparse.Namespace, source: Path, code_bytes: int
) -> tuple[Path, bytes, dict[str, Any]]:
    """Where to, what, and its report: any tensors as a .pgw."""
    from pgolf_codec.quant.checkpoints import read_with_metadata
    from pgolf_codec.quant.coders import find_coder
    from pgolf_codec.quant.packing import pack, pack_within

    _refuse_unused(options, ["recipe"], f"is for a {MODEL}, with --calibration")
    target = Path(options.output) if options.output else source.with_suffix(SUFFIX)
    _check_target(target, options)
    rules, coder = _rules(options), "auto" if options.coder is None else options.coder
    for name in (coder, *(rule.coder for rule in rules)):
        if name not in (None, "auto"):
            find_coder(name)
    with _naming(source):
        tensors, metadata = read_with_metadata(source, options.key)
    _tell_unused(rules, tensors)
    if options.budget is None:
        n_total = sum(tensor.n_bytes for tensor in tensors.values())
        with Progress(options.file, n_total, None if options.quiet else sys.stderr) as progress:
            blob, report = pack(
                tensors, rules=rules, coder=coder, progress=progress.update, metadata=metadata
            )
    else:
        with _searching(target) as keep:
            blob, report = pack_within(
                tensors,
                options.budget,
                rules=rules,
                coder=coder,
                more_bytes=code_bytes,
                keep=keep,
                log=_log(options),
                metadata=metadata,
            )
    return target, blob, report.to_dict()


def _packed_model(
    options: argparse.Namespace, source: Path, code_bytes: int
) -> tuple[Path, bytes, dict[str, Any]]:
    """The same, of a checkpoint of ours as a .pglm."""
    import dataclasses

    from pgolf_codec.codec.tokenizer import Tokenizer
    from pgolf_codec.lm.export_config import ExportConfig, load_export_config
    from pgolf_codec.lm.presets import preset_path

    _refuse_unused(options, ["quant", "rules", "key"], f"is not for a {MODEL}: see --recipe")
    if not (options.tokenizer and options.calibration):
        raise ConfigError(f"a {MODEL} needs --tokenizer and --calibration")
    recipe = options.recipe
    config = load_export_config(preset_path(recipe)) if recipe else ExportConfig()
    if options.coder is not None:
        config = dataclasses.replace(config, coder=options.coder)
    if options.budget is not None:
        config = dataclasses.replace(config, max_bytes=options.budget)
    try:
        from pgolf_codec.lm.artifact import pack
        from pgolf_codec.lm.conversion.export import load_checkpoint
    except ImportError as error:
        raise MissingPackageError(f"{source}: pip install pgolf-codec[train] ({error})") from None
    target = Path(options.output) if options.output else source.with_suffix(MODEL)
    _check_target(target, options)
    data = Path(options.tokenizer).read_bytes()
    ours = data.startswith(_ZSTD)
    tokenizer = Tokenizer.from_bytes(data) if ours else Tokenizer.from_sentencepiece(data)
    with _ids(Path(options.calibration), tokenizer) as ids, _searching(target) as keep:
        blob = pack(
            load_checkpoint(source, SEQ_LEN),
            ids,
            tokenizer,
            config,
            name=target.stem,
            seq_len=SEQ_LEN,
            more_bytes=code_bytes,
            keep=keep,
            log=_log(options),
        )
    return target, blob, _sections(blob)


def _coded_again(options: argparse.Namespace, source: Path) -> tuple[Path, bytes, dict[str, Any]]:
    """The same weights in a .pglm by another coder."""
    from pgolf_codec.quant.artifact import dump_artifact, load_artifact

    if options.budget is not None:
        raise ConfigError(f"{source}: steps can be searched from a checkpoint only")
    needless = ["quant", "rules", "key", "calibration", "recipe"]
    _refuse_unused(options, needless, f"is for a checkpoint: a {MODEL} is only coded again")
    target = Path(options.output) if options.output else source
    _check_target(target, options)
    model = load_artifact(source).artifact
    coder = "auto" if options.coder is None else options.coder
    blob = dump_artifact(
        model.weights, model.tokenizer, name=model.name, bpb=model.bpb, coder=coder
    )
    return target, blob, _sections(blob)


def _sections(blob: bytes) -> dict[str, Any]:
    """The report of a .pglm."""
    from pgolf_codec.quant.artifact import parse_artifact
    from pgolf_codec.quant.packing import order_0_entropy

    found = parse_artifact(blob)
    rows = []
    for name, tensor in found.weights.tensors.items():
        rows.append(
            {
                "tensor": name,
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype),
                "coder": found.codings[name],
                "coded_bytes": found.coded_sizes[name],
                "total_bits_per_param": 8 * found.coded_sizes[name] / max(1, tensor.size),
                "entropy_bits_per_param": order_0_entropy(tensor),
            }
        )
    n_params = found.weights.n_params
    totals = {
        "n_params": n_params,
        "file_bytes": len(blob),
        "bits_per_param": 8 * len(blob) / n_params,
    }
    return {"tensors": rows, "totals": totals}


@contextlib.contextmanager
def _ids(path: Path, tokenizer: Tokenizer) -> Iterator[Path]:
    """A file of ids: this one, or a temporary one with those of a text."""
    if path.suffix == ".bin":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder) / "train.bin"
        ids.write_bytes(tokenizer.encode(path.read_bytes()).astype("<u2").tobytes())
        yield ids


def _source(options: argparse.Namespace) -> Path:
    if options.file == "-":
        raise UsageError("FILE needs the name of a file")
    return Path(options.file)


def _check_target(target: Path, options: argparse.Namespace) -> None:
    """Before the work, not behind it."""
    if str(target) == "-" or files.is_open_file(target):
        raise UsageError("-o needs the name of a file")
    files.check_target(str(target))
    if target.exists() and not options.force:
        raise RefusedError(target, "already exists; not overwritten")
    source = Path(options.file)
    if source.suffix != MODEL and files.same_file(target, source):
        raise RefusedError(target, "is the source")


def _refuse_unused(options: argparse.Namespace, names: list[str], why: str) -> None:
    """What would be ignored may matter to the user."""
    for name in names:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} {why}")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors in a file's contents begin with its name."""
    try:
        yield
    except (FormatError, TensorError, CoderError, OutputLimitError) as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise type(error)(f"{path}: {error}") from None


@contextlib.contextmanager
def _searching(target: Path) -> Iterator[Path]:
    """The file of a search: it stays if the search is stopped, not if nothing lands."""
    path = _search_file(target)
    try:
        yield path
    except BudgetError:
        path.unlink(missing_ok=True)
        raise


def _search_file(target: Path) -> Path:
    """What a search weighed so far; removed when the output is there."""
    return target.with_name(f"{target.name}.search")


def _log(options: argparse.Namespace) -> Callable[[str], None]:
    def log(line: str) -> None:
        if not options.quiet and (options.verbose or sys.stderr.isatty()):
            print(line, file=sys.stderr, flush=True)

    return log


def run_unpack(options: argparse.Namespace) -> int:
    """Write the tensors, or those asked for, as .safetensors."""
    from pgolf_codec.quant.bag import Bag
    from pgolf_codec.quant.safetensors_file import write_safetensors

    source = _source(options)
    target = Path(options.output) if options.output else source.with_suffix(".safetensors")
    tensors: dict[str, Tensor] = {}
    with files.reading(source) as file, _naming(source):
        if not file.seekable():
            raise RefusedError(source, "is a pipe; tensors are read from files")
        bag = Bag(file)
        _check_target(target, options)
        for name in dict.fromkeys(options.tensor or bag):
            if name not in bag:
                raise TensorError(f"has no tensor {name!r}")
            quantized = bag.quantized(name) if options.integers else None
            parts = {name: bag[name]} if quantized is None else _parts(name, quantized)
            if twice := tensors.keys() & parts.keys():
                raise TensorError(f"two tensors would be named {min(twice)!r}")
            tensors |= parts
    write_safetensors(target, tensors, metadata=bag.metadata, overwrite=options.force)
    return OK


def _parts(name: str, quantized: Quantized) -> dict[str, Tensor]:
    """Integers and scales as tensors of their own."""
    import numpy as np

    from pgolf_codec.quant.tensors import Tensor

    parts = {
        "q": _narrow(quantized.values),
        "g": np.array(quantized.group_columns) if quantized.group_columns else None,
        "s": quantized.row_scales,
        "t": quantized.column_scales,
    }
    return {
        f"{name}.{suffix}": Tensor.from_array(array)
        for suffix, array in parts.items()
        if array is not None
    }


def coders_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a coder")


def bench_coders_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help=f"{SUFFIX}, .pglm, .safetensors, or a torch checkpoint"
    )
    _add_source(parser)
    parser.add_argument("--coders", metavar="NAME,...", help="only these; default: all there are")
    parser.add_argument("--plot", metavar="PICTURE", help="draw bits against speed: .png, .svg")
    parser.add_argument("--json", action="store_true", help="print rows and totals as JSON")
    add_talk(parser)


def run_coders(options: argparse.Namespace) -> int:
    """One line a coder; of one that can't be loaded, why."""
    from pgolf_codec.quant.coders import coder_names, find_coder
    from pgolf_codec.quant.coders.registry import BUILT_IN

    for name in coder_names():
        problem = _problem(name)
        summary, usable = problem or find_coder(name).summary, problem is None
        if options.json:
            facts = {"name": name, "summary": summary, "built_in": name in BUILT_IN}
            print(json.dumps(facts | {"usable": usable}))
        else:
            print(f"{name:<16} {summary}")
    return OK


def run_bench_coders(options: argparse.Namespace) -> int:
    """Every coder on every tensor of integers."""
    from pgolf_codec.quant.comparison import compare, draw, integers_of, totals

    if options.plot and Path(options.plot).suffix not in PICTURES:
        raise UsageError(f"--plot draws {' or '.join(PICTURES)}")
    files.check_target(options.plot)
    asked = None if options.coders is None else options.coders.split(",")
    names = _usable_coders() if asked is None else list(dict.fromkeys(asked))
    with _naming(Path(options.file)):
        found_tensors, rules = _tensors(options), _rules(options)
        _tell_unused(rules, found_tensors)
        tensors = integers_of(found_tensors, rules)

    def progress(tensor: str, coder: str) -> None:
        if not options.quiet and sys.stderr.isatty():
            print(f"\r\x1b[K{tensor}  {coder}", end="", file=sys.stderr, flush=True)

    rows = compare(tensors, names, progress)
    if not options.quiet and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    found = totals(rows)
    if options.json:
        print(json.dumps({"rows": [row.to_dict() for row in rows], "totals": found}))
    else:
        _print_totals(found)
    if options.plot:
        draw(Path(options.plot), found)
    return OK


def _usable_coders() -> list[str]:
    """All that work here; tells why others don't."""
    from pgolf_codec.quant.coders import coder_names

    problems = {name: _problem(name) for name in coder_names()}
    for problem in filter(None, problems.values()):
        notices.tell(f"left out: {problem}")
    return [name for name, problem in problems.items() if problem is None]


def _problem(name: str) -> str | None:
    """Why a coder can't be used here; None if it can."""
    import numpy as np

    from pgolf_codec.quant import coders

    try:
        coders.find_coder(name)
        if name in OPTIONAL:
            coders.encode(np.zeros(1, np.int32), name)
    except (CoderError, MissingPackageError) as error:
        return str(error)
    return None


def _print_totals(found: list[dict[str, Any]]) -> None:
    print(f"{'Coder':<12} {'Bytes':>12} {'bits':>7} {'/ H0':>7} {'there':>8} {'back':>8}  Mparam/s")
    for total in found:
        print(
            f"{total['coder']:<12} {total['coded_bytes']:>12} {total['bits_per_param']:>7.4f} "
            f"{total['ratio_to_entropy'] or 1:>7.4f} {total['encode_mparam_per_second']:>8.1f} "
            f"{total['decode_mparam_per_second']:>8.1f}"
        )


def _tensors(options: argparse.Namespace) -> dict[str, Tensor]:
    """Of any file that has some."""
    from pgolf_codec.quant.checkpoints import read_tensors

    path = Path(options.file)
    if path.suffix in (SUFFIX, MODEL):
        _refuse_unused(options, ["key"], f"is for a torch checkpoint, not a {path.suffix}")
    if path.suffix == SUFFIX:
        return _packed_integers(path)
    if path.suffix == MODEL:
        from pgolf_codec.quant.artifact import load_artifact
        from pgolf_codec.quant.tensors import Tensor

        weights = load_artifact(path).artifact.weights
        return {name: Tensor.from_array(array) for name, array in weights.tensors.items()}
    return read_tensors(path, options.key)


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


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quant", metavar="SCHEME",
        help="none, int8, int6, int5, int4, ternary, binary; int6:12.85 clips rows at 12.85 "
        "standard deviations, ternary:0.61 has zeros below 0.61 of them, ternary/64 (int4/32, "
        "ternary:0.61/64) has a scale for every 64 columns of a row, ternary/matrix (int8/matrix) "
        "one for the matrix, as BitNet b1.58; step:0.4, priced:0.4, "
        "trellis:0.4 and trellis32:0.4 have steps of 0.4 standard deviations; default: none",
    )  # fmt: skip
    parser.add_argument("--rules", metavar="TOML", help="schemes by name pattern")
    parser.add_argument("--key", help="the entry of a checkpoint that has the weights")


def _rules(options: argparse.Namespace) -> list[Rule]:
    """Those of the file, then one for every matrix that is left."""
    from pgolf_codec.quant.packing import LEAST_ITEMS, Rule, parse_rules, parse_scheme

    rules = []
    if options.rules is not None:
        try:
            rules = parse_rules(Path(options.rules).read_text(encoding="utf-8"))
        except ValueError as error:  # a ConfigError, or it is not UTF-8
            raise ConfigError(f"{options.rules}: {error}") from None
    quant = options.quant
    if quant is None:
        quant = "none" if getattr(options, "budget", None) is None else "trellis"
    return [*rules, Rule("*", parse_scheme(quant), least_items=LEAST_ITEMS)]


def _tell_unused(rules: Iterable[Rule], names: Collection[str]) -> None:
    """A pattern without a tensor is more often a slip than a wish."""
    for rule in rules:
        if names and not rule.matches_any(names):
            notices.tell(f"no tensor matches the rule {rule.match!r}")


def _report(options: argparse.Namespace, facts: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(facts))
        return
    if options.verbose:
        for row in facts["tensors"]:
            _print_row(row)
    if options.quiet:
        return
    totals, bill = facts["totals"], facts["bill"]
    print(
        f"{totals['n_params']} parameters, {totals['file_bytes']} bytes, "
        f"{totals['bits_per_param']:.3f} bits a parameter"
    )
    if options.budget is not None or options.code:
        print(
            f"As the challenge counts: {bill['challenge_bytes']} bytes, "
            f"{bill['code_bytes']} of them code; "
            f"with tokenizer and decoder: {bill['all_bytes']}"
        )


def _print_row(row: dict[str, Any]) -> None:
    shape = "×".join(map(str, row["shape"]))
    print(
        f"{row['tensor']:<40} {shape:>14} {row.get('scheme', ''):<12} {row['coder']:<10} "
        f"{row['coded_bytes']:>10} + {row.get('scale_bytes', 0)} bytes"
    )


def _narrow(values: Any) -> Any:
    """The least of int8, int16, int32 that holds the values."""
    import numpy as np

    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values
