"""The price and the gain of lock-step streams: file size against speed.

    python benchmarks/streams.py TEXT      writes benchmarks/results/streams.json

Each prefix of the text is coded with each number of streams, and decoded in this
process; the default of ``codec/model_frame.py`` was chosen from this curve.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from one_text import one_text

import pgolf_codec
from pgolf_codec.codec import stream
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.workers import default_threads

RESULT = Path(__file__).resolve().parent / "results" / "streams.json"
SIZES = (1 << 16, 1 << 18, 1 << 20)
STREAMS = (1, 2, 4, 8, 16, 32, 64)
SLOWEST = 1 << 18
"""Larger texts are not coded with fewer than eight streams: it takes too long."""


def main(arguments: list[str]) -> None:
    path = one_text(arguments, __doc__)
    text = path.read_bytes()
    model = adapted(pgolf_codec.load_model())  # as `compress` has it
    pgolf_codec.decompress(pgolf_codec.compress(text[:2000]))
    rows = [
        measure(text[:size], streams, model)
        for size in SIZES
        for streams in STREAMS
        if size <= SLOWEST or streams > 4
    ]
    results = {
        "text": path.name,
        "model": model.name,
        "fingerprint": model.predictor.fingerprint.hex(),
        "threads": default_threads(),
        "rows": rows,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(text: bytes, streams: int, model: Any) -> dict[str, Any]:
    """One number of streams: bytes, and kB/s both ways, one run each."""
    out = io.BytesIO()
    start = time.perf_counter()
    stream.compress_stream(io.BytesIO(text), out, model=model, streams=streams)
    middle = time.perf_counter()
    if stream.decompress(out.getvalue(), model=model) != text:
        raise RuntimeError("decoded to something else")
    end = time.perf_counter()
    row = {
        "raw_bytes": len(text),
        "streams": streams,
        "file_bytes": len(out.getvalue()),
        "bpb": 8 * len(out.getvalue()) / len(text),
        "compress_kb_s": len(text) / 1000 / (middle - start),
        "decompress_kb_s": len(text) / 1000 / (end - middle),
    }
    print(row, file=sys.stderr)
    return row


if __name__ == "__main__":
    main(sys.argv[1:])
