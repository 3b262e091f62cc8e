"""Operations on vectors of integers that several parts of the graph share.

Their names are those of ``docs/NUMERICS.md``.  Loops are written for the vectoriser:
products of 64 bits have factors that were widened from 32 bits, and what fits 32 bits
is cast back to them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

RESIDUAL_LIMIT = (1 << 21) - 1
SCORE_SHIFT = 6
"""From products of queries and keys to exponents."""
EXP2_SLOPE, EXP2_CURVE = 44014, 11246
"""2**16 * 2**-x is nearly 2**16 - x (slope - x curve), 0 <= x < 1; exactly where x is 0, and 1."""


@jit
def clamp(v: int, limit: int) -> int:
    return min(max(v, -limit), limit)


@jit
def scaled(acc: int, m: int) -> int:
    """acc * m / 2**32, rounded half up."""
    return int((np.int64(acc) * np.int64(m) + (1 << 31)) >> 32)


@jit
def power(below: np.uint32) -> np.uint32:
    """2**24 * 2**(-below / 1024), about; 0 if that is less than 1."""
    f = np.uint32(below & np.uint32(1023))
    slope = np.uint32(EXP2_SLOPE) - np.uint32(np.uint32(f * np.uint32(EXP2_CURVE)) >> np.uint32(10))
    e = np.uint32(1 << 16) - np.uint32(np.uint32(f * slope) >> np.uint32(10))
    return np.uint32(np.uint32(e << np.uint32(8)) >> min(below >> np.uint32(10), np.uint32(31)))


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
def normalize(x: I32, out: I16) -> None:
    """out = x / rms(x) in units of 2**-9; |x| < 2**21."""
    total = np.int64(0)
    for i in range(x.size):
        total += np.int64(x[i]) * np.int64(x[i])
    root = max(np.int64(1), isqrt((total << 8) // x.size))
    inverse = (np.int64(1) << 40) // root
    if inverse < 1 << 31:
        narrow = np.int32(inverse)
        for i in range(x.size):
            v = (np.int64(x[i]) * np.int64(narrow) + (1 << 26)) >> 27
            out[i] = clamp(v, 32767)
    else:
        for i in range(x.size):
            v = (np.int64(x[i]) * inverse + (1 << 26)) >> 27
            out[i] = clamp(v, 32767)
