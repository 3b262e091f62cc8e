"""Frozen integer tables of the context mixing coder (docs/WEIGHTS.md, "cm").

All come from the one table of powers of two that the models have too, by integer
arithmetic alone.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.lm.tables import exp2_table

N_SIGMAS = 112
"""Standard deviations 2**((i - SIGMA_ZERO) / 16)."""
SIGMA_ZERO = 48
REACH = 24
"""Distances are from -REACH to REACH, in units of 1/16."""
STRETCH_LIMIT = 2047
"""Logits are in units of 1/192."""
_LEFT = (2, 8, 27, 72, 173, 392, 854)
_ABOVE = (8, 72, 392)


class Tables(NamedTuple):
    """Frozen arrays."""

    squash: NDArray[np.uint16]
    """(4096,): 2**16 times the probability of a logit, which is the index less 2048."""
    stretch: NDArray[np.int16]
    """(4096,): the logit of a probability of index / 4096."""
    begin: NDArray[np.int16]
    """(N_SIGMAS, 32 REACH + 1): logit of P(v > x), v normal about 0, x = index / 16 - REACH."""
    go_on: NDArray[np.int16]
    """(N_SIGMAS, 32 REACH + 1): logit of P(v > x + 1/2 | v > x - 1/2)."""
    rate: NDArray[np.int32]
    """(1024,): 2**16 times the step of a counter that has seen so many bits."""
    eighths: NDArray[np.int32]
    """(128,): 8 log2(1 + index / 128), to the nearest integer."""
    left: NDArray[np.int32]
    """(1024,): class, below 8, of a squared distance in units of sigma**2 / 32."""
    above: NDArray[np.int32]
    """(1024,): another, below 4."""


@cache
def tables() -> Tables:
    squash = _squash()
    # The first logit whose probability is the given one, or more.
    middles = (np.arange(4096, dtype=np.int64) * 2 + 1) << 3
    stretch = np.searchsorted(squash, middles).clip(1, 4095) - 2048
    tails = _tails()
    middle = tails.shape[1] // 2
    x = np.arange(-16 * REACH, 16 * REACH + 1) + middle
    begin = _logits(tails[:, x], tails[:, :1], squash)
    go_on = _logits(tails[:, x + 8], tails[:, x - 8], squash)
    bounds = exp2_table()[1024 - (128 * np.arange(1, 9) - 64)].astype(np.int64)
    eighths = np.searchsorted(bounds, (2 * np.arange(128, dtype=np.int64) + 257) << 21, "right")
    rate = (65536 * 5) // (5 * np.arange(1024) + 8)
    found = Tables(
        squash.astype(np.uint16),
        stretch.astype(np.int16),
        begin.astype(np.int16),
        go_on.astype(np.int16),
        rate.astype(np.int32),
        eighths.astype(np.int32),
        _classes(_LEFT).astype(np.int32),
        _classes(_ABOVE).astype(np.int32),
    )
    for table in found:
        table.setflags(write=False)
    return found


def _exp2(exponents: NDArray[np.int64]) -> NDArray[np.int64]:
    """2**30 * 2**(-exponent / 1024), rounded down; 0 from 31 * 1024 on."""
    table = exp2_table().astype(np.int64)
    shifts = np.minimum(exponents >> 10, 62)
    found: NDArray[np.int64] = table[exponents & 1023] >> shifts
    return found


def _squash() -> NDArray[np.int64]:
    """65536 / (1 + e**(-x / 192)), x from -2048 to 2047."""
    x = np.arange(2049, dtype=np.int64)
    falling = _exp2(x * 504_258 >> 16)  # 1024 log2(e) / 192
    lower = (falling << 16) // ((1 << 30) + falling)  # x <= 0
    return np.concatenate((lower[::-1], 65536 - lower[1:2048])).clip(2, 65534)


def _tails() -> NDArray[np.int64]:
    """(N_SIGMAS, n) sums of the normal density from x on, x from -(REACH + 1) in 1/16."""
    half = 16 * (REACH + 1)
    steps = 2 * np.arange(half, dtype=np.int64) + 1  # middles, in 1/32
    # x**2 / (2 sigma**2) * 1024 log2(e), with 1 / sigma**2 = 2**(-(i - zero) / 8)
    powers = _exp2(128 * np.arange(N_SIGMAS, dtype=np.int64)) >> 8
    factors = powers * 1477 // 2048 << (SIGMA_ZERO // 8)  # 22 fraction bits
    exponents = (steps**2)[None, :] * factors[:, None] >> 22
    density = _exp2(exponents)
    both = np.concatenate((density[:, ::-1], density), axis=1)
    sums = np.zeros((N_SIGMAS, 2 * half + 1), np.int64)
    sums[:, :-1] = np.cumsum(both[:, ::-1], axis=1)[:, ::-1]
    return sums


def _classes(bounds: tuple[int, ...]) -> NDArray[np.int64]:
    return np.searchsorted(np.array(bounds), np.arange(1024), "right")


def _logits(
    part: NDArray[np.int64], whole: NDArray[np.int64], squash: NDArray[np.int64]
) -> NDArray[np.int64]:
    probability = (part << 16) // np.maximum(whole, 1)
    found: NDArray[np.int64] = np.searchsorted(squash, probability).clip(1, 4095) - 2048
    return found
