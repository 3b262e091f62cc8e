"""Artifacts of one checkpoint: their bytes, and what the codec makes of text with them.

    python benchmarks/artifacts.py CHECKPOINT TOKENS TOKENIZER TEXT... [--moments FILE]

writes benchmarks/results/artifacts.json, a row as soon as it is measured; rows that are
there for the same checkpoint and texts are kept.  TOKENS is a folder with train.bin, which
alone is calibrated on.
Every text is cut behind a line near ``--bytes``, compressed and decompressed: its bpb
is that of the archive.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import pgolf_codec
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.build import digest
from pgolf_codec.quant.artifact import dump_artifact, load_artifact

RESULT = Path(__file__).resolve().parent / "results" / "artifacts.json"
COSTS = (1e-9, 2.5e-9)
"""Nats a token for the rounding of one weight."""
ROW, RANGE_ROWS, CALIBRATION_ROWS, COUNTED_IDS = 1024, 16, 64, 1 << 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--moments", type=Path, help="where to keep the calibration")
    parser.add_argument("--bytes", type=int, default=200_000, help="of each text")
    arguments = parser.parse_args()
    texts = {path.name: beginning(path, arguments.bytes) for path in arguments.texts}
    facts = {
        "checkpoint": digest(arguments.checkpoint),
        "raw_bytes": {name: len(raw) for name, raw in texts.items()},
    }
    results: dict[str, Any] = stored(facts) or facts | {"rows": []}
    for quantizer, blob in artifacts(arguments, [row["quantizer"] for row in results["rows"]]):
        row: dict[str, Any] = {"quantizer": quantizer, "file_bytes": {"auto": len(blob)}}
        model = load_artifact(blob)
        found = model.artifact
        for coder in ("ans", "ans-scale", "cm"):
            other = dump_artifact(found.weights, found.tokenizer, name=found.name, coder=coder)
            row["file_bytes"][coder] = len(other)
        row["archive_bytes"] = {}
        for name, raw in texts.items():
            archive = pgolf_codec.compress(raw, model=model)
            if pgolf_codec.decompress(archive, model=model) != raw:
                raise SystemExit(f"{name}: what was decoded is not what was encoded")
            row["archive_bytes"][name] = len(archive)
        results["rows"].append(row)
        RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(row), flush=True)


def artifacts(arguments: argparse.Namespace, done: list[str]) -> Any:
    """Quantizer and artifact, of those that are not done."""
    import torch

    from pgolf_codec.lm.conversion import export
    from pgolf_codec.lm.conversion.calibration import calibrate
    from pgolf_codec.quant.moments import load_moments, save_moments

    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_sentencepiece(arguments.tokenizer.read_bytes())
    train = arguments.tokens / "train.bin"
    model = export.merge_scales(
        export.exportable(export.load_checkpoint(arguments.checkpoint, ROW))
    )
    ranges = export.calibration_rows(train, RANGE_ROWS, ROW)
    if "nearest" not in done:
        weights = export.quantize(model, ranges, export.STEPS_PER_SIGMA)
        yield "nearest", dump_artifact(weights, tokenizer, name="nano", coder="auto")
    if arguments.moments is not None and arguments.moments.exists():
        moments = load_moments(arguments.moments)
    else:
        rows = export.calibration_rows(train, CALIBRATION_ROWS, ROW)
        moments = calibrate(model, rows, np.fromfile(train, "<u2", count=COUNTED_IDS))
        if arguments.moments is not None:
            save_moments(arguments.moments, moments)
    for cost in COSTS:
        for columns in (False, True):
            name = f"trellis 32, {cost:g}" + ("" if columns else ", rows only")
            if name not in done:
                search = export.Search(model, ranges, moments, 32, columns=columns)
                yield name, dump_artifact(search.at(cost), tokenizer, name="nano", coder="auto")


def beginning(path: Path, n_bytes: int) -> bytes:
    """Whole lines of at most so many bytes, or all of it."""
    raw = path.read_bytes()
    return raw if len(raw) <= n_bytes else raw[: raw.rfind(b"\n", 0, n_bytes) + 1]


def stored(facts: dict[str, Any]) -> dict[str, Any]:
    """The results so far, if they are of this checkpoint and these texts."""
    if not RESULT.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULT.read_bytes())
    return results if facts.items() <= results.items() else {}


if __name__ == "__main__":
    main()
