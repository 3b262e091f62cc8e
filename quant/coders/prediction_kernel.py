"""The kernels of :mod:`~pgolf_codec.quant.coders.prediction`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.jit import jit
from pgolf_codec.quant.coders.ans_kernel import LOW_BOUND, step
from pgolf_codec.quant.coders.machine_code import ESCAPED, MOST_SEEN, TOGETHER

Floats = NDArray[np.float64]


@jit
def decode(
    values: NDArray[np.int32],
    row_classes: NDArray[np.int32],
    classes: NDArray[np.int32],
    bounds: NDArray[np.uint32],
    stride: int,
    first: NDArray[np.uint16],
    words: NDArray[np.uint32],
    states: NDArray[np.uint64],
    low: int,
    n_levels: int,
    unit: int,
    shade_bits: int,
    offsets: NDArray[np.int16],
    starts: NDArray[np.int64],
    sources: NDArray[np.int64],
    weights: NDArray[np.int16],
    seen: NDArray[np.int8],
    found: NDArray[np.int32],
    sums: NDArray[np.int16],
    tables: NDArray[np.int32],
) -> int:
    """Whether all words were read and both states came back to where they began.

    ``values`` (rows, columns) less the centre, ESCAPED where they are not in the stream.
    Scratch: ``seen`` and ``found`` (columns, rows of a block or more), the others (rows of
    a block,).
    """
    width, n_words, read = np.uint64(stride), np.uint64(words.size), np.uint64(0)
    escape, shade_mask = np.uint64(n_levels), np.int32((1 << shade_bits) - 1)
    whole, shade_shift = np.int32(unit), np.int32(unit - shade_bits)
    shade_room = np.int32(shade_bits)
    n_rows, n_columns = values.shape
    a, b = states[0], states[1]
    for top in range(0, n_rows, sums.size):
        n = min(sums.size, n_rows - top)
        for j in range(n_columns):
            for i in range(n):
                sums[i] = offsets[j]
            for k in range(starts[j], starts[j + 1], TOGETHER):
                w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
                s0, s1 = seen[sources[k]], seen[sources[k + 1]]
                s2, s3 = seen[sources[k + 2]], seen[sources[k + 3]]
                for i in range(n):
                    sums[i] += np.int16(
                        w0 * np.int16(s0[i])
                        + w1 * np.int16(s1[i])
                        + w2 * np.int16(s2[i])
                        + w3 * np.int16(s3[i])
                    )
            own, out = seen[j], found[j]
            for i in range(n):
                guess = np.int32(sums[i])
                shade = (guess >> shade_shift) & shade_mask
                tables[i] = ((row_classes[top + i] + classes[j]) << shade_room) | shade
                out[i] = low + (guess >> whole)
            for i in range(n):
                a, symbol, read = step(a, np.uint64(tables[i]), width, bounds, first, words, read)
                if read > n_words:
                    return 0
                a, b = b, a
                out[i] = ESCAPED if symbol == escape else out[i] + np.int32(symbol)
            for i in range(n):
                own[i] = out[i] if -MOST_SEEN <= out[i] <= MOST_SEEN else 0
        for i in range(n):
            for j in range(n_columns):
                values[top + i, j] = found[j, i]
    return int(read == n_words and a == LOW_BOUND and b == LOW_BOUND)


@jit
def descend(
    products: Floats, n_rows: int, unit: int, price: Floats, weights: NDArray[np.int32],
    rest: Floats,
) -> int:  # fmt: skip
    """Weights of the earlier columns, each a multiple of 2**-unit, for fewest bits in all.

    Coordinate descent.  ``products`` (columns, columns) are covariances, ``price`` the
    bits of each magnitude, ``weights`` (columns, columns) begin with the last ones found.
    An error of variance v costs n_rows / 2 * log2(v) bits.  ``rest`` (columns,) is scratch.
    """
    step, most = 2.0**-unit, np.int64(price.size - 1)
    for j in range(1, products.shape[0]):
        own = weights[j]
        for k in range(j):
            rest[k] = products[j, k]
        for k in range(j):
            if own[k]:
                for m in range(j):
                    rest[m] -= own[k] * step * products[k, m]
        for _ in range(6):
            left = products[j, j]
            for k in range(j):
                left -= own[k] * step * (products[j, k] + rest[k])
            worth = n_rows / (2.0 * 0.6931471805599453 * max(left, 1e-3 * products[j, j] + 1e-9))
            changed = False
            for k in range(j):
                energy = products[k, k]
                if energy > 0.0:
                    best = own[k] * step + rest[k] / energy
                    nearest = np.int64(np.rint(best / step))
                    nearest = min(max(nearest, -most), most)
                    smaller = nearest - (1 if nearest > 0 else -1 if nearest < 0 else 0)
                    chosen, least = np.int64(0), np.inf
                    for candidate in (np.int64(0), smaller, nearest):
                        off = best - candidate * step
                        bits = worth * energy * off * off + price[abs(candidate)]
                        if bits < least:
                            chosen, least = candidate, bits
                    if chosen != own[k]:
                        change = (chosen - own[k]) * step
                        for m in range(j):
                            rest[m] -= change * products[k, m]
                        own[k] = chosen
                        changed = True
            if not changed:
                break
    return 0
