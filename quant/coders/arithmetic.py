"""Binary arithmetic coding: one bit at a time, with a 16-bit probability.

The range coder of LZMA, with a decoder that reads zeros behind the end: the encoder
leaves off up to four zero bytes there.  State of an encoder: ``[low, range, bytes]``;
of a decoder: ``[code, range, bytes read]``; both uint64 (3,).  They begin as
:data:`~pgolf_codec.quant.coders.numbers.FULL_RANGE` says.  Kernels only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.machine_code import OVERRUN

_TOP = np.uint64(1 << 24)
_FULL = np.uint64((1 << 32) - 1)
_BYTE = np.uint64(8)
_LAST = np.uint64(24)
_CARRY = np.uint64(32)
_HALF = np.uint64(16)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@jit
def encode_bit(
    state: NDArray[np.uint64], out: NDArray[np.uint8], probability: int, bit: int
) -> None:
    """``probability`` of a one, in units of 2**-16, from 1 to 65535.

    ``out`` has room for 2 bytes more than are there, at least.
    """
    bound = (state[1] >> _HALF) * np.uint64(probability)
    if bit:
        state[1] = bound
    else:
        state[0] += bound
        state[1] -= bound
    while state[1] < _TOP:
        _shift(state, out)
        state[1] <<= _BYTE


@jit
def _shift(state: NDArray[np.uint64], out: NDArray[np.uint8]) -> None:
    """The first byte of ``low`` is final but for a carry, which is handed on to those before."""
    n = np.int64(state[2])
    if state[0] >> _CARRY:
        at = n - 1
        while out[at] == 255:
            out[at] = 0
            at -= 1
        out[at] += 1
        state[0] &= _FULL
    out[n] = state[0] >> _LAST
    state[0] = state[0] << _BYTE & _FULL
    state[2] += _ONE


@jit
def finish_encoder(state: NDArray[np.uint64], out: NDArray[np.uint8]) -> int:
    """Number of bytes in all; ``out`` has room for four more."""
    low, end = state[0], state[0] + state[1]
    for zeros in (32, 24, 16, 8, 0):  # the point of [low, end) with the most zero bytes
        step = _ONE << np.uint64(zeros)
        point = (low + step - _ONE) & ~(step - _ONE)
        if point < end:
            break
    state[0] = point
    for _ in range(4):
        _shift(state, out)
    n = np.int64(state[2])
    while n > 0 and out[n - 1] == 0 and n > np.int64(state[2]) - 4:
        n -= 1
    return int(n)


@jit
def decode_bit(state: NDArray[np.uint64], data: NDArray[np.uint8], probability: int) -> int:
    bound = (state[1] >> _HALF) * np.uint64(probability)
    if state[0] < bound:
        bit = 1
        state[1] = bound
    else:
        bit = 0
        state[0] -= bound
        state[1] -= bound
    while state[1] < _TOP:
        _read(state, data)
        state[1] <<= _BYTE
    return bit


@jit
def _read(state: NDArray[np.uint64], data: NDArray[np.uint8]) -> None:
    at = np.int64(state[2])
    byte = np.uint64(data[at]) if at < data.size else _ZERO
    state[0] = state[0] << _BYTE | byte
    state[2] += _ONE


@jit
def overrun(state: NDArray[np.uint64], data: NDArray[np.uint8]) -> bool:
    """Whether more was read than an encoder can have left off: the data is cut short."""
    return bool(np.int64(state[2]) > data.size + OVERRUN)
