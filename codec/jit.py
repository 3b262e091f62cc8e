"""How kernels are compiled; only modules that consist of kernels import this, and numba."""

from __future__ import annotations

import numba

jit = numba.njit(
    nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)
"""Kernels allocate nothing, so that their machine code needs nothing of numba's runtime.

They are called by other kernels and by :mod:`pgolf_codec.codec.compiled`, not from Python.
The error model is numpy's: nothing divides by zero, and the check would keep loops from
being vectorised.
"""
