"""Arrays that start on a line of the cache.

Numpy starts them on multiples of 16 bytes.  A vector or a tile's row of 64 bytes then lies on
two lines, and loading it takes up to seven times as long (docs/SPEED.md).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE = 64
"""Bytes."""

T = TypeVar("T")
Shape = int | tuple[int, ...]


def empty(shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
    """As numpy's."""
    return _on_a_line(np.empty(_n_bytes(shape, dtype) + LINE, np.uint8), shape, dtype)


def zeros(shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
    """As numpy's: memory of the system that nothing is written to takes no room."""
    return _on_a_line(np.zeros(_n_bytes(shape, dtype) + LINE, np.uint8), shape, dtype)


def aligned(value: T) -> T:
    """An array, or a named tuple with arrays in it, copied where it does not start on a line."""
    if isinstance(value, np.ndarray):
        if value.flags.c_contiguous and value.ctypes.data % LINE == 0:
            return value
        copy = empty(value.shape, value.dtype)
        copy[...] = value
        copy.setflags(write=value.flags.writeable)
        return copy  # type: ignore[return-value]
    if isinstance(value, tuple):
        return type(value)(*(aligned(item) for item in value))
    return value


def _n_bytes(shape: Shape, dtype: DTypeLike) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _on_a_line(raw: NDArray[np.uint8], shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
    skipped = -raw.ctypes.data % LINE
    return raw[skipped : raw.size - LINE + skipped].view(dtype).reshape(shape)
