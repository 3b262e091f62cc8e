"""How the engine's memory is laid out: what Python fills and kernels read.

No kernel is here, and numba is not imported.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.codec.memory import zeros

I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]

POSITIONS = 16
"""Of a stream that are attended to at once."""
SLOTS = 64
"""Of a strip that one step of a product over slots takes."""
HEAD_ROWS = 64
"""Rows whose logits exist at one time."""
COLUMNS = 32
"""Columns of one packed block of weights."""
TILE_ROWS, TILE_BYTES = 16, 64
"""Of an AMX tile."""
TILE = TILE_ROWS * TILE_BYTES
AMX = instruction_set() == "amx"
QUADS = instruction_set() in ("amx", "avx512vnni")
"""Whether weights are packed for products of bytes (:mod:`pgolf_codec.lm.integers.tiles`)."""


BYTE = "i8" if QUADS else "i16"
"""How activations of 8 bits are stored: what the products of this machine take."""


def byte_room(rows: int, width: int) -> NDArray[Any]:
    """Activations of 8 bits, rows padded with zeros to whole steps."""
    return zeros((rows, -(-width // TILE_BYTES) * TILE_BYTES), np.int8 if QUADS else np.int16)


def padded(n: int) -> int:
    """To whole blocks of columns."""
    return -(-n // COLUMNS) * COLUMNS


def pack(weights: I8) -> I8:
    """(N, K) to (ceil(N/32), bytes of a block), padded with zeros: what matmul reads."""
    n, k = weights.shape
    depth = TILE_BYTES if QUADS else 2
    whole = np.zeros((padded(n), -(-k // depth) * depth), np.int8)
    whole[:n, :k] = weights
    blocks = whole.shape[0] // COLUMNS
    if not QUADS:  # (block, pair, column, position of 2)
        shaped = whole.reshape(blocks, COLUMNS, whole.shape[1] // 2, 2).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(shaped).reshape(blocks, whole.shape[1] * COLUMNS)
    # (block, step, half of the columns, 4 positions, column, position of 4)
    shaped = whole.reshape(blocks, 2, 16, whole.shape[1] // 64, 16, 4).transpose(0, 3, 1, 4, 2, 5)
    bias = -128 * whole.sum(axis=1, dtype=np.int32).reshape(blocks, COLUMNS)
    return np.concatenate(
        (bias.view(np.int8), shaped.reshape(blocks, whole.shape[1] * COLUMNS)), axis=1
    )


def scratch_bytes(rows: int, inner: int) -> int:
    """Size of the scratch that :func:`products.matmul16` needs."""
    tiles = -(-rows // TILE_ROWS) * -(-inner // TILE_BYTES)
    return 4 * TILE + tiles * 2 * TILE if QUADS else 0


def strip_slots(window: int) -> int:
    """Length of the strip of a layer with this window."""
    return -(-(window + POSITIONS + SLOTS + max(window // 4, SLOTS)) // SLOTS) * SLOTS


def key_block_bytes(d_head: int) -> int:
    """Size of 32 slots of keys: packed as weights are."""
    if not QUADS:
        return COLUMNS * d_head
    return 4 * COLUMNS + -(-d_head // TILE_BYTES) * 2 * TILE


class Heads(NamedTuple):
    """What attention needs to know of a model; P passes through layers."""

    n_heads: int
    n_kv_heads: int
    d_head: int
    output_bits: int
    output_limit: int
    gain: I64  # (P, H)
    qkv_m: I32  # (P, padded)
    windows: I64  # (P)
    slots: I64  # (P): length of the strip, a multiple of 64
    first_slot: I64  # (P): where a pass's strip starts
    added: I64  # (P): whether Room.added joins the values
    exclusive: I64  # (P): whether outputs lose their part along the own value
    phases: I64  # (R / 2)
    cosine: I32


class Strips(NamedTuple):
    """Keys and values of n streams, packed as weights are (:func:`pack`).

    A layer's keys are slots / 32 blocks of columns, for products over K; its values are
    K' / 32 blocks, for products over slots, K' being K padded to a multiple of 32.
    """

    keys: I8  # (n, G, slots / 32 * key_block_bytes)
    values: I8  # (n, G, slots * K')
    origin: I64  # (n, P): position of the first slot, a multiple of 64


class Room(NamedTuple):
    """Scratch."""

    cos: I32  # (rows, R / 2)
    sin: I32
    head: I32  # (POSITIONS * (H / G + 1), K): queries and keys
    inverse: I64  # (POSITIONS * (H / G + 1)): of their lengths
    key: Any  # (POSITIONS, K): bytes, as those of q and shares
    q: Any  # (POSITIONS * H / G, K)
    scores: I32  # (POSITIONS * H / G, most slots)
    shares: Any  # (POSITIONS * H / G, most slots)
    sums: I32  # (POSITIONS * H / G, K')
    totals: I64  # (POSITIONS * H / G)
    attended: I16  # (rows, H * K)
    added: I32  # (rows, G * K)
    own: I32  # (POSITIONS, K): values


class Params(NamedTuple):
    """The model as the kernels read it; matrices packed by :func:`products.pack`."""

    heads: Heads
    hidden_limit: int
    bigram_limit: int
    residual_frac: int
    embedding: I8  # (V, D)
    embedding_m: I32  # (D): factors of its columns
    head: I8
    head_in_m: I64  # (D): of the columns of the head, or (0)
    head_limit: int  # of what they were multiplied with
    head_m: F32  # (V): to units of the soft cap
    smear_m: I64  # (D)
    bigram: I8  # (buckets, Db), or (0, 0)
    bigram_m: I64  # (Db)
    proj: I8
    proj_m: I32
    mix_m: I32  # (L, 2, D)
    qkv: I8  # (L, blocks, bytes)
    wo: I8
    wo_m: I32  # (L, padded)
    up: I8
    up_m: I32
    down: I8
    down_m: I32
    square_shift: I64  # (L)
    cap: F32  # (1) 1024 log2(e) softcap
    order: I64  # (P): the layer of each pass
    kept: int  # what vectors.leaky_square takes
    parallel: I64  # (P)
    one: I32  # (D): the factor 1 of vectors.mix
    skip_m: I32  # (skips, D)
    value: I8  # (V, Dv), or (0, 0)
    value_m: I64  # (Dv)
    value_limit: int
    value_proj: I8
    added_m: I32  # (L, G * K), or (0, 0)
    gate: I8  # (L, blocks, bytes), or (0, 0, 0)
    gate_m: I32  # (L, H)
    gate_bias: I32  # (L, H)
    sigmoid: I32


class State(NamedTuple):
    """What n streams remember."""

    position: I64  # (n)
    last_id: I32  # (n)
    last_embedding: I16  # (n, D)
    strips: Strips


class Buffers(NamedTuple):
    """Scratch for up to ``rows`` rows."""

    room: Room
    x0: I32  # (rows, D)
    x: I32
    y: I16  # (rows, D)
    bigram: I16  # (rows, Db)
    value: I16  # (rows, Dv)
    factors: I32  # (rows): A of y8
    out_factors: I32  # (rows): A of the other bytes
    y8: Any  # (rows, D) bytes
    attended8: Any  # (rows, H * K)
    hidden8: Any  # (rows, F)
    acc_d: I32  # (rows, D padded)
    acc_qkv: I32
    acc_value: I32  # (rows, G * K padded)
    acc_gate: I32  # (rows, H padded)
    skips: I32  # (skips, rows, D)
    acc_up: I32
    hidden: I16  # (rows, F)
    logits: I32  # (HEAD_ROWS, V padded)
    weights: U32  # (V)
    scratch: I8  # of matmul16
