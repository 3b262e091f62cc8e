"""Prediction of a row from its own beginning: what columns have in common.

A regularised covariance of the rows so far is factored as L D L^T; then the expected
item of column k is its mean plus the sum over j < k of L[k, j] times the error at j.
Columns form groups of at most :data:`GROUP`, each by itself.

Sums of products of integers are exact in float64 in any order.  The factorization
takes + - * / in the order that docs/WEIGHTS.md gives, and L is rounded to integers.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

GROUP = 256
BLOCK = 8
"""Rows that are added to the covariance together."""
FRACTION = 4096.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_rows(
    covariance: NDArray[np.float64],
    sums: NDArray[np.float64],
    rows: NDArray[np.float64],
    n_rows: int,
) -> None:
    """Add the products of ``rows`` (BLOCK, width), the first ``n_rows`` of them.

    ``covariance`` (width, GROUP): item (k, j) is the product of column k and column j of
    its group, j >= k only; ``sums`` (width,).
    """
    width = rows.shape[1]
    rows[n_rows:] = 0.0
    for k in range(width):
        end = min(k // GROUP * GROUP + GROUP, width)
        out = covariance[k, k % GROUP :]
        r0, r1, r2, r3 = rows[0, k:end], rows[1, k:end], rows[2, k:end], rows[3, k:end]
        r4, r5, r6, r7 = rows[4, k:end], rows[5, k:end], rows[6, k:end], rows[7, k:end]
        a0, a1, a2, a3, a4, a5, a6, a7 = r0[0], r1[0], r2[0], r3[0], r4[0], r5[0], r6[0], r7[0]
        sums[k] += a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7
        for j in range(r0.size):
            out[j] += (
                a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
                + a4 * r4[j] + a5 * r5[j] + a6 * r6[j] + a7 * r7[j]
            )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def factor(
    covariance: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_rows: float,
    ridge: float,
    scratch: NDArray[np.float64],
    lower: NDArray[np.int32],
) -> None:
    """L of all groups, transposed: ``lower`` (width, GROUP), item (j, k) is L[k, j].

    ``n_rows`` has the rows of zeros in it that means begin with; ``ridge`` is a sum of
    squares.
    """
    for first in range(0, lower.shape[0], GROUP):
        size = min(GROUP, lower.shape[0] - first)
        for i in range(size):
            row = scratch[i, i:size]
            share = sums[first + i] / n_rows
            source, below = covariance[first + i, i:size], sums[first + i : first + size]
            for k in range(row.size):
                row[k] = source[k] - share * below[k]
            row[0] += ridge
            j = 0
            while j + 4 <= i:  # four at a time, one after another
                r0, r1 = scratch[j, i:size], scratch[j + 1, i:size]
                r2, r3 = scratch[j + 2, i:size], scratch[j + 3, i:size]
                f0, f1 = r0[0] / scratch[j, j], r1[0] / scratch[j + 1, j + 1]
                f2, f3 = r2[0] / scratch[j + 2, j + 2], r3[0] / scratch[j + 3, j + 3]
                for k in range(row.size):
                    row[k] = (((row[k] - f0 * r0[k]) - f1 * r1[k]) - f2 * r2[k]) - f3 * r3[k]
                j += 4
            while j < i:
                r0 = scratch[j, i:size]
                f0 = r0[0] / scratch[j, j]
                for k in range(row.size):
                    row[k] -= f0 * r0[k]
                j += 1
            out, pivot = lower[first + i, i:size], row[0]
            for k in range(1, row.size):
                scaled = np.floor(row[k] / pivot * FRACTION + 0.5)
                out[k] = np.int32(min(max(scaled, 1.0 - FRACTION), FRACTION - 1.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def column_means(sums: NDArray[np.float64], n_rows: float, means: NDArray[np.int64]) -> None:
    """``means`` (width,) in units of 2**-16."""
    for k in range(sums.size):
        means[k] = np.int64(np.floor(sums[k] / n_rows * 65536.0 + 0.5))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def log_determinants(
    table: NDArray[np.float64], ridges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Natural logarithms of det(X^T X + r I), for each ridge r; for encoders only.

    One thread and no BLAS: the matrices are too small for more.
    """
    n_rows, n = table.shape
    products = np.zeros((n, n))
    for t in range(n_rows):
        row = table[t]
        for i in range(n):
            out, later, share = products[i, i:], row[i:], row[i]
            for k in range(later.size):
                out[k] += share * later[k]
    found = np.zeros(ridges.size)
    scratch = np.zeros((n, n))
    for r in range(ridges.size):
        scratch[:] = products
        for i in range(n):
            row = scratch[i, i:]
            row[0] += ridges[r]
            for j in range(i):
                above = scratch[j, i:]
                share = above[0] / scratch[j, j]
                for k in range(row.size):
                    row[k] -= share * above[k]
            found[r] += np.log(row[0])
    return found
