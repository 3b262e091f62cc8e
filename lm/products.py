"""Exact matrix products: int16 activations, int8 weights, int32 sums.

Weights, keys and values are packed for the tiles of this machine
(:mod:`pgolf_codec.lm.tiles`); the sums do not depend on which tiles these are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.lm.layout import AMX, COLUMNS, I8, I16, I32, QUADS, TILE, TILE_BYTES, TILE_ROWS
from pgolf_codec.lm.tiles import (
    CONFIGURATIONS,
    VECTORS,
    address,
    address32,
    amx_tile,
    begin_tiles,
    end_tiles,
    join,
    moved,
    pair_tile,
    quad_tile,
)

_VECTORS = VECTORS[instruction_set()]
_ROWS = _VECTORS.rows
_pairs_many, _pairs_two, _pairs_one = (pair_tile(rows, _VECTORS) for rows in (_ROWS, 2, 1))
_quads_four, _quads_two, _quads_one = (quad_tile(rows) for rows in (4, 2, 1))
_BIAS_BYTES = 4 * COLUMNS if QUADS else 0
_FEW_ROWS = 8
"""Up to so many rows left, AMX is no faster than ``vpdpbusd``."""
_CACHED_BYTES = 24 << 10
"""Of rows that are multiplied with one block of weights after the other."""
_NO_BIAS = np.zeros(4 * COLUMNS, np.int8)
_NO_BIAS.setflags(write=False)
_SIGN = np.int16(-128)

Pointer = Any
"""To int8 or int32, as the intrinsics of :mod:`pgolf_codec.lm.tiles` take it."""


@jit
def _split(x: I16, n_rows: int, steps: int, offset: int, scratch: I8) -> None:
    """High and low bytes of x + 256 * 128, or of x if ``offset`` is 0.

    (row tile, step, 2, 16, 64); what lies behind a row's end stays as it is.
    """
    k, flip = x.shape[1], np.int16(offset)
    for r in range(n_rows):
        for step in range(steps):
            at = 4 * TILE + ((r >> 4) * steps + step) * 2 * TILE + (r & 15) * TILE_BYTES
            first = step * TILE_BYTES
            row = x[r, first : min(first + TILE_BYTES, k)]
            high, low = scratch[at : at + TILE_BYTES], scratch[at + TILE : at + TILE + TILE_BYTES]
            for c in range(row.size):
                high[c] = np.int8((row[c] >> np.int16(8)) ^ flip)
                low[c] = np.int8(row[c])


@jit
def _tiles(
    first: int, last: int, rows: int, steps: int, w: Pointer, stride: int, n_blocks: int,
    bias: Pointer, bias_stride: int, scratch: I8, out: I32, column: int,
) -> None:  # fmt: skip
    """Row tiles first .. last, of ``rows`` rows each, times all blocks of columns."""
    n = out.shape[1]
    for j in range(n_blocks):
        block, offsets = moved(w, j * stride), moved(bias, j * bias_stride)
        for t in range(first, last):
            x = address(scratch, 4 * TILE + t * steps * 2 * TILE)
            amx_tile(x, block, steps, address(scratch, 0))
            for r in range(rows):
                to = address(out, (t * TILE_ROWS + r) * n + column + j * COLUMNS)
                join(address32(scratch, 0), r, offsets, to)


@jit
def _few_rows(
    first: int, n_rows: int, steps: int, w: Pointer, stride: int, n_blocks: int, bias: Pointer,
    bias_stride: int, scratch: I8, out: I32, column: int,
) -> None:  # fmt: skip
    n = out.shape[1]
    for j in range(n_blocks):
        block, offsets = moved(w, j * stride), moved(bias, j * bias_stride)
        r = first
        while r < n_rows:
            x = address(scratch, 4 * TILE + (r >> 4) * steps * 2 * TILE + (r & 15) * TILE_BYTES)
            to = address(out, r * n + column + j * COLUMNS)
            if r + 4 <= n_rows:
                _quads_four(x, block, steps, offsets, to, n)
                r += 4
            elif r + 2 <= n_rows:
                _quads_two(x, block, steps, offsets, to, n)
                r += 2
            else:
                _quads_one(x, block, steps, offsets, to, n)
                r += 1


@jit
def _product_quads(
    x: I16, n_rows: int, steps: int, offset: int, w: Pointer, stride: int, n_blocks: int,
    bias: Pointer, bias_stride: int, scratch: I8, out: I32, column: int,
) -> None:  # fmt: skip
    _split(x, n_rows, steps, offset, scratch)
    whole = n_rows // TILE_ROWS if AMX else 0
    rest = n_rows - whole * TILE_ROWS
    if AMX and n_rows > _FEW_ROWS:
        if whole > 0:
            begin_tiles(address(CONFIGURATIONS, TILE_ROWS * 64))
            group = max(1, _CACHED_BYTES // (steps * 2 * TILE))
            for t in range(0, whole, group):
                _tiles(
                    t, min(t + group, whole), TILE_ROWS, steps, w, stride, n_blocks, bias,
                    bias_stride, scratch, out, column,
                )  # fmt: skip
        if rest > _FEW_ROWS:
            begin_tiles(address(CONFIGURATIONS, rest * 64))
            _tiles(
                whole, whole + 1, rest, steps, w, stride, n_blocks, bias, bias_stride, scratch,
                out, column,
            )  # fmt: skip
        end_tiles()
    if rest > 0 and (rest <= _FEW_ROWS or not AMX):
        _few_rows(
            whole * TILE_ROWS, n_rows, steps, w, stride, n_blocks, bias, bias_stride, scratch, out,
            column,
        )  # fmt: skip


@jit
def _product_pairs(
    x: I16, n_rows: int, pairs: int, w: Pointer, stride: int, n_blocks: int, out: I32, column: int
) -> None:
    k, n = x.shape[1], out.shape[1]
    for j in range(n_blocks):
        block, to = moved(w, j * stride), column + j * COLUMNS
        r = 0
        while r + _ROWS <= n_rows:
            _pairs_many(address(x, r * k), k, block, pairs, address(out, r * n + to), n)
            r += _ROWS
        while r + 2 <= n_rows:
            _pairs_two(address(x, r * k), k, block, pairs, address(out, r * n + to), n)
            r += 2
        if r < n_rows:
            _pairs_one(address(x, r * k), k, block, pairs, address(out, r * n + to), n)


@jit
def matmul(x: I16, packed: I8, out: I32, n_rows: int, scratch: I8) -> None:
    """out[:n_rows] = x[:n_rows] @ weights.T.

    ``x`` (R, K) and ``out`` (R, N) are C-contiguous, K even and N padded to a multiple of
    32; ``scratch`` has :func:`scratch_bytes` bytes.
    """
    blocks, stride = packed.shape
    if QUADS:
        steps = stride // (2 * TILE)
        _product_quads(
            x, n_rows, steps, _SIGN, address(packed, _BIAS_BYTES), stride, blocks,
            address32(packed, 0), stride // 4, scratch, out, 0,
        )  # fmt: skip
    else:
        _product_pairs(x, n_rows, x.shape[1] // 2, address(packed, 0), stride, blocks, out, 0)


@jit
def times_keys(
    q: I16, n_rows: int, keys: I8, start: int, stride: int, n_blocks: int, scratch: I8, out: I32,
    column: int,
) -> None:  # fmt: skip
    """out[:n_rows, column:] = q[:n_rows] @ keys.T, for ``n_blocks`` blocks of 32 slots.

    The first block is at byte ``start`` of the strip; one takes ``stride`` bytes.
    """
    if QUADS:
        steps = stride // (2 * TILE)
        _product_quads(
            q, n_rows, steps, _SIGN, address(keys, start + _BIAS_BYTES), stride, n_blocks,
            address32(keys, start), stride // 4, scratch, out, column,
        )  # fmt: skip
    else:
        _product_pairs(
            q, n_rows, q.shape[1] // 2, address(keys, start), stride, n_blocks, out, column
        )


@jit
def times_values(
    shares: I16, n_rows: int, slots: int, values: I8, start: int, stride: int, n_blocks: int,
    scratch: I8, out: I32,
) -> None:  # fmt: skip
    """out[:n_rows] = shares[:n_rows, :slots] @ values; shares are not negative.

    ``slots`` is a multiple of 64; a block of 32 columns takes ``stride`` bytes.
    """
    if QUADS:
        _product_quads(
            shares, n_rows, slots // TILE_BYTES, 0, address(values, start), stride, n_blocks,
            address32(_NO_BIAS, 0), 0, scratch, out, 0,
        )  # fmt: skip
    else:
        _product_pairs(shares, n_rows, slots // 2, address(values, start), stride, n_blocks, out, 0)
