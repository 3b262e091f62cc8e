"""Single kernels, as functions that Python can call."""

from __future__ import annotations

import numba

from pgolf_codec.lm import elementwise, products

_matmul, _product = products.matmul, products.product
_isqrt, _normalize = elementwise.isqrt, elementwise.normalize


@numba.njit
def matmul(x, packed, out, n_rows, scratch):  # type: ignore[no-untyped-def]
    _matmul(x, packed, out, n_rows, scratch)


@numba.njit
def product(x, n_rows, packed, start, block_stride, pairs, n_blocks, out):  # type: ignore[no-untyped-def]
    _product(x, n_rows, packed, start, block_stride, pairs, n_blocks, out)


@numba.njit
def isqrt(v):  # type: ignore[no-untyped-def]
    return _isqrt(v)


@numba.njit
def normalize(x, out):  # type: ignore[no-untyped-def]
    _normalize(x, out)
