"""How kernels are compiled; only modules that consist of kernels import this, and numba."""

from __future__ import annotations

import numba
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager

_NOT_NEEDED = {
    "WithLifting",
    "InlineClosureLikes",
    "RewriteDynamicRaises",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "InlineOverloads",
    "NopythonRewrites",
    "DumpParforDiagnostics",
}
"""Passes for closures, raised names, literals and array expressions: kernels have none of these."""


class _Pipeline(CompilerBase):
    """Numba's, but for what is not needed, which takes a tenth of the time."""

    def define_pipelines(self) -> list[PassManager]:
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager = PassManager("kernels")
        manager.passes = [p for p in usual.passes if p[0].__name__ not in _NOT_NEEDED]
        manager.finalize()
        return [manager]


_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _Pipeline,
}

jit = numba.njit(**_OPTIONS)
"""Kernels allocate nothing, so that their machine code needs nothing of numba's runtime.

They are called by other kernels and by :mod:`pgolf_codec.codec.compiled`, not from Python.
The error model is numpy's: nothing divides by zero, and the check would keep loops from
being vectorised.

A literal argument makes another version of what is called; ``np.int64(0)`` is none.
"""

inlined = numba.njit(**_OPTIONS, forceinline=True)
"""The same, where LLVM would not see that a call costs more than what is called.

A named tuple of arrays travels as hundreds of words, all of them pushed at each call.
"""
