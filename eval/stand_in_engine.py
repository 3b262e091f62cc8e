"""In place of :mod:`pgolf_codec.lm.engine` where models are made and no text is coded.

Bundled under that name (:mod:`pgolf_codec.eval.bundle`), since the engine and its kernels
are the larger part of the package.  It has what export asks of the engine: whether
the scales fit the fixed-point positions (docs/NUMERICS.md, "Multiplier").
"""

from __future__ import annotations

from pgolf_codec.lm.weights import IntegerWeights, multipliers

MATRIX_BITS, VECTOR_BITS, TABLE_BITS = 31, 40, 44
_NORM, _HEAD, _LOGIT = 9, 10, 10
"""Fraction bits of normalised vectors, of queries and keys, of logits."""


def make_params(weights: IntegerWeights) -> None:
    """Raise :class:`CorruptError` for a scale that the engine would refuse."""
    c, t = weights.config, weights.tensors
    residual = int(t["residual_frac"][0])
    checks = [
        ("embedding.s", _NORM, _LOGIT, MATRIX_BITS),
        ("smear", _NORM, residual, VECTOR_BITS),
    ]
    if c.bigram_buckets:
        checks.append(("bigram.s", 0, _NORM, TABLE_BITS))
        checks.append(("bigram_proj.s", _NORM, residual, MATRIX_BITS))
    for i in range(c.n_layers):
        value, up = int(t["value_frac"][i]), int(t["up_frac"][i])
        hidden = 2 * up - int(t["square_shift"][i])
        block = f"blocks.{i}"
        checks += [
            (f"{block}.mix", 0, 0, VECTOR_BITS),
            (f"{block}.qkv.s", _NORM, max(_HEAD, value), MATRIX_BITS),
            (f"{block}.wo.s", value, residual, MATRIX_BITS),
            (f"{block}.up.s", _NORM, up, MATRIX_BITS),
            (f"{block}.down.s", hidden, residual, MATRIX_BITS),
        ]
    for name, frac_in, frac_out, bits in checks:
        multipliers(t[name], frac_in, frac_out, bits)
