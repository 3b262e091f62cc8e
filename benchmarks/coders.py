"""Entropy coders of weights, side by side on the same integers.

    python benchmarks/coders.py CHECKPOINT [--ternary CHECKPOINT] [--nncodec PYTHON]
                                           [--sets SET ...] [--only CODER ...]

writes benchmarks/results/coders.json.  Sets: the matrices of CHECKPOINT as int6 (rows
clipped at 12.85 deviations) and as ternary, with a scale a row, with one a matrix (BitNet
b1.58), and with the threshold of the least squared error; those of a model that was
trained with ternary layers (``--ternary``); synthetic ones whose true entropy is known:
normal numbers with row and column scales.  ``lrzip`` is taken where it is installed,
NNCodec where --nncodec names a Python that has it.  Bytes are of whole streams; speeds are
of processor time, one thread.  With ``--sets`` the other sets stay as they were, with
``--only`` the rows of other coders and programs.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.quant.checkpoints import read_tensors
from pgolf_codec.quant.coders import coder_names
from pgolf_codec.quant.comparison import Row, compare, totals
from pgolf_codec.quant.rounding import Scheme, quantize

RESULT = Path(__file__).parent / "results" / "coders.json"
CLIP = Scheme("int6", 12.85)
TERNARY = ("ternary", "ternary/matrix", "ternary:0.61")
SHAPES = ((1024, 256), (256, 1024), (512, 512), (4096, 256))
ROW_SPREAD, COLUMN_SPREAD = 0.3, 0.3
"""Deviations of the natural logarithm of the scales."""
NNCODEC = """
import json, sys, tempfile
import numpy as np
from nncodec import nnc
tensors = np.load(sys.argv[1])
sizes = {}
for name in tensors:
    both = []
    for array in (tensors[name], tensors[name].T):
        with tempfile.TemporaryDirectory() as folder:
            stream = nnc.compress({"w": np.ascontiguousarray(array, np.int32)},
                bitstream_path=folder + "/x.nnc", return_bitstream=True, verbose=False)
            both.append(len(stream))
    sizes[name] = min(both)
print("SIZES " + json.dumps(sizes))
"""

Tensors = dict[str, NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--nncodec", metavar="PYTHON")
    parser.add_argument("--ternary", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--sets", nargs="*", metavar="SET")
    parser.add_argument("--only", nargs="*", metavar="CODER")
    options = parser.parse_args()
    floats = {
        name: tensor.floats()
        for name, tensor in read_tensors(options.checkpoint).items()
        if tensor.is_float and len(tensor.shape) == 2 and min(tensor.shape) > 2
    }
    synthetic, synthetic_bits = synthetic_int6()
    sets: dict[str, tuple[Tensors, float | None]] = {
        "checkpoint int6": (quantized(floats, CLIP), None),
        "synthetic int6": (synthetic, synthetic_bits),
    }
    for scheme in TERNARY:
        sets[f"checkpoint {scheme}"] = (quantized(floats, Scheme.parse(scheme)), None)
    if options.ternary is not None:
        sets["trained ternary"] = (trained_ternary(options.ternary), None)
    partly = options.only or options.sets
    before: dict[str, Any] = json.loads(RESULT.read_text()) if partly else {}
    result: dict[str, Any] = {}
    for name, (tensors, true_bits) in sets.items():
        if options.sets and name not in options.sets:
            continue
        if options.only and name not in before:
            continue  # a set that was never measured whole
        rows = compare(tensors, options.only or coder_names())
        if options.only:
            stored = [Row.from_dict(row) for row in before[name]["rows"]]
            rows += [row for row in stored if row.coder not in options.only]
        sums = totals(rows)
        found = {
            "n_tensors": len(tensors),
            "n_params": sum(v.size for v in tensors.values()),
            "true_entropy_bits": true_bits,
            "totals": sums,
            "others": before[name]["others"] if options.only else others(tensors, options.nncodec),
            "rows": [row.to_dict() for row in rows],
        }
        result[name] = found
        RESULT.write_text(json.dumps(before | result, indent=1) + "\n")
        for total in sums:
            print(name, total["coder"], total["coded_bytes"], f"{total['bits_per_param']:.4f}")
        print(name, found["others"], true_bits, flush=True)


def quantized(floats: Tensors, scheme: Scheme) -> Tensors:
    """The integers of all."""
    return {name: quantize(w, scheme).values for name, w in floats.items()}


def trained_ternary(checkpoint: Path) -> Tensors:
    """The matrices of a model's layers, as they are exported: in training they were ternary."""
    from pgolf_codec.lm.conversion import export

    model = export.merge_scales(export.exportable(export.load_checkpoint(checkpoint, 1024)))
    found = {name: export.of_few_levels(name, w) for name, w in export.matrices(model).items()}
    return {name: q.values for name, q in found.items() if q is not None}


def synthetic_int6() -> tuple[Tensors, float]:
    """Tensors, and their entropy in bits a parameter given the true scales."""
    rng = np.random.default_rng(4)
    tensors, bits = {}, 0.0
    for rows, columns in SHAPES:
        sigma = np.exp(rng.normal(0, ROW_SPREAD, (rows, 1)))
        sigma = sigma * np.exp(rng.normal(0, COLUMN_SPREAD, (1, columns)))
        found = quantize(rng.normal(0, 1, (rows, columns)) * sigma, CLIP)
        assert found.row_scales is not None
        relative = sigma / found.row_scales.astype(np.float64)[:, None]
        tensors[f"{rows}x{columns}"] = found.values
        bits += true_entropy(found.values, relative)
    return tensors, bits / sum(v.size for v in tensors.values())


def true_entropy(values: NDArray[Any], sigma: NDArray[np.float64]) -> float:
    """-log2 of the probabilities of rounded normal numbers, summed."""
    erf = np.vectorize(math.erf, otypes=[float])
    upper, lower = ((np.abs(values) + d) / sigma / math.sqrt(2) for d in (0.5, -0.5))
    return float(-np.log2((erf(upper) - erf(lower)) / 2).sum())


def others(tensors: Tensors, nncodec: str | None) -> dict[str, int]:
    """Bytes of programs that are no coders here."""
    found = {}
    if np.max([np.abs(v).max() for v in tensors.values()]) == 1:
        found["base-3 + LZMA"] = sum(base_3(v) for v in tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        try:
            found["lrzip -z -L9, transposed"] = sum(
                lrzip(v, Path(folder)) for v in tensors.values()
            )
        except FileNotFoundError:
            print("lrzip is not installed")
        if nncodec:
            path = Path(folder) / "tensors.npz"
            np.savez(path, **tensors)  # type: ignore[arg-type]
            done = subprocess.run(
                [nncodec, "-c", NNCODEC, str(path)], check=False, capture_output=True, text=True
            )
            lines = [s for s in done.stdout.splitlines() if s.startswith("SIZES ")]
            if lines:
                found["NNCodec, better way round"] = sum(json.loads(lines[0][6:]).values())
            else:
                print("NNCodec failed:", done.stderr[-2000:])
    return found


def base_3(values: NDArray[Any]) -> int:
    """Five items in a byte, then LZMA, the better way round."""
    sizes = []
    for table in (values, values.T):
        digits = np.ascontiguousarray(table).reshape(-1) + 1
        digits = np.concatenate((digits, np.zeros(-len(digits) % 5, digits.dtype)))
        packed = (digits.reshape(-1, 5) * 3 ** np.arange(5)).sum(axis=1).astype(np.uint8)
        sizes.append(len(lzma.compress(packed.tobytes(), preset=9 | lzma.PRESET_EXTREME)))
    return min(sizes)


def lrzip(values: NDArray[Any], folder: Path) -> int:
    """The file's bytes; each tensor is a file, transposed, a byte an item."""
    source, target = folder / "tensor", folder / "tensor.lrz"
    source.write_bytes(values.T.astype(np.int8).tobytes())
    subprocess.run(
        ["lrzip", "-z", "-L9", "-q", "-f", "-o", str(target), str(source)],
        check=True,
        capture_output=True,
    )
    return target.stat().st_size


if __name__ == "__main__":
    main()
