"""Hashes of everything that may not depend on the machine; ``python environments.py`` prints them.

With the argument ``products`` only the matrix products are run.
"""

from __future__ import annotations

import hashlib
import itertools
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


SHAPES = ((2, 33), (6, 24), (30, 100), (42, 31), (64, 96), (516, 64), (520, 5), (8192, 40))
"""Inner sizes and columns of products."""
ROWS = (45, 33, 32, 16, 11, 8, 3, 2, 1)


def worst_products() -> dict[str, bool]:
    """Whether :mod:`products` agrees with 64-bit sums where 32 bits just hold them."""
    from kernels_of_tests import matmul8, matmul16

    from pgolf_codec.lm.integers.layout import byte_room, pack, scratch_bytes
    from pgolf_codec.lm.integers.weights import activation_limit

    rng = np.random.default_rng(1)
    right = {}
    for (k, n), bits in itertools.product(SHAPES, (8, 16)):
        limit = 127 if bits == 8 else activation_limit(k)
        for kind in ("one sign", "mixed signs", "random"):
            rows = max(ROWS)
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
            as_bytes = byte_room(rows, k)
            as_bytes[:, :k] = x if bits == 8 else 0
            for n_rows in ROWS:
                out = np.full((rows, packed.shape[0] * 32), 77, np.int32)
                if bits == 8:
                    matmul8(as_bytes, packed, out, n_rows)
                else:
                    matmul16(x, packed, out, n_rows, scratch)
                exact = x[:n_rows].astype(np.int64) @ w.T.astype(np.int64)
                right[f"matmul{bits} {k} {n} {kind} {n_rows}"] = bool(
                    np.array_equal(out[:n_rows, :n], exact)
                    and not out[:n_rows, n:].any()
                    and (out[n_rows:] == 77).all()
                )
    return right | attention_products()


def attention_products() -> dict[str, bool]:
    """The same of products with keys and values that lie somewhere in a strip."""
    from kernels_of_tests import times_keys, times_values

    from pgolf_codec.lm.integers.layout import QUADS, byte_room, key_block_bytes, pack

    right = {}
    for k in (2, 10, 64, 256):
        keys, q = np.full((96, k), 127, np.int8), byte_room(max(ROWS), k)
        keys[1::2] *= -1
        q[:, :k] = -127
        strip = np.concatenate(
            (np.full(64, 9, np.int8), pack(keys).reshape(-1)[: 3 * key_block_bytes(k)])
        )
        for n_rows in ROWS:
            out = np.full((max(ROWS), 160), 77, np.int32)
            times_keys(q, n_rows, strip, 64, key_block_bytes(k), 3, out, 32)
            exact = q[:n_rows, :k].astype(np.int64) @ keys.T.astype(np.int64)
            right[f"keys {k} {n_rows}"] = bool(
                np.array_equal(out[:n_rows, 32:128], exact)
                and (out[n_rows:] == 77).all()
                and (out[:, :32] == 77).all()
                and (out[:, 128:] == 77).all()
            )
    for slots in (64, 192, 8192):
        values, shares = np.full((64, slots), 127, np.int8), byte_room(max(ROWS), slots + 64)
        values[1::2] *= -1
        shares[:, :slots] = np.array(255).astype(shares.dtype)
        packed = pack(values)[:, 128 if QUADS else 0 :]  # no sums: shares have no sign
        strip = np.concatenate((np.full(64, 9, np.int8), packed.reshape(-1)))
        for n_rows in ROWS:
            out = np.full((max(ROWS), 64), 77, np.int32)
            times_values(shares, n_rows, slots, strip, 64, packed.shape[1], 2, out)
            exact = 255 * values.T.astype(np.int64).sum(0)
            right[f"values {slots} {n_rows}"] = bool(
                (out[:n_rows] == exact).all() and (out[n_rows:] == 77).all()
            )
    return right


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

    from pgolf_codec.lm.integers.engine import Engine

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
