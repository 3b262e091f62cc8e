"""Single kernels, as functions that Python can call."""

from __future__ import annotations

import numba

from pgolf_codec.codec.vectors import address
from pgolf_codec.lm.integers import attention, elementwise, products, vectors

_matmul8, _matmul16 = products.matmul8, products.matmul16
_times_keys, _times_values = products.times_keys, products.times_values
_isqrt, _normalize = elementwise.isqrt, elementwise.normalize
_narrow, _inverse_root = attention._narrow, elementwise.inverse_root
_squares, _address = vectors.squares, address


@numba.njit
def matmul8(x, packed, out, n_rows):  # type: ignore[no-untyped-def]
    _matmul8(x, packed, out, n_rows)


@numba.njit
def matmul16(x, packed, out, n_rows, scratch):  # type: ignore[no-untyped-def]
    _matmul16(x, packed, out, n_rows, scratch)


@numba.njit
def times_keys(q, n_rows, keys, start, stride, n_blocks, out, column):  # type: ignore[no-untyped-def]
    _times_keys(q, n_rows, keys, start, stride, n_blocks, 0, out, column)


@numba.njit
def times_values(shares, n_rows, slots, values, start, stride, n_blocks, out):  # type: ignore[no-untyped-def]
    _times_values(shares, n_rows, 0, slots, values, start, stride, n_blocks, 0, out)


@numba.njit
def isqrt(v):  # type: ignore[no-untyped-def]
    return _isqrt(v)


@numba.njit
def normalize(x, out):  # type: ignore[no-untyped-def]
    _normalize(x, _squares(_address(x, 0), x.size), out)


@numba.njit
def narrow(x):  # type: ignore[no-untyped-def]
    return _narrow(x, _inverse_root(_squares(_address(x, 0), x.size), x.size))
