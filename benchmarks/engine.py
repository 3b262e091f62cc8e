"""How near the machine's limits the integer engine runs, and where its time goes.

    python benchmarks/engine.py TEXT       writes benchmarks/results/engine.json

One core, time of the thread; every figure is the best and the median of many short runs,
which alternate between the things that are compared: the machine may be shared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from one_text import one_text
from record_size import record_size_model

import pgolf_codec
from pgolf_codec.codec import coding_kernels
from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.integers import attention, kernels, products
from pgolf_codec.lm.integers.engine import make_buffers, make_state
from pgolf_codec.lm.integers.layout import HEAD_ROWS, Buffers, Params, State, byte_room, pack

RESULT = Path(__file__).resolve().parent / "results" / "engine.json"
ROWS = 128
REPEATS = 25
PEAK_SHAPE = (32, 64, 256)
"""Rows, columns and inner size of a product that the first cache holds."""
PEAK_REPEATS = 200
STEPS = 16
LANES = 16
"""Streams in lock step."""
MEMORY_BYTES = 1 << 26
"""More than the caches hold."""

Work = Callable[[], Any]
Times = dict[str, list[float]]


def main(arguments: list[str]) -> None:
    text = one_text(arguments, __doc__).read_bytes()
    models = {"nano": pgolf_codec.load_model("nano"), "record-size": record_size_model()}
    results: dict[str, Any] = {"instruction_set": instruction_set(), "models": {}}
    for name, model in models.items():
        print(name, file=sys.stderr)
        results["models"][name] = measure(model, text)
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(model: Any, text: bytes) -> dict[str, Any]:
    config: ModelConfig = model.artifact.weights.config
    before = max(config.windows) // ROWS + 1  # blocks until windows are full
    ids = model.tokenizer.encode(text[: 8 * ROWS * before])[: (before + 1) * ROWS]
    ids = ids.astype(np.int32)[None]
    session = model.predictor.session(1)
    session.intervals(ids[:, : before * ROWS])
    block, one = ids[:, -ROWS:], ids[0, :1]
    times = alternate(
        {
            "peak": peak(),
            "memory": memory(),
            "prefill": lambda: session.intervals(block),
            "step": lambda: [session.weights(one) for _ in range(STEPS)],
        }
    )
    token_ops, step_bytes = 2 * multiplications(config), bytes_of_a_step(config)
    peak_ops = 2 * PEAK_REPEATS * int(np.prod(PEAK_SHAPE))
    return {
        "parameters": model.n_parameters,
        "operations_per_token": token_ops,
        "bytes_per_step": step_bytes,
        "peak_gflops": rate(peak_ops, times["peak"]),
        "prefill_gflops": rate(token_ops * ROWS, times["prefill"]),
        "memory_gb_s": rate(MEMORY_BYTES, times["memory"]),
        "step_gb_s": rate(STEPS * step_bytes, times["step"]),
        "prefill_of_peak": ratio(token_ops * ROWS, times["prefill"], peak_ops, times["peak"]),
        "step_of_memory": ratio(STEPS * step_bytes, times["step"], MEMORY_BYTES, times["memory"]),
        "parts_us_per_token": parts(model.predictor.params.value, config, ids, 1),
        "lock_step_us_per_token": parts(model.predictor.params.value, config, ids, LANES),
    }


def alternate(works: dict[str, Work]) -> Times:
    """Seconds of the thread for each piece of work, taken in turns."""
    times: Times = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(REPEATS):
        for name, work in works.items():
            start = time.thread_time()
            work()
            times[name].append(time.thread_time() - start)
    return times


def rate(amount: int, seconds: list[float]) -> dict[str, float]:
    """In units of 10**9 a second."""
    return {
        "best": amount / min(seconds) / 1e9,
        "median": amount / statistics.median(seconds) / 1e9,
    }


def ratio(a: int, a_seconds: list[float], b: int, b_seconds: list[float]) -> float:
    """Of two rates, the median over the turns."""
    turns = zip(a_seconds, b_seconds, strict=True)
    return statistics.median(a / x / (b / y) for x, y in turns)


def multiplications(c: ModelConfig) -> int:
    """A token's: of weights and activations, and of attention with full windows."""
    return weights_read(c) + 2 * c.n_heads * c.d_head * sum(c.windows)


def bytes_of_a_step(c: ModelConfig) -> int:
    """Weights, and keys and values of full windows, that a step of one stream reads."""
    return weights_read(c) + 2 * c.n_kv_heads * c.d_head * sum(c.windows)


def weights_read(c: ModelConfig) -> int:
    """All that every token meets; a byte each."""
    q, kv = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    layer = c.d_model * (2 * q + 2 * kv + 2 * c.d_hidden)
    return c.n_layers * layer + c.vocab_size * c.d_model + c.bigram_dim * c.d_model


# Kernels as functions that Python can call: numba resolves the names of this module.
_matmul8, _matmul16, _embed = products.matmul8, products.matmul16, kernels.embed
_attend, _add, _add_and_normalize, _mix_and_normalize, _plain, _activate, _symbols = (
    attention.attend, kernels.add_scaled_rows, kernels.add_and_normalize,
    kernels.mix_and_normalize, kernels.plain_bytes, kernels.activate_rows, kernels.symbol_weights,
)  # fmt: skip
_interval = coding_kernels.interval


@numba.njit(nogil=True)
def multiply(x: Any, packed: Any, out: Any, repeats: int) -> None:
    for _ in range(repeats):
        _matmul8(x, packed, out, x.shape[0])


@numba.njit(nogil=True)
def read(values: NDArray[np.int64]) -> Any:
    total = np.int64(0)
    for i in range(values.size):
        total += values[i]
    return total


@numba.njit(nogil=True)
def embed(p: Params, s: State, ids: Any, b: Buffers, repeats: int) -> None:
    for _ in range(repeats):
        _embed(p, s, 0, ids, b)


@numba.njit(nogil=True)
def vectors(p: Params, rows: int, b: Buffers, repeats: int) -> None:
    """What a layer does to rows of the width of the model."""
    for _ in range(repeats):
        for layer in range(p.order.size):
            first, second = p.mix_m[layer, 0], p.mix_m[layer, 1]
            _mix_and_normalize(b.x, b.x0, first, second, b.y8, b.factors, rows)
            _plain(b.room.attended, b.attended8, b.out_factors, rows)
            _add_and_normalize(b.x, b.acc_d, b.out_factors, p.wo_m[layer], b.y8, b.factors, rows)
            _add(b.x, b.acc_d, b.factors, p.down_m[layer], rows)


@numba.njit(nogil=True)
def matrices(p: Params, rows: int, b: Buffers, repeats: int) -> None:
    for _ in range(repeats):
        for layer in range(p.order.size):
            _matmul8(b.y8, p.qkv[layer], b.acc_qkv, rows)
            _matmul8(b.attended8, p.wo[layer], b.acc_d, rows)
            _matmul8(b.y8, p.up[layer], b.acc_up, rows)
            _matmul8(b.hidden8, p.down[layer], b.acc_d, rows)


@numba.njit(nogil=True)
def activations(p: Params, rows: int, b: Buffers, repeats: int) -> None:
    for _ in range(repeats):
        for layer in range(p.order.size):
            _activate(
                b.acc_up, b.factors, p.up_m[layer], p.square_shift[layer], p.hidden_limit, p.kept,
                b.hidden, b.hidden8, b.out_factors, rows,
            )  # fmt: skip


@numba.njit(nogil=True)
def attend(p: Params, s: State, n: int, t: int, b: Buffers, repeats: int) -> None:
    for _ in range(repeats):
        for layer in range(p.order.size):
            _attend(p.heads, s.strips, layer, s.position, 0, n, t, b.acc_qkv, b.factors, b.room)


@numba.njit(nogil=True)
def head(p: Params, rows: int, b: Buffers, repeats: int) -> None:
    for _ in range(repeats):
        for first in range(0, rows, HEAD_ROWS):
            some = min(HEAD_ROWS, rows - first)
            _matmul16(b.y[first : first + some], p.head, b.logits, some, b.scratch)


@numba.njit(nogil=True)
def symbols(p: Params, rows: int, b: Buffers, repeats: int) -> int:
    last = 0
    for _ in range(repeats):
        for r in range(rows):
            _symbols(p.head_m, p.cap, b.logits[r % HEAD_ROWS], b.weights)
            last += _interval(b.weights, r)[0]
    return last


def peak() -> Work:
    """Products of a size that the first cache holds, as the engine makes them."""
    rows, n, k = PEAK_SHAPE
    rng = np.random.default_rng(1)
    packed = pack(rng.integers(-127, 128, (n, k)).astype(np.int8))
    x, out = byte_room(rows, k), np.zeros((rows, n), np.int32)
    x[:] = rng.integers(-127, 128, (rows, k))
    return lambda: multiply(x, packed, out, PEAK_REPEATS)


def memory() -> Work:
    values = np.ones(MEMORY_BYTES // 8, np.int64)
    return lambda: read(values)


def parts(p: Params, c: ModelConfig, ids: NDArray[np.int32], n: int) -> dict[str, float]:
    """Best time of each part, in microseconds a token, of ROWS tokens of one stream, or of a
    token of each of n streams (then repeated, as calls from Python cost as much as a part)."""
    t, repeats = (ROWS, 1) if n == 1 else (1, ROWS // n)
    s, b, rows = make_state(c, n), make_buffers(c, ROWS), n * t
    s.position[:] = max(c.windows)
    block = np.ascontiguousarray(ids[:, -rows:].reshape(n, t))

    def attend_anew() -> None:
        s.strips.origin[:] = 0
        attend(p, s, n, t, b, repeats)

    times = alternate(
        {
            "embedding": lambda: embed(p, s, block, b, repeats),
            "vectors": lambda: vectors(p, rows, b, repeats),
            "matrices": lambda: matrices(p, rows, b, repeats),
            "attention": attend_anew,
            "activation": lambda: activations(p, rows, b, repeats),
            "head": lambda: head(p, rows, b, repeats),
            "symbols": lambda: symbols(p, rows, b, repeats),
        }
    )
    return {name: min(seconds) / (rows * repeats) * 1e6 for name, seconds in times.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
