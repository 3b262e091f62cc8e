"""From anyone's float64 distribution to the integer frequencies that are coded.

With m the largest of p_0 … p_{V-1},

    w_i = rint(p_i / m · 2**24)

and the intervals of these weights are those of :mod:`pgolf_codec.codec.frequencies`:
every symbol has at least one unit of 2**-24, and the whole is exactly 2**24.  Division,
multiplication and rounding are elementwise IEEE operations and the maximum is exact, so
equal distributions give equal frequencies anywhere.  Their sum is never formed in
floating point: what does not sum to one is scaled by this rule, as any coder must.

The unit that each symbol is given costs −log2(1 − V/2**24) bits a symbol at most: .00009
for V = 1024, .0056 for V = 65536.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgolf_codec.codec.frequencies import SHIFT, TOTAL
from pgolf_codec.errors import PredictorError

MAX_SYMBOLS = 1 << 16


def as_distribution(values: ArrayLike, n_symbols: int) -> NDArray[np.float64]:
    """``values`` as (V,) float64; raises :class:`PredictorError` for another shape."""
    p = np.asarray(values, np.float64)
    if p.shape != (n_symbols,):
        raise PredictorError(f"a distribution of shape {p.shape}, not ({n_symbols},)")
    return p


def weights(p: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Weights (V,), at most 2**24, of probabilities (V,).

    Raises :class:`PredictorError` for what is no distribution even when scaled: a
    negative entry, NaN, infinity, or zeros only.
    """
    most = float(p.max())  # NaN if any entry is
    if not 0.0 < most < np.inf or float(p.min()) < 0.0:
        worst = int(np.argmin(np.where(np.isfinite(p), p, -np.inf)))
        raise PredictorError(f"no distribution: symbol {worst} has probability {p[worst]}")
    return np.rint(p / most * TOTAL).astype(np.uint32)


def cuts(w: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where the intervals of weights (V,) begin, and 2**24: (V + 1,).

    The rule of :mod:`pgolf_codec.codec.frequencies`, for all symbols at once.
    """
    n = len(w)
    out = np.empty(n + 1, np.int64)
    out[0] = 0
    np.cumsum(w, dtype=np.int64, out=out[1:])
    r = ((TOTAL - n) << SHIFT) // int(out[-1])
    out *= r
    out >>= SHIFT
    out += np.arange(n + 1)
    out[-1] = TOTAL
    return out
