"""What learning from the text gives: in the format, exactly; and in float, at test time.

    python benchmarks/adaptation.py format CORPORA                  the adapted frames of .pgz
    python benchmarks/adaptation.py float CORPORA CHECKPOINT        a torch module that is tuned

Each writes its half of benchmarks/results/adaptation.json.  CORPORA is a folder of texts.
Seconds are CPU time of one thread, so that a busy machine changes them little.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import pgolf_codec
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.stream import compress, decompress

RESULT = Path(__file__).resolve().parent / "results" / "adaptation.json"
TEXTS = (
    "fineweb_cc2013.txt", "c4_en.txt", "book_sherlock.txt", "tinyshakespeare.txt",
    "code_python.txt", "multilingual.txt",
)  # fmt: skip
N_BYTES, FLOAT_BYTES = 1 << 16, 12_000
VARIANTS: dict[str, dict[str, Any]] = {
    "nothing": {"learning_rate": 0.0, "passes": 0},
    "all weights, SGD": {"learning_rate": 0.05, "optimizer": "sgd"},
    "all weights, Adam": {"learning_rate": 2e-4},
    "rank 8, Adam": {"learning_rate": 2e-3, "rank": 8},
}


def main(arguments: list[str]) -> None:
    part, corpora, *checkpoint = arguments
    results = json.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    folder = Path(corpora)
    results[part] = in_format(folder) if part == "format" else in_float(folder, Path(*checkpoint))
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_format(folder: Path) -> dict[str, Any]:
    model = pgolf_codec.load_model()
    models: dict[str, Any] = {"plain": model, "adapted": adapted(model)}
    for one in models.values():  # compiling is no part of the speed
        decompress(compress(b"warm " * 20, model=one, threads=1), model=model, threads=1)
    rows = []
    for name in TEXTS:
        raw = (folder / name).read_bytes()[:N_BYTES]
        row: dict[str, Any] = {"text": name, "n_bytes": len(raw)}
        for kind, one in models.items():
            blob, encode_seconds = timed(partial(compress, raw, model=one, threads=1))
            back, decode_seconds = timed(partial(decompress, blob, model=model, threads=1))
            assert back == raw
            row[kind] = {
                "bpb": 8 * len(blob) / len(raw),
                "encode_seconds": encode_seconds,
                "decode_seconds": decode_seconds,
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {"model": model.name, "rows": rows}


def in_float(folder: Path, checkpoint: Path) -> dict[str, Any]:
    import torch

    from pgolf_codec.eval.tuning import Schedule, TunedScorer, scored_bits
    from pgolf_codec.lm.config import BOS_ID
    from pgolf_codec.lm.conversion.export import load_checkpoint

    torch.set_num_threads(1)
    tokenizer = pgolf_codec.load_model().tokenizer
    module = load_checkpoint(checkpoint, 1024)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, ids: Any) -> Any:
            return self.model.logits(self.model(ids))

    logits, rows = Logits(), []
    for name in ("fineweb_cc2013.txt", "book_sherlock.txt"):
        raw = (folder / name).read_bytes()[:FLOAT_BYTES]
        ids = tokenizer.encode(raw).astype(np.int64)
        for variant, options in VARIANTS.items():
            schedule = Schedule(**options, block=128, context=128)
            scorer = TunedScorer(logits, tokenizer.n_symbols, schedule, first=BOS_ID)
            bits, seconds = timed(partial(scored_bits, scorer, ids))
            rows.append(
                {
                    "text": name,
                    "n_bytes": len(raw),
                    "variant": variant,
                    "learning_rate": options["learning_rate"],
                    "bpb": bits / len(raw),
                    "milliseconds_a_symbol": 1000 * seconds / ids.size,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return {"block": 128, "context": 128, "rows": rows}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


if __name__ == "__main__":
    main(sys.argv[1:])
