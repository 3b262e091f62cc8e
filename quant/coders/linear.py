"""How likely a table is for each ridge of a linear prediction; for encoders only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit


@jit
def log_determinants(
    table: NDArray[np.float64],
    ridges: NDArray[np.float64],
    products: NDArray[np.float64],
    scratch: NDArray[np.float64],
    found: NDArray[np.float64],
) -> int:
    """Natural logarithms of det(X^T X + r I), for each ridge r, into ``found``.

    ``products``, zeros, and ``scratch`` are (columns, columns).  One thread and no BLAS:
    the matrices are too small for more.
    """
    n_rows, n = table.shape
    for t in range(n_rows):
        row = table[t]
        for i in range(n):
            out, later, share = products[i, i:], row[i:], row[i]
            for k in range(later.size):
                out[k] += share * later[k]
    for r in range(ridges.size):
        for i in range(n):
            row, source = scratch[i, i:], products[i, i:]
            for k in range(row.size):
                row[k] = source[k]
            row[0] += ridges[r]
            for j in range(i):
                above = scratch[j, i:]
                share = above[0] / scratch[j, j]
                for k in range(row.size):
                    row[k] -= share * above[k]
            found[r] += np.log(row[0])
    return 0
