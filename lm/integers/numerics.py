"""The numbers of docs/NUMERICS.md that every backend must have alike."""

from __future__ import annotations

INT16_MAX = 32767
INT8_MAX = 127
RESIDUAL_LIMIT = (1 << 21) - 1

NORM_FRAC = 9
"""Fraction bits of normalised vectors."""
HEAD_FRAC = 10
"""Of queries and keys before they are normalised."""
MIX_FRAC = 28
"""Of the factors of x and x0."""
BYTE_SHIFT, FACTOR_SHIFT, FACTOR_FRAC = 24, 12, 25
"""Of the factors that turn a row into bytes, and a product with these back."""
UNIT_RMS = 1 << 13
"""Stands for the root mean square of a row that is not to be normalised."""
NORM_SHIFT = 27
KEY_SHIFT = 5
"""From normalised keys to those that are kept: 4 fraction bits."""
ROTATION_FRAC = 14
SCORE_SHIFT = 18
"""From products of queries and keys to exponents."""
EXPONENT_FRAC = 10
"""Of exponents of base 2."""
EXP2_SLOPE, EXP2_CURVE = 44014, 11246
"""2**16 * 2**-x is nearly 2**16 - x (slope - x curve), 0 <= x < 1; exactly where x is 0, and 1."""
WEIGHT_FRAC = 24
"""Of the largest weight of a symbol."""

CAP_BOUND = 8.0
PADE_ABOVE = (1.0, 378.0, 17325.0, 135135.0)
PADE_BELOW = (28.0, 3150.0, 62370.0, 135135.0)
"""tanh(x) is nearly x A(x**2) / B(x**2), |x| < CAP_BOUND; coefficients, highest first."""
LOG2_E = 1.4426950408889634

LOGIT_FRAC, GATE_FRAC = 10, 14
"""Of what a gate is the sigmoid of, and of the gate."""

GAIN_BITS = 26
SCALE_BITS = 31
"""Of the gains of attention, and of the multipliers of matrices and of ``mix``."""
TABLE_BITS = 44
"""Of those of the pair table, whose numbers have 8 bits, and SMEAR_BITS of ``smear``, 16."""
SMEAR_BITS = 40
COLUMN_FRAC, COLUMN_BITS = 11, 14
"""Of the scales of the embedding's columns, as factors of its integers."""


def attention_output_bits(limit: int) -> int:
    """Fraction bits of attention's output beyond those of the values, which are int8.

    ``limit`` is that of the product which takes it.
    """
    return min(6, (limit // INT8_MAX).bit_length() - 1)
