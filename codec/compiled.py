"""Machine code from numba, kept on disk in a folder of our own.

Numba's own cache lies beside the sources, which may be read-only, and does not see that
a function changed which another one calls.  Here the folder's name is a digest of
everything that the code depends on, and a folder that can't be read or written costs
time, never a failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config, event

from pgolf_codec.codec.machine import instruction_set

logger = logging.getLogger("pgolf_codec")

SOURCES = (
    "codec/compiled.py",
    "codec/frequencies.py",
    "codec/range_coder.py",
    "eval/residual.py",
    "lm/attention.py",
    "lm/elementwise.py",
    "lm/kernels.py",
    "lm/products.py",
    "lm/tables.py",
    "lm/tiles.py",
    "quant/histogram.py",
)
"""All files that machine code is made from."""
KEPT_FOLDERS = 6
"""Of older versions or other instruction sets."""


def jit(function: Callable[..., Any]) -> Any:
    """Compile at the first call with these types, or load what an earlier process compiled.

    The error model is numpy's: kernels never divide by zero, and the check would keep
    loops from being vectorised.
    """
    return _compiled(function)


def inner(function: Callable[..., Any]) -> Any:
    """As :func:`jit`, for what only other kernels call: saves compiling a way in from Python."""
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _compiled(function: Callable[..., Any], **options: bool) -> Any:
    folder = cache_folder()
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder or "")
    try:
        options |= {"cache": folder is not None, "nogil": True}
        made = numba.njit(error_model="numpy", **options)(function)
    finally:
        config.CACHE_DIR = before
    if folder is not None:
        _forgive(made._cache)
    _ours.add(made)
    return made


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Where machine code is kept: below ``PGOLF_CODEC_CACHE``, or the user's cache.

    None if nothing can be written there, or if ``PGOLF_CODEC_CACHE`` is empty.
    """
    base = os.environ.get("PGOLF_CODEC_CACHE")
    if base is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = os.path.join(base, "pgolf-codec")
    if not base:
        return None
    folder = Path(base).absolute() / f"kernels-{_digest()}"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _remove_old(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    return folder


def _digest() -> str:
    """Of all that machine code depends on, but for the argument types."""
    package = Path(__file__).resolve().parents[1]
    parts = [instruction_set(), numba.__version__, llvmlite.__version__, platform.python_version()]
    digest = hashlib.sha256(repr(parts).encode())
    for name in SOURCES:
        digest.update((package / name).read_bytes())
    return digest.hexdigest()[:16]


def _remove_old(newest: Path) -> None:
    folders = sorted(newest.parent.glob("kernels-*"), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-KEPT_FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)


def _forgive(cache: Any) -> None:
    """Let a cache that fails be a cache that misses."""
    save, load = cache.save_overload, cache.load_overload

    def try_to_save(signature: Any, compiled: Any) -> None:
        with contextlib.suppress(OSError):
            save(signature, compiled)

    def try_to_load(signature: Any, context: Any) -> Any:
        try:
            return load(signature, context)
        except Exception:  # noqa: BLE001 - a damaged file can raise anything that unpickling can
            return None

    cache.save_overload, cache.load_overload = try_to_save, try_to_load


class _Announcer(event.Listener):
    """Says once that the process compiles; later runs load what it made."""

    told = False

    def on_start(self, event: Any) -> None:
        if not self.told and event.data["dispatcher"] in _ours:
            self.told = True
            logger.info("compiling for this machine, which takes some seconds, once")

    def on_end(self, event: Any) -> None:
        pass


_ours: set[Any] = set()
event.register("numba:compile", _Announcer())
