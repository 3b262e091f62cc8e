"""Exact matrix products: activations of 8 or 16 bits, int8 weights, int32 sums.

Weights, keys and values are packed for the tiles of this machine
(:mod:`pgolf_codec.lm.integers.tiles`); the sums do not depend on which tiles these are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf_codec.codec.jit import jit
from pgolf_codec.codec.machine import instruction_set
from pgolf_codec.codec.vectors import address
from pgolf_codec.lm.integers.layout import (
    AMX,
    COLUMNS,
    I8,
    I16,
    I32,
    QUADS,
    TILE,
    TILE_BYTES,
    TILE_ROWS,
)
from pgolf_codec.lm.integers.tiles import (
    CONFIGURATIONS,
    VECTORS,
    address32,
    amx_tile,
    begin_tiles,
    end_tiles,
    join,
    moved,
    pair_tile,
    quad_tile,
    wide_quad_tile,
)

_VECTORS = VECTORS[instruction_set()]
_ROWS = _VECTORS.rows
_pairs_many, _pairs_two, _pairs_one = (pair_tile(rows, _VECTORS) for rows in (_ROWS, 2, 1))
_wide_four, _wide_one = wide_quad_tile(4), wide_quad_tile(1)
_wide_tile = amx_tile(2, False)
_BIAS_BYTES = 4 * COLUMNS if QUADS else 0
_FEW_ROWS = 8
"""Up to so many rows left, AMX is no faster than ``vpdpbusd``."""
_AHEAD_BYTES = 4096
"""How far ahead of the products weights are asked for: a page, where the hardware stops."""
_CACHED_BYTES = 24 << 10
"""Of rows that are multiplied with one block of weights after the other."""
_SIGN = np.int16(-128)

Pointer = Any
"""To int8 or int32, as the intrinsics of :mod:`pgolf_codec.lm.integers.tiles` take it."""


@jit
def matmul16(x: I16, packed: I8, out: I32, n_rows: int, scratch: I8) -> None:
    """out[:n_rows] = x[:n_rows] @ weights.T, for activations of 16 bits.

    ``x`` (R, K) and ``out`` (R, N) are C-contiguous, K even and N padded to a multiple of
    32; ``scratch`` has :func:`scratch_bytes` bytes.
    """
    if QUADS:
        _wide_quads(x, packed, out, n_rows, scratch)
    else:
        w, pairs = address(packed, 0), x.shape[1] // 2
        _pairs(x, n_rows, pairs, w, packed.shape[1], packed.shape[0], out, 0)


@jit
def matmul8(x: Any, packed: I8, out: I32, n_rows: int) -> None:
    """As :func:`matmul16`, for activations of 8 bits: ``x`` is (R, K padded to 64) bytes."""
    blocks, stride = packed.shape
    if QUADS:
        w, bias = address(packed, _BIAS_BYTES), address32(packed, 0)
        zero, ahead, by = np.int64(0), np.int64(_AHEAD_BYTES), stride // 4
        _signed_quads(x, n_rows, zero, x.shape[1], w, stride, blocks, ahead, bias, by, out, zero)
    else:
        _pairs(x, n_rows, stride // (2 * COLUMNS), address(packed, 0), stride, blocks, out, 0)


@jit
def times_keys(
    q: Any, n_rows: int, keys: I8, start: int, stride: int, n_blocks: int, ahead: int, out: I32,
    column: int,
) -> None:  # fmt: skip
    """out[:n_rows, column:] = q[:n_rows] @ keys.T, for ``n_blocks`` blocks of 32 slots.

    The first block is at byte ``start`` of the strip; one takes ``stride`` bytes.  What lies
    ``ahead`` bytes further will be wanted next.
    """
    if QUADS:
        w, bias, depth = address(keys, start + _BIAS_BYTES), address32(keys, start), q.shape[1]
        _signed_quads(
            q,
            n_rows,
            np.int64(0),
            depth,
            w,
            stride,
            n_blocks,
            ahead,
            bias,
            stride // 4,
            out,
            column,
        )
    else:
        pairs = stride // (2 * COLUMNS)
        _pairs(q, n_rows, pairs, address(keys, start), stride, n_blocks, out, column)


@jit
def times_values(
    shares: Any, n_rows: int, first: int, last: int, values: I8, start: int, stride: int,
    n_blocks: int, ahead: int, out: I32,
) -> None:  # fmt: skip
    """out[:n_rows] = shares[:n_rows, :last] @ values; shares are bytes without a sign.

    ``shares`` are 0 up to slot ``first``, and from ``last`` to the next multiple of 64; a
    block of 32 columns takes ``stride`` bytes.  ``ahead`` is as in :func:`times_keys`.
    """
    w = address(values, start)
    if QUADS:
        none = address(out, 0)
        _share_quads(shares, n_rows, first, last, w, stride, n_blocks, ahead, none, 0, out, 0)
    else:
        _pairs(shares, n_rows, (last + 1) // 2, w, stride, n_blocks, out, 0)


@jit
def _pairs(
    x: Any, n_rows: int, pairs: int, w: Pointer, stride: int, n_blocks: int, out: I32, column: int
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


def _byte_quads(signed: bool) -> Any:
    """A kernel: rows of bytes times blocks of columns; ``bias`` counts if ``signed``."""
    one_tile, two_tiles = amx_tile(1, signed), amx_tile(2, signed)
    rows8, rows2, rows1 = (quad_tile(rows, signed) for rows in (8, 2, 1))
    rows2x2, rows1x2 = (quad_tile(rows, signed, blocks=2) for rows in (2, 1))

    @jit
    def some_tiles(
        x: I8, first: int, last: int, steps: int, w: Pointer, stride: int, n_blocks: int,
        out: I32, column: int,
    ) -> None:  # fmt: skip
        """Rows first .. last, whole tiles but for one tile alone."""
        k, n = x.shape[1], out.shape[1]
        for j in range(n_blocks):
            block, r = moved(w, j * stride), first
            while r + 2 * TILE_ROWS <= last:
                row, to = address(x, r * k), address(out, r * n + column + j * COLUMNS)
                two_tiles(row, k, TILE_ROWS * k, TILE_BYTES, block, steps, to, n, TILE_ROWS * n, 16)
                r += 2 * TILE_ROWS
            if r < last:
                row, to = address(x, r * k), address(out, r * n + column + j * COLUMNS)
                one_tile(row, k, 0, TILE_BYTES, block, steps, to, n, 0, 16)

    @jit
    def few_rows(
        x: I8, row: int, n_rows: int, first: int, last: int, w: Pointer, stride: int,
        n_blocks: int, ahead: int, bias: Pointer, bias_stride: int, out: I32, column: int,
    ) -> None:  # fmt: skip
        k, n, j = x.shape[1], out.shape[1], 0
        while j < n_blocks:
            block, offsets = moved(w, j * stride), moved(bias, j * bias_stride)
            some, r = 2 if j + 2 <= n_blocks and n_rows - row < 8 else 1, row
            while r < n_rows:
                one, to = address(x, r * k), address(out, r * n + column + j * COLUMNS)
                if r + 8 <= n_rows:
                    rows8(one, k, first, last, block, 0, ahead, offsets, 0, to, n)
                    r += 8
                elif r + 2 <= n_rows:
                    if some == 2:
                        rows2x2(
                            one, k, first, last, block, stride, ahead, offsets, bias_stride, to, n
                        )
                    else:
                        rows2(one, k, first, last, block, 0, ahead, offsets, 0, to, n)
                    r += 2
                else:
                    if some == 2:
                        rows1x2(
                            one, k, first, last, block, stride, ahead, offsets, bias_stride, to, n
                        )
                    else:
                        rows1(one, k, first, last, block, 0, ahead, offsets, 0, to, n)
                    r += 1
            j += some

    @jit
    def product(
        x: I8, n_rows: int, first: int, last: int, w: Pointer, stride: int, n_blocks: int,
        ahead: int, bias: Pointer, bias_stride: int, out: I32, column: int,
    ) -> None:  # fmt: skip
        done = 0
        if AMX and n_rows > _FEW_ROWS:
            whole, steps = n_rows // TILE_ROWS * TILE_ROWS, (last + TILE_BYTES - 1) // TILE_BYTES
            if whole > 0:
                begin_tiles(address(CONFIGURATIONS, TILE_ROWS * 64))
                group = max(2, _CACHED_BYTES // (TILE_ROWS * x.shape[1])) * TILE_ROWS
                for r in range(0, whole, group):
                    some_tiles(x, r, min(r + group, whole), steps, w, stride, n_blocks, out, column)
            done, rest = whole, n_rows - whole
            if rest > _FEW_ROWS:
                begin_tiles(address(CONFIGURATIONS, rest * 64))
                some_tiles(x, whole, n_rows, steps, w, stride, n_blocks, out, column)
                done = n_rows
            end_tiles()
        if done < n_rows:
            few_rows(
                x, done, n_rows, first // 16 * 4, (last + 15) // 16 * 4, w, stride, n_blocks, ahead,
                bias, bias_stride, out, column,
            )  # fmt: skip

    return product


_signed_quads, _share_quads = _byte_quads(True), _byte_quads(False)


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
                high[c] = np.int8((row[c] >> np.int16(8)) ^ _SIGN)
                low[c] = np.int8(row[c])


@jit
def wide_tiles(first: int, last: int, rows: int, packed: I8, scratch: I8, out: I32) -> None:
    """Row tiles first .. last, of ``rows`` rows each, times all columns."""
    steps, n = packed.shape[1] // (2 * TILE), out.shape[1]
    sums = address32(scratch, 0)
    for j in range(packed.shape[0]):
        block = j * packed.shape[1]
        w, bias = address(packed, block + _BIAS_BYTES), address32(packed, block)
        for t in range(first, last):
            x = address(scratch, 4 * TILE + t * steps * 2 * TILE)
            _wide_tile(x, TILE_BYTES, TILE, 2 * TILE, w, steps, sums, 16, 256, 512)
            for r in range(rows):
                to = address(out, (t * TILE_ROWS + r) * n + j * COLUMNS)
                join(sums, r, bias, to)


@jit
def _wide_few_rows(first: int, n_rows: int, packed: I8, scratch: I8, out: I32) -> None:
    steps, n = packed.shape[1] // (2 * TILE), out.shape[1]
    for j in range(packed.shape[0]):
        block = j * packed.shape[1]
        w, bias = address(packed, block + _BIAS_BYTES), address32(packed, block)
        r = first
        while r < n_rows:
            x = address(scratch, 4 * TILE + (r >> 4) * steps * 2 * TILE + (r & 15) * TILE_BYTES)
            to = address(out, r * n + j * COLUMNS)
            if r + 4 <= n_rows:
                _wide_four(x, w, steps, bias, to, n)
                r += 4
            else:
                _wide_one(x, w, steps, bias, to, n)
                r += 1


@jit
def _wide_quads(x: I16, packed: I8, out: I32, n_rows: int, scratch: I8) -> None:
    steps = packed.shape[1] // (2 * TILE)
    _split(x, n_rows, steps, scratch)
    whole = n_rows // TILE_ROWS if AMX else 0
    rest = n_rows - whole * TILE_ROWS
    if AMX and n_rows > _FEW_ROWS:
        if whole > 0:
            begin_tiles(address(CONFIGURATIONS, TILE_ROWS * 64))
        group = max(1, _CACHED_BYTES // (steps * 2 * TILE))
        for t in range(0, whole, group):
            wide_tiles(t, min(t + group, whole), np.int64(TILE_ROWS), packed, scratch, out)
        if rest > _FEW_ROWS:
            begin_tiles(address(CONFIGURATIONS, rest * 64))
            wide_tiles(whole, whole + 1, rest, packed, scratch, out)
        end_tiles()
    if rest > 0 and (rest <= _FEW_ROWS or not AMX):
        _wide_few_rows(whole * TILE_ROWS, n_rows, packed, scratch, out)
