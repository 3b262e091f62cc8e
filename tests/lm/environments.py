"""Hashes of everything that may not depend on the machine; ``python environments.py`` prints them.

With the argument ``products`` only the matrix products are run.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_STREAMS, LENGTH = 3, 150
"""Longer than every window of the tiny model."""


def digest(*arrays: NDArray[Any]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def worst_products() -> dict[str, bool]:
    """Whether :mod:`products` agrees with 64-bit sums where 32 bits just hold them."""
    from kernels_of_tests import matmul, product

    from pgolf_codec.lm.layout import pack, scratch_bytes
    from pgolf_codec.lm.weights import activation_limit

    rng = np.random.default_rng(1)
    right = {}
    for k, n in ((2, 33), (6, 24), (30, 100), (42, 31), (516, 64), (520, 5), (8192, 40)):
        for kind in ("one sign", "mixed signs", "random"):
            limit = activation_limit(k)
            rows = 45
            w = np.full((n, k), 127, np.int8)
            x = np.full((rows, k), limit, np.int16)
            if kind == "mixed signs":  # sums of either sign at their limits, and of zero
                signs = np.where(rng.random(k) < 0.5, -1, 1)
                w = (w * signs * np.where(np.arange(n) % 2, 1, -1)[:, None]).astype(np.int8)
                x = (x * signs * np.where(np.arange(rows) % 3, 1, -1)[:, None]).astype(np.int16)
                x[5, ::2] = 0
            elif kind == "random":
                w = rng.integers(-127, 128, (n, k), np.int8)
                x = rng.integers(-limit, limit + 1, (rows, k), np.int16)
            packed, scratch = pack(w), np.full(scratch_bytes(rows, k), 99, np.int8)
            for n_rows in (rows, 33, 16, 8, 3, 1):
                out = np.full((rows, packed.shape[0] * 32), 77, np.int32)
                matmul(x, packed, out, n_rows, scratch)
                exact = x[:n_rows].astype(np.int64) @ w.T.astype(np.int64)
                right[f"matmul {k} {n} {kind} {n_rows}"] = bool(
                    np.array_equal(out[:n_rows, :n], exact)
                    and not out[:n_rows, n:].any()
                    and (out[n_rows:] == 77).all()
                )
    # int16 on both sides, as for keys and values; part of a larger packed array
    for k, top in ((2, 32767), (10, 14654), (256, 2896)):
        for sign in (-1, 1):
            w = np.full((70, k), top, np.int16)
            w[1::2] *= -1
            x = np.full((3, k), sign * top, np.int16)
            packed = _pack16(w)
            flat = np.concatenate((np.full(50, 9, np.int16), packed.reshape(-1)))
            for n_rows in (1, 2, 3):
                out = np.full((3, 128), 77, np.int32)
                product(x, n_rows, flat, 50, 32 * k, k // 2, 3, out)
                exact = x[:n_rows].astype(np.int64) @ w.T.astype(np.int64)
                right[f"product {k} {sign} {n_rows}"] = bool(
                    np.array_equal(out[:n_rows, :70], exact)
                    and (out[n_rows:] == 77).all()
                    and (out[:, 96:] == 77).all()
                )
    return right


def _pack16(w: NDArray[np.int16]) -> NDArray[np.int16]:
    """Of int16, as for keys and values."""
    n, k = w.shape
    padded = np.zeros((-(-n // 32) * 32, k), np.int16)
    padded[:n] = w
    return np.ascontiguousarray(padded.reshape(-1, 32, k // 2, 2).transpose(0, 2, 1, 3))


def intervals_by_steps(engine: Any, ids: NDArray[np.int32]) -> str:
    """Hash of the intervals as a decoder finds them, symbol by symbol."""
    from pgolf_codec.codec.frequencies import interval

    session = engine.session(ids.shape[0])
    cum, freq = np.empty(ids.shape, np.uint32), np.empty(ids.shape, np.uint32)
    previous = None
    for t in range(ids.shape[1]):
        weights = session.weights(previous)
        previous = ids[:, t].copy()
        for lane, symbol in enumerate(previous):
            cum[lane, t], freq[lane, t] = interval(weights[lane], symbol)
    return digest(cum, freq)


def model_hashes() -> dict[str, str]:
    """Of the tiny and the hot model: whole windows, and single steps."""
    from tiny_model import hot_weights, prose_ids, tiny_config, tiny_tokenizer, tiny_weights

    from pgolf_codec.lm.engine import Engine

    tokenizer = tiny_tokenizer()
    ids = prose_ids(tokenizer, N_STREAMS, LENGTH)
    hot = hot_weights(tiny_config(tokenizer.n_symbols), 3)
    hashes = {}
    for name, weights in (("tiny", tiny_weights(tokenizer)), ("hot", hot)):
        engine = Engine(weights, bytes(32))
        hashes[f"{name}, window"] = digest(*engine.session(N_STREAMS).intervals(ids))
        hashes[f"{name}, steps"] = intervals_by_steps(engine, ids)
    return hashes


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from pgolf_codec.codec.machine import instruction_set

    hashes = {} if "products" in sys.argv else model_hashes()
    print(json.dumps({"isa": instruction_set(), "products": worst_products(), "hashes": hashes}))


if __name__ == "__main__":
    main()
