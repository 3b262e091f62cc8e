"""Exact matrix products: int16 activations, int8 or int16 weights, int32 sums.

Weights are packed once for the tiles of this machine (:mod:`pgolf_codec.lm.tiles`); the
sums do not depend on which tiles these are.
"""

from __future__ import annotations

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.lm.layout import AMX, COLUMNS, I8, I16, I32, QUADS, TILE, TILE_BYTES, TILE_ROWS
from pgolf_codec.lm.tiles import (
    CONFIGURATIONS,
    QUAD_ROWS,
    VECTORS,
    address,
    address32,
    amx_tile,
    begin_tiles,
    end_tiles,
    join,
    pair_tile,
    quad_tile,
)

_VECTORS = VECTORS[instruction_set()]
_ROWS = _VECTORS.rows
_pairs_many, _pairs_two, _pairs_one = (pair_tile(rows, _VECTORS) for rows in (_ROWS, 2, 1))
_quads_many, _quads_one = quad_tile(QUAD_ROWS), quad_tile(1)
_BIAS_BYTES = 4 * COLUMNS
_FEW_ROWS = 8
"""Up to so many rows left, AMX is no faster than ``vpdpbusd``."""
_CACHED_BYTES = 24 << 10
"""Of rows that are multiplied with one block of weights after the other."""


@jit
def _split(x: I16, n_rows: int, steps: int, scratch: I8) -> None:
    """High and low bytes of x + 32768, (row tile, step, 2, 16, 64)."""
    k = x.shape[1]
    for r in range(n_rows):
        for step in range(steps):
            at = 4 * TILE + ((r >> 4) * steps + step) * 2 * TILE + (r & 15) * TILE_BYTES
            first = step * TILE_BYTES
            row = x[r, first : min(first + TILE_BYTES, k)]
            high, low = scratch[at : at + TILE_BYTES], scratch[at + TILE : at + TILE + TILE_BYTES]
            for c in range(row.size):
                high[c] = np.int8((row[c] >> np.int16(8)) ^ np.int16(-128))
                low[c] = np.int8(row[c])


@jit
def _tiles(first: int, last: int, rows: int, packed: I8, scratch: I8, out: I32) -> None:
    """Row tiles first .. last, of ``rows`` rows each, times all columns."""
    steps, n = packed.shape[1] // (2 * TILE), out.shape[1]
    for j in range(packed.shape[0]):
        block = j * packed.shape[1]
        for t in range(first, last):
            x = address(scratch, 4 * TILE + t * steps * 2 * TILE)
            amx_tile(x, address(packed, block + _BIAS_BYTES), steps, address(scratch, 0))
            for r in range(rows):
                to = address(out, (t * TILE_ROWS + r) * n + j * COLUMNS)
                join(address32(scratch, 0), r, address32(packed, block), to)


@jit
def _few_rows(first: int, n_rows: int, packed: I8, scratch: I8, out: I32) -> None:
    steps, n = packed.shape[1] // (2 * TILE), out.shape[1]
    for j in range(packed.shape[0]):
        block = j * packed.shape[1]
        w, bias = address(packed, block + _BIAS_BYTES), address32(packed, block)
        r = first
        while r < n_rows:
            x = 4 * TILE + (r >> 4) * steps * 2 * TILE + (r & 15) * TILE_BYTES
            to = address(out, r * n + j * COLUMNS)
            if r + QUAD_ROWS <= n_rows:
                _quads_many(address(scratch, x), w, steps, bias, to, n)
                r += QUAD_ROWS
            else:
                _quads_one(address(scratch, x), w, steps, bias, to, n)
                r += 1


@jit
def _matmul_quads(x: I16, packed: I8, out: I32, n_rows: int, scratch: I8) -> None:
    steps = packed.shape[1] // (2 * TILE)
    _split(x, n_rows, steps, scratch)
    whole = n_rows // TILE_ROWS if AMX else 0
    rest = n_rows - whole * TILE_ROWS
    if AMX:
        if whole > 0:
            group = max(1, _CACHED_BYTES // (steps * 2 * TILE))
            begin_tiles(address(CONFIGURATIONS, TILE_ROWS * 64))
            for t in range(0, whole, group):
                _tiles(t, min(t + group, whole), TILE_ROWS, packed, scratch, out)
        if rest > _FEW_ROWS:
            begin_tiles(address(CONFIGURATIONS, rest * 64))
            _tiles(whole, whole + 1, rest, packed, scratch, out)
        end_tiles()
    if rest > 0 and (rest <= _FEW_ROWS or not AMX):
        _few_rows(whole * TILE_ROWS, n_rows, packed, scratch, out)


@jit
def _matmul_pairs(x: I16, packed: I8, out: I32, n_rows: int) -> None:
    k, n = x.shape[1], out.shape[1]
    for j in range(packed.shape[0]):
        w = address(packed, j * packed.shape[1])
        r = 0
        while r + _ROWS <= n_rows:
            _pairs_many(address(x, r * k), k, w, k // 2, address(out, r * n + j * COLUMNS), n)
            r += _ROWS
        while r + 2 <= n_rows:
            _pairs_two(address(x, r * k), k, w, k // 2, address(out, r * n + j * COLUMNS), n)
            r += 2
        if r < n_rows:
            _pairs_one(address(x, r * k), k, w, k // 2, address(out, r * n + j * COLUMNS), n)


@jit
def matmul(x: I16, packed: I8, out: I32, n_rows: int, scratch: I8) -> None:
    """out[:n_rows] = x[:n_rows] @ weights.T.

    ``x`` (R, K) and ``out`` (R, N) are C-contiguous, K even and N padded to a multiple of
    32; ``scratch`` has :func:`scratch_bytes` bytes.
    """
    if QUADS:
        _matmul_quads(x, packed, out, n_rows, scratch)
    else:
        _matmul_pairs(x, packed, out, n_rows)


@jit
def product(
    x: I16, n_rows: int, packed: I16, start: int, block_stride: int, pairs: int, n_blocks: int,
    out: I32,
) -> None:  # fmt: skip
    """out[:n_rows, :32 n_blocks] = x[:n_rows, :2 pairs] @ weights.T.

    The weights are a part of an array of pairs: block j, (pairs, 32, 2), starts at flat
    element ``start + j * block_stride``.
    """
    k, n = x.shape[1], out.shape[1]
    for j in range(n_blocks):
        w = address(packed, start + j * block_stride)
        to = j * COLUMNS
        r = 0
        while r + _ROWS <= n_rows:
            _pairs_many(address(x, r * k), k, w, pairs, address(out, r * n + to), n)
            r += _ROWS
        while r + 2 <= n_rows:
            _pairs_two(address(x, r * k), k, w, pairs, address(out, r * n + to), n)
            r += 2
        if r < n_rows:
            _pairs_one(address(x, r * k), k, w, pairs, address(out, r * n + to), n)
