"""The gradient of a softmax with capped logits, on a CPU: one pass over each row.

Several times faster than what torch.compile makes of the same formula.  For training only:
what it computes depends on how the compiler orders sums.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

COMPILES = hasattr(numba, "__version__")
"""Whether numba is numba, and not what stands in for it in a bundle."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""What the compiler may do to sums and products; a NaN stays one."""

LOG2_E = np.float32(1 / math.log(2))
LARGEST = np.float32(100)
"""Exponent of 2 whose power is a float32; the tangent is 1 long before."""
P1 = np.float32(0.6931471805599453)
P2 = np.float32(0.2402265069591007)
P3 = np.float32(0.05550410866482158)
P4 = np.float32(0.009618129107628477)
P5 = np.float32(0.0013333558146428443)
"""2**f, |f| <= 1/2, is 1 + P1 f + P2 f**2 + ...: exact to 2e-6, bfloat16 has 4e-3."""


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def softmax_gradient(z: NDArray[np.uint16], targets: NDArray[np.int64], cap: float) -> float:
    """Replace logits (n, V) by the gradients of the losses of ``targets`` (n,); their sum in nats.

    Both are bfloat16, as bits.  Logits are capped: cap * tanh(logit / cap).
    """
    n, size = z.shape
    a = np.empty(size, np.float32)
    a_bits = a.view(np.uint32)
    slope = np.empty(size, np.float32)
    power_bits = np.empty(size, np.int32)
    power = power_bits.view(np.float32)
    one, two = np.float32(1), np.float32(2)
    inner, outer = np.float32(2 / cap) * LOG2_E, np.float32(cap) * LOG2_E
    nats: float = 0.0
    for i in range(n):
        row = z[i]
        target = targets[i]
        for j in range(size):
            a_bits[j] = np.uint32(row[j]) << np.uint32(16)
        tanh_of_target = np.float32(math.tanh(a[target] / cap))
        for j in range(size):  # a * power = exp(2 z / cap)
            x = min(max(a[j] * inner, -LARGEST), LARGEST)
            whole = np.int32(np.rint(x))
            f = x - np.float32(whole)
            a[j] = one + f * (P1 + f * (P2 + f * (P3 + f * (P4 + f * P5))))
            power_bits[j] = (whole + np.int32(127)) << np.int32(23)
        for j in range(size):  # a * power = exp(cap * tanh)
            tanh = one - two / (one + a[j] * power[j])
            slope[j] = one - tanh * tanh
            x = tanh * outer
            whole = np.int32(np.rint(x))
            f = x - np.float32(whole)
            a[j] = one + f * (P1 + f * (P2 + f * (P3 + f * (P4 + f * P5))))
            power_bits[j] = (whole + np.int32(127)) << np.int32(23)
        total = np.float32(0)
        for j in range(size):
            e = a[j] * power[j]
            total += e
            a[j] = e * slope[j]
        nats += float(math.log(total) - cap * tanh_of_target)
        scale = one / total
        for j in range(size):
            a[j] = a[j] * scale
        a[target] -= one - tanh_of_target * tanh_of_target
        for j in range(size):  # round to nearest even
            bits = a_bits[j]
            half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            row[j] = np.uint16((bits + half) >> np.uint32(16))
    return nats
