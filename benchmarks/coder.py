"""Why the range coder is our own: constriction and codec/range_coder.py side by side.

    python benchmarks/coder.py            writes benchmarks/results/coder.json

The distributions arrive as integer weights (streams, V), one a stream and step.
For constriction each becomes a float64 Categorical (``perfect=False``: the fast
way, which would also make floats part of the format), one Python call a symbol.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import constriction
import numpy as np

from pgolf_codec.codec import range_coder
from pgolf_codec.codec.frequencies import interval

V, N_STREAMS, N_STEPS, DISTINCT = 4096, 16, 400, 50
RESULT = Path(__file__).parent / "results" / "coder.json"


def main() -> None:
    rng = np.random.default_rng(1)
    logs = 12 + 4 * rng.standard_normal((DISTINCT, N_STREAMS, V))
    weights = np.exp2(np.minimum(logs, 24)).astype(np.uint32)
    symbols = rng.integers(0, V, (N_STEPS, N_STREAMS)).astype(np.int32)
    intervals = np.array(
        [
            [interval(weights[t % DISTINCT, s], symbols[t, s]) for s in range(N_STREAMS)]
            for t in range(N_STEPS)
        ],
        np.uint32,
    )
    cum, freq = (np.ascontiguousarray(intervals[:, :, k].T) for k in (0, 1))

    def ours_encode() -> list[bytes]:
        return [range_coder.encode(cum[s], freq[s]) for s in range(N_STREAMS)]

    def ours_decode(streams: list[bytes]) -> None:
        decoder = range_coder.Decoder(streams, np.full(N_STREAMS, N_STEPS))
        for t in range(N_STEPS):
            if not np.array_equal(decoder.step(weights[t % DISTINCT]), symbols[t]):
                raise SystemExit("our decoder differs")
        decoder.finish()

    def model(t: int, s: int) -> object:
        w = weights[t % DISTINCT, s].astype(np.float64)
        return constriction.stream.model.Categorical(w / w.sum(), perfect=False)

    def constriction_encode() -> list[np.ndarray]:
        encoders = [constriction.stream.queue.RangeEncoder() for _ in range(N_STREAMS)]
        for t in range(N_STEPS):
            for s in range(N_STREAMS):
                encoders[s].encode(int(symbols[t, s]), model(t, s))
        return [encoder.get_compressed() for encoder in encoders]

    def constriction_decode(streams: list[np.ndarray]) -> None:
        decoders = [constriction.stream.queue.RangeDecoder(words) for words in streams]
        for t in range(N_STEPS):
            for s in range(N_STREAMS):
                if decoders[s].decode(model(t, s)) != symbols[t, s]:
                    raise SystemExit("constriction's decoder differs")

    ours, theirs = ours_encode(), constriction_encode()  # also compiles
    ours_decode(ours)
    n = N_STEPS * N_STREAMS
    microseconds = {
        "range_coder.encode": _seconds(ours_encode) / n * 1e6,
        "range_coder.Decoder": _seconds(lambda: ours_decode(ours)) / n * 1e6,
        "constriction.encode": _seconds(constriction_encode) / n * 1e6,
        "constriction.decode": _seconds(lambda: constriction_decode(theirs)) / n * 1e6,
    }
    result = {
        "n_symbols": V,
        "n_streams": N_STREAMS,
        "n_steps": N_STEPS,
        "microseconds_per_symbol": {k: round(v, 3) for k, v in microseconds.items()},
        "bytes": {
            "range_coder": sum(map(len, ours)),
            "constriction": sum(4 * words.size for words in theirs),
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
