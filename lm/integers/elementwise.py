"""Operations on integers that several parts of the graph share.

Their names are those of ``docs/NUMERICS.md``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.codec.vectors import address
from pgolf_codec.lm.integers.numerics import BYTE_SHIFT, FACTOR_FRAC, INT16_MAX, NORM_SHIFT
from pgolf_codec.lm.integers.vectors import normalized

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
def root_mean_square(total: int, n: int) -> int:
    """Of n numbers whose squares add up to ``total``, in units of 2**-4 of theirs."""
    return int(max(1, isqrt((total << 8) // n)))


@jit
def inverse_root(total: int, n: int) -> int:
    """The factor that normalises n numbers whose squares add up to ``total``."""
    return int((np.int64(1) << 40) // root_mean_square(total, n))


@jit
def normalize(x: I32, total: int, out: I16) -> None:
    """out = x / rms(x) in units of 2**-9; |x| < 2**21, and their squares add up to ``total``."""
    inverse = inverse_root(total, x.size)
    if inverse < 1 << 31:
        normalized(address(x, 0), inverse, address(out, 0), x.size)
    else:
        for i in range(x.size):
            v = (np.int64(x[i]) * inverse + (1 << (NORM_SHIFT - 1))) >> NORM_SHIFT
            out[i] = clamp(v, INT16_MAX)


@jit
def byte_scale(largest: int) -> int:
    """R of numbers of which none is larger."""
    return int((127 << BYTE_SHIFT) // max(1, largest))


@jit
def byte_factor(largest: int, rms: int) -> int:
    """A of these bytes."""
    return int((largest << FACTOR_FRAC) // (127 * rms))
