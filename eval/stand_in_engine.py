"""In place of :mod:`pgolf_codec.lm.integers.engine` where models are made and no text is coded.

Bundled under that name (:mod:`pgolf_codec.eval.bundle`), since the engine and its kernels
are the larger part of the package.  It has what export asks of the engine: whether
the scales fit the fixed-point positions (docs/NUMERICS.md, "Multiplier").
"""

from __future__ import annotations

from pgolf_codec.lm.integers.numerics import (
    COLUMN_BITS,
    COLUMN_FRAC,
    HEAD_FRAC,
    LOGIT_FRAC,
    MIX_FRAC,
    NORM_FRAC,
    SCALE_BITS,
    SMEAR_BITS,
    TABLE_BITS,
    attention_output_bits,
)
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit, multipliers


def make_params(weights: IntegerWeights) -> None:
    """Raise :class:`CorruptError` for a scale that the engine would refuse."""
    c, t = weights.config, weights.tensors
    residual = int(t["residual_frac"][0])
    output = attention_output_bits(activation_limit(c.n_heads * c.d_head))
    checks = [("smear", NORM_FRAC, residual, SMEAR_BITS), ("skips", 32, MIX_FRAC, SCALE_BITS)]
    checks += [(name, 0, NORM_FRAC, TABLE_BITS) for name in ("bigram.s", "value_table.s")]
    checks += [("embedding_columns", 32, COLUMN_FRAC, COLUMN_BITS)]
    checks += [("embedding_columns", 0, 0, SMEAR_BITS)]
    checks.append(("bigram_proj.s", NORM_FRAC, residual, SCALE_BITS))
    for i in range(c.n_layers):
        value, up = int(t["value_frac"][i]), int(t["up_frac"][i])
        hidden = 2 * up - int(t["square_shift"][i])
        block = f"blocks.{i}"
        checks += [
            (f"{block}.mix", 32, MIX_FRAC, SCALE_BITS),
            (f"{block}.qkv.s", NORM_FRAC, max(HEAD_FRAC, value), SCALE_BITS),
            (f"{block}.value.s", NORM_FRAC, value, SCALE_BITS),
            (f"{block}.gate.s", NORM_FRAC, LOGIT_FRAC, SCALE_BITS),
            (f"{block}.wo.s", value + output, residual, SCALE_BITS),
            (f"{block}.up.s", NORM_FRAC, up, SCALE_BITS),
            (f"{block}.down.s", hidden, residual, SCALE_BITS),
        ]
    for name, frac_in, frac_out, bits in checks:
        if name in t:
            multipliers(t[name], frac_in, frac_out, bits)
