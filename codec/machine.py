"""The instruction set that kernels are built for.

Every set computes the same integers; ``PGOLF_CODEC_ISA`` asks for a lesser one than the
machine has, for tests and for comparisons.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

from pgolf_codec.errors import ConfigError

SETS = ("portable", "sse2", "avx2", "avx512vnni", "amx")
"""From the least to the best."""
_AVX2_CPUS = {"haswell", "broadwell", "skylake", "znver1", "znver2", "znver3", "x86-64-v3"}
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
"""Linux: a process asks once before it may use AMX's tiles."""


@lru_cache(maxsize=1)
def instruction_set() -> str:
    """One of :data:`SETS`.

    Raises :class:`ConfigError` if ``PGOLF_CODEC_ISA`` names what this machine has not.
    """
    best = _best()
    wanted = os.environ.get("PGOLF_CODEC_ISA") or best
    if wanted not in SETS or SETS.index(wanted) > SETS.index(best):
        known = ", ".join(SETS[: SETS.index(best) + 1])
        raise ConfigError(f"PGOLF_CODEC_ISA={wanted}: this machine runs {known}")
    return wanted


def target() -> str:
    """The processor as LLVM sees it."""
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    return f"{binding.get_default_triple()} {binding.get_host_cpu_name()} {features}"


def _best() -> str:
    from llvmlite import binding

    if not binding.get_default_triple().startswith("x86_64"):
        return "portable"
    if name := os.environ.get("NUMBA_CPU_NAME"):
        return "avx2" if name in _AVX2_CPUS else "sse2"
    features = binding.get_host_cpu_features()
    if not (features.get("avx512vnni") and features.get("avx512bw")):
        return "avx2" if features.get("avx2") else "sse2"
    amx = features.get("amx-int8") and features.get("amx-tile") and _may_use_tiles()
    return "amx" if amx else "avx512vnni"


def _may_use_tiles() -> bool:
    if platform.system() != "Linux":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)
