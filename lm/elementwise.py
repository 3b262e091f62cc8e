"""Operations on integers that several parts of the graph share.

Their names are those of ``docs/NUMERICS.md``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.lm.numerics import INT16_MAX, NORM_SHIFT
from pgolf_codec.lm.tiles import address
from pgolf_codec.lm.vectors import normalized, squares

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]


@jit
def clamp(v: int, limit: int) -> int:
    return min(max(v, -limit), limit)


@jit
def scaled(acc: int, m: int) -> int:
    """acc * m / 2**32, rounded half up."""
    return int((np.int64(acc) * np.int64(m) + (1 << 31)) >> 32)


@jit
def isqrt(v: int) -> int:
    """floor(sqrt(v)), 0 <= v < 2**62."""
    r = int(math.sqrt(v))
    while r * r > v:
        r -= 1
    while (r + 1) * (r + 1) <= v:
        r += 1
    return r


@jit
def normalize(x: I32, unit: int, out: I16) -> None:
    """out = x / rms(x) in units of 2**-9, if ``unit`` is KEY_UNIT; |x| < 2**21."""
    total = squares(address(x, 0), x.size)
    inverse = unit // max(1, isqrt((total << 8) // x.size))
    if -(1 << 31) <= inverse < 1 << 31:
        normalized(address(x, 0), inverse, address(out, 0), x.size)
    else:
        for i in range(x.size):
            v = (np.int64(x[i]) * inverse + (1 << (NORM_SHIFT - 1))) >> NORM_SHIFT
            out[i] = clamp(v, INT16_MAX)
