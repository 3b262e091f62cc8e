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
SOFTCAP_KNOTS = 513
"""Knots of the soft cap, a quarter of a nat apart, from 0 to 128."""


def _frozen(values: NDArray[np.float64], dtype: type, crc: int) -> NDArray[np.int32]:
    table = np.rint(values).astype(dtype)
    if zlib.crc32(table.astype("<i4").tobytes()) != crc:
        raise PgolfError("this machine's floating point does not yield the format's tables")
    table.setflags(write=False)
    return table


def exp2_table() -> NDArray[np.int32]:
    """(1024,) int32: round(2**30 * 2**(-i / 1024))."""
    i = np.arange(1 << EXP2_BITS)
    return _frozen(np.exp2(30 - i / (1 << EXP2_BITS)), np.int32, EXP2_CRC)


def cosine_table() -> NDArray[np.int32]:
    """(65536,) int32: round(2**14 * cos(2 pi i / 65536)); sine is a quarter turn behind."""
    quarter = PHASES // 4
    first = np.cos(np.arange(quarter + 1) * (2 * np.pi / PHASES)) * (1 << 14)
    first[quarter] = 0.0
    half = np.concatenate((first, -first[quarter - 1 :: -1]))
    return _frozen(np.concatenate((half, half[PHASES // 2 - 1 : 0 : -1])), np.int32, COSINE_CRC)


def softcap_knots(softcap: float) -> NDArray[np.int32]:
    """(513,) int32: softcap * tanh(k / (4 softcap)) in base-2 units of 2**-14.

    Stored in the artifact, never recomputed by a decoder.
    """
    k = np.arange(SOFTCAP_KNOTS) / 4
    return np.rint(softcap * np.tanh(k / softcap) * np.log2(np.e) * (1 << 14)).astype(np.int32)


EXP2_CRC = 0xd3f76e47
COSINE_CRC = 0x1886cedf
