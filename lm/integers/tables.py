"""The integer tables that every decoder must have alike (docs/NUMERICS.md, "Tables").

Each entry is a correctly rounded value of an elementary function.  They are
computed in float64, where no entry comes near enough to a tie for the machine's
libm to matter (a test shows the margin), and a checksum makes sure of it.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import PgolfError
from pgolf_codec.lm.graph import PHASES

EXP2_BITS = 10
"""Exponents are in units of 2**-EXP2_BITS, base 2."""


def _frozen(values: NDArray[np.float64], crc: int) -> NDArray[np.int32]:
    table = np.rint(values).astype(np.int32)
    if zlib.crc32(table.astype("<i4").tobytes()) != crc:
        raise PgolfError("this machine's floating point does not yield the format's tables")
    table.setflags(write=False)
    return table


def exp2_table() -> NDArray[np.int32]:
    """(1024,) int32: round(2**30 * 2**(-i / 1024))."""
    i = np.arange(1 << EXP2_BITS)
    return _frozen(np.exp2(30 - i / (1 << EXP2_BITS)), EXP2_CRC)


def log2_table() -> NDArray[np.int32]:
    """(1024,) int32: round(2**10 * log2(1 + i / 1024))."""
    i = np.arange(1 << EXP2_BITS)
    return _frozen(np.log2(1 + i / (1 << EXP2_BITS)) * (1 << EXP2_BITS), LOG2_CRC)


def sigmoid_table() -> NDArray[np.int32]:
    """(8192,) int32: round(2**14 / (1 + exp(-i / 1024)))."""
    return _frozen(2**14 / (1 + np.exp(-np.arange(8192) / 1024)), SIGMOID_CRC)


def cosine_table() -> NDArray[np.int32]:
    """(65536,) int32: round(2**14 * cos(2 pi i / 65536)); sine is a quarter turn behind."""
    quarter = PHASES // 4
    first = np.cos(np.arange(quarter + 1) * (2 * np.pi / PHASES)) * (1 << 14)
    first[quarter] = 0.0
    half = np.concatenate((first, -first[quarter - 1 :: -1]))
    return _frozen(np.concatenate((half, half[PHASES // 2 - 1 : 0 : -1])), COSINE_CRC)


LOG2_CRC = 0x646A04F5
EXP2_CRC = 0xD3F76E47
COSINE_CRC = 0x1886CEDF
SIGMOID_CRC = 0x1B5E7224
