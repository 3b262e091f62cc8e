"""Compiles nothing: functions stay Python, for programs that must run without numba.

Bundled under the name ``numba`` (:mod:`pgolf_codec.eval.bundle`), for modules that have
compiled functions among others that are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

prange = range


def njit(function: Any = None, **_: Any) -> Any:
    """As ``@njit`` and as ``@njit(...)``."""
    return function if function is not None else _same


jit = njit


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
