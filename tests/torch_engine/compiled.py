"""``compiled.py 90``: compile every fused kernel for that CUDA capability; tells their names."""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pgolf_codec.lm.gpu import triton_ops

TYPES = {
    "*i8": "q_at keys values",
    "*i16": "units outputs activations",
    "*i32": "x_at x0_at kept_at sums factors new_factors scores added gate_sums",
    "*i64": "multipliers skip mix_x mix_x0 columns positions phases cosine gain gate_multipliers"
    " gate_bias sigmoid",
    "i32": "rows sums_width gate_width q_width shift half limit window slots_a_row bits",
}
OF = {name: kind for kind, names in TYPES.items() for name in names.split()}
LIMIT = (1 << 21) - 1
SIZES = {"HEADS": 8, "GROUPS": 4, "K": 64, "KB": 64, "HALF": 16, "LIMIT": LIMIT, "SLOTS": 64}
PLAIN = {"ADD": True, "KEEP": False, "SKIP": False, "MIX": True, "HALVES": False, "COLUMNS": False}
KERNELS: list[tuple[Any, dict[str, Any]]] = [
    *((triton_ops._activation, {"F": 2048, "BLOCK": 1024, "LEAKY": on}) for on in (True, False)),
    *(
        (triton_ops._attention, SIZES | dict.fromkeys(("ADDED", "EXCLUSIVE", "GATED"), on))
        for on in (False, True)
    ),
    (triton_ops._residual, {"D": 512, "BLOCK": 512, "LIMIT": LIMIT, **PLAIN}),
    (triton_ops._residual, {"D": 512, "BLOCK": 512, "LIMIT": LIMIT, **PLAIN, "SKIP": True}),
    (
        triton_ops._residual,
        {"D": 512, "BLOCK": 512, "LIMIT": LIMIT, **PLAIN, "KEEP": True, "SKIP": True},
    ),
    (
        triton_ops._residual,
        {"D": 24, "BLOCK": 32, "LIMIT": LIMIT, **PLAIN, "MIX": False, "HALVES": True}
        | {"COLUMNS": True},
    ),
    (triton_ops._to_bytes, {"N": 2050, "BLOCK": 1024}),
]


def main(capability: int) -> None:
    target = GPUTarget("cuda", capability, 32)
    for kernel, constants in KERNELS:
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else OF[name] for name in names}
        values = {(names.index(name),): value for name, value in constants.items()}
        made = triton.compile(ASTSource(kernel, signature, constexprs=values), target=target)
        assert len(made.asm["cubin"]) > 0
        print(kernel.__name__)


if __name__ == "__main__":
    main(int(sys.argv[1]))
