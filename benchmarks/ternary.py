"""What ternary layers cost, measured by the codec itself.

    python benchmarks/ternary.py CHECKPOINT TERNARY TOKENS TOKENIZER TEXT [--bytes N]

writes benchmarks/results/ternary.json: the layers' matrices of CHECKPOINT rounded in
several ways, and TERNARY, a checkpoint that was trained with ternary layers and whose
layers are exported as they are.  All is rounded to nearest: the other matrices as int6
(rows clipped at 12.85 deviations) or int8 (at 20).  Each becomes a whole artifact; TEXT is
cut behind a line near ``--bytes``, compressed and decompressed.  Where the model is worse
than the archive's other coder, that is taken, so that there are two figures: the archive's
bytes, and the bits of the text as one stream by the integer engine's frequencies, without
adaptation.  TOKENS is a folder with train.bin, for the ranges of activations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from artifacts import RANGE_ROWS, ROW, beginning

import pgolf_codec
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.build import digest
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.quant.artifact import dump_artifact, load_artifact
from pgolf_codec.quant.gptq import Floats
from pgolf_codec.quant.quantizers import ByName
from pgolf_codec.quant.rounding import Quantized, Scheme, quantize
from pgolf_codec.quant.waterfilling import Scales

RESULT = Path(__file__).resolve().parent / "results" / "ternary.json"
TRAINED = "trained ternary"
CASES = tuple(
    (layers, others)
    for others in ("int6:12.85", "int8:20")
    for layers in ("int6:12.85", "ternary", "ternary/matrix", "ternary:0.61", TRAINED)
)
"""Schemes of the layers' matrices, and of all others."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """Round to nearest by a scheme, each row, or column, by itself."""

    scheme: Scheme

    def __call__(self, name: str, weights: Floats, scales: Scales) -> Quantized:
        if scales != "columns":
            return quantize(weights, self.scheme)
        found = quantize(weights.T, self.scheme)
        return Quantized(np.ascontiguousarray(found.values.T), None, found.row_scales)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("ternary", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("tokenizer", type=Path, help="a tokenizer.bin of ours")
    parser.add_argument("text", type=Path)
    parser.add_argument("--bytes", type=int, default=100_000)
    arguments = parser.parse_args()
    raw = beginning(arguments.text, arguments.bytes)
    results: dict[str, Any] = {
        "checkpoint": digest(arguments.checkpoint),
        "ternary": digest(arguments.ternary),
        "text": arguments.text.name,
        "raw_bytes": len(raw),
        "rows": [],
    }
    for (layers, others), blob in artifacts(arguments):
        results["rows"].append({"layers": layers, "others": others} | measured(blob, raw))
        print(json.dumps(results["rows"][-1]), flush=True)
        RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def artifacts(arguments: argparse.Namespace) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Schemes and artifact."""
    import torch

    from pgolf_codec.lm.conversion import export

    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_bytes(arguments.tokenizer.read_bytes())
    ranges = export.calibration_rows(arguments.tokens / "train.bin", RANGE_ROWS, ROW)
    for layers, others in CASES:
        path = arguments.ternary if layers == TRAINED else arguments.checkpoint
        model = export.merge_scales(export.exportable(export.load_checkpoint(path, ROW)))
        rules = [] if layers == TRAINED else [("blocks.*", Rounded(Scheme.parse(layers)))]
        quantizer = ByName(rules, Rounded(Scheme.parse(others)))
        weights = export.quantize(model, ranges, quantizer)
        yield (layers, others), dump_artifact(weights, tokenizer, name="ternary", coder="auto")


def measured(blob: bytes, raw: bytes) -> dict[str, Any]:
    """Bytes of the artifact and of its layers, zeros among these, and what a text takes."""
    model = load_artifact(blob)
    tensors, sizes = model.artifact.weights.tensors, model.artifact.coded_sizes
    layers = [n for n in tensors if n.startswith("blocks.") and n.endswith(".q")]
    archive = pgolf_codec.compress(raw, model=model)
    if pgolf_codec.decompress(archive, model=model) != raw:
        raise SystemExit("what was decoded is not what was encoded")
    ids = model.artifact.tokenizer.encode(raw).astype(np.int32)[None, :]
    _, freq = Engine(model.artifact.weights, bytes(32)).session(1).intervals(ids)
    n_weights = sum(tensors[n].size for n in layers)
    return {
        "file_bytes": len(blob),
        "layer_weights": n_weights,
        "layer_bytes": sum(sizes[n] for n in layers),
        "zeros": sum(int((tensors[n] == 0).sum()) for n in layers) / n_weights,
        "archive_bytes": len(archive),
        "entropy_bits": float(np.sum(24.0 - np.log2(freq.astype(np.float64)))),
    }


if __name__ == "__main__":
    main()
