"""Machine code for numba's kernels, called without numba.

Importing numba and looking up its own cache costs half a second.  So the code of a kernel
is kept on disk as an object file, and loaded by LLVM's linker alone; numba is imported
only to compile what is not there yet.  The folder's name is a digest of everything that
the code depends on, and a folder that can't be read or written costs time, never a failure.

A kernel takes numbers, arrays and named tuples of these, and returns an int.  Its arguments
travel as one block of 64-bit words, in the layout that numba gives their values.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib
import os
import platform
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pgolf_codec import notices
from pgolf_codec.codec.machine import instruction_set, target
from pgolf_codec.errors import PgolfError
from pgolf_codec.files import replacing, user_cache

SOURCES = (
    "codec/adaptation.py",
    "codec/adaptation_kernels.py",
    "codec/coding_kernels.py",
    "codec/compiled.py",
    "codec/jit.py",
    "codec/machine.py",
    "codec/vectors.py",
    "lm/integers/attention.py",
    "lm/integers/elementwise.py",
    "lm/integers/kernels.py",
    "lm/integers/layout.py",
    "lm/integers/numerics.py",
    "lm/integers/products.py",
    "lm/integers/tables.py",
    "lm/integers/tiles.py",
    "lm/integers/vectors.py",
    "quant/ans_kernel.py",
    "quant/coders/trellis_kernel.py",
)
"""All files that the machine code of models is made from; coders have lists of their own."""
KEPT_FOLDERS = 12
"""Of older versions or other machines."""

_Function = Callable[[Any, Any, Any], int]
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Flat:
    """An argument that was laid out beforehand."""

    value: Any
    words: tuple[int, ...]
    kind: tuple[Any, ...]


def flat(value: Any) -> Flat:
    """Lay out a value that several calls take; its arrays may change, but not move."""
    words: list[int] = []
    kind: list[Any] = []
    _lay_out(value, words, kind)
    return Flat(value, tuple(words), tuple(kind))


_finding = threading.Lock()
"""Nothing is compiled twice, and one thread at a time reaches into numba."""


class Kernel:
    """The function ``name`` of a module of kernels."""

    def __init__(self, module: str, name: str, sources: tuple[str, ...] = SOURCES) -> None:
        self.module, self.name, self.sources = module, name, sources
        self._functions: dict[tuple[Any, ...], _Function] = {}

    def __call__(self, *arguments: Any) -> int:
        words: list[int] = []
        kind: list[Any] = []
        for argument in arguments:
            _lay_out(argument, words, kind)
        key = tuple(kind)
        function = self._functions.get(key) or self._find(key, arguments)
        block = (ctypes.c_int64 * len(words))(*words)
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        if function(ctypes.byref(result), ctypes.byref(error), block) != 0:
            raise PgolfError(f"{self.module}.{self.name} failed")
        return result.value

    def _find(self, key: tuple[Any, ...], arguments: tuple[Any, ...]) -> _Function:
        with _finding:
            return self._functions.get(key) or self._load(key, arguments)

    def _load(self, key: tuple[Any, ...], arguments: tuple[Any, ...]) -> _Function:
        folder = cache_folder(self.sources)
        digest = hashlib.sha256(repr((self.module, key)).encode()).hexdigest()[:16]
        path = None if folder is None else folder / f"{self.name}-{digest}.o"
        made = None if path is None else _read(path)
        if made is None:
            _tell_once()
            values = [_plain(a) for a in arguments]
            made = _compile(self.module, self.name, values)
            if path is not None:
                _write(path, made)
        function = self._functions[key] = _load(made)
        return function


def _lay_out(value: Any, words: list[int], kind: list[Any]) -> None:
    """Append the words of a value, and what they mean."""
    if isinstance(value, Flat):
        words += value.words
        kind += value.kind
    elif isinstance(value, np.ndarray):
        flags, described = value.flags, value.__array_interface__
        words += (0, 0, value.size, value.itemsize, described["data"][0])
        words += value.shape
        words += value.strides
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        kind.append((value.dtype.str, value.ndim, layout, flags.writeable))
    elif isinstance(value, tuple):
        kind.append((type(value).__name__, len(value)))
        for item in value:
            _lay_out(item, words, kind)
    else:
        words.append(int(value))
        kind.append(int)


def _plain(argument: Any) -> Any:
    """As numba takes it."""
    if isinstance(argument, Flat):
        return argument.value
    return argument if isinstance(argument, np.ndarray | tuple) else int(argument)


@dataclass(frozen=True, slots=True)
class _Code:
    """An object file, and the name of its function."""

    symbol: str
    data: bytes


def _compile(module: str, name: str, values: list[Any]) -> _Code:
    import numba
    from numba.core import types
    from numba.extending import intrinsic

    from pgolf_codec.codec.jit import jit

    kernel = getattr(importlib.import_module(module), name)
    packed = types.Tuple([numba.typeof(value) for value in values])

    @intrinsic
    def unpacked(_typing: Any, block: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = context.get_value_type(packed)
            return builder.load(builder.bitcast(arguments[0], kind.as_pointer()))

        return packed(block), generate

    @jit
    def entry(block: Any) -> Any:
        return np.int64(kernel(*unpacked(block)))

    with _in_one_piece(entry.__qualname__), _uncollected():
        entry.compile((types.voidptr,))
    (made,) = entry.overloads.values()
    return _Code(made.fndesc.llvm_func_name, made.library._get_compiled_object())


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let garbage lie for a while: looking for it takes a tenth of a compilation."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


@contextlib.contextmanager
def _in_one_piece(entry: str) -> Iterator[None]:
    """Let numba optimise, assemble and load the entry only, into which all else is inlined.

    By itself it does so with every inner function too, which takes twice as long.  This
    reaches into numba; other threads are not touched, and where numba has changed, nothing is.
    """
    from unittest import mock

    from numba.core import codegen

    thread = threading.get_ident()

    def settle(library: Any) -> None:
        library._finalize_dynamic_globals()
        library._finalized = True

    def unless_inner(usual: Callable[..., None], inner: Callable[[Any], None]) -> Any:
        def run(this: Any, *rest: Any) -> None:
            is_inner = getattr(this, "name", None) != entry
            if threading.get_ident() == thread and is_inner:
                inner(this)
            else:
                usual(this, *rest)

        return run

    steps: tuple[tuple[str, str, Callable[[Any], None]], ...] = (
        ("JITCodeLibrary", "_optimize_final_module", lambda _: None),
        ("JITCodeLibrary", "_finalize_final_module", settle),
        ("JITCodeLibrary", "_optimize_functions", lambda _: None),
        ("JITCPUCodegen", "set_env", lambda _: None),  # looks for what was not loaded
    )
    found = [(getattr(codegen, owner, None), name, inner) for owner, name, inner in steps]
    with contextlib.ExitStack() as undo:
        if all(hasattr(owner, name) for owner, name, _ in found):
            for owner, name, inner in found:
                usual = getattr(owner, name)
                undo.enter_context(mock.patch.object(owner, name, unless_inner(usual, inner)))
        yield


_loaded: list[Any] = []
"""Linkers own the code that they loaded."""


def _load(made: _Code) -> _Function:
    from llvmlite import binding

    _initialize()
    machine = binding.Target.from_default_triple().create_target_machine()
    linker = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    linker.add_object_file(binding.ObjectFileRef.from_data(made.data))
    linker.finalize_object()
    address = linker.get_function_address(made.symbol)
    _loaded.append(linker)
    return _PROTOTYPE(address)


@lru_cache(maxsize=1)
def _initialize() -> None:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


@lru_cache(maxsize=1)
def _tell_once() -> None:
    notices.tell("compiling for this machine, once; this takes some seconds")


@lru_cache
def cache_folder(sources: tuple[str, ...] = SOURCES) -> Path | None:
    """Where machine code of these files is kept: below ``PGOLF_CODEC_CACHE``, or the user's cache.

    None if nothing can be written there, if the user has no home, or if the former is empty.
    """
    base = os.environ.get("PGOLF_CODEC_CACHE")
    if base is None:
        base = user_cache()
    if not base:
        return None
    folder = Path(base).absolute() / f"kernels-{_digest(sources)}"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            _remove_old(folder)
    except OSError:
        return None
    return folder


def _digest(sources: tuple[str, ...]) -> str:
    """Of all that machine code depends on, but for the argument types."""
    package = Path(__file__).resolve().parents[1]
    chosen = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    parts = [instruction_set(), target(), chosen, version("numba"), version("llvmlite")]
    digest = hashlib.sha256(repr((parts, platform.python_version())).encode())
    for name in sources:
        digest.update((package / name).read_bytes())
    return digest.hexdigest()[:16]


def _remove_old(newest: Path) -> None:
    folders = sorted(newest.parent.glob("kernels-*"), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-KEPT_FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> _Code | None:
    """None if the file is not there, or not whole."""
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    body, found = blob[:-32], blob[-32:]
    if hashlib.sha256(body).digest() != found:
        return None
    symbol, _, data = body.partition(b"\n")
    return _Code(symbol.decode(), data)


def _write(path: Path, made: _Code) -> None:
    body = made.symbol.encode() + b"\n" + made.data
    with contextlib.suppress(OSError), replacing(path, overwrite=True) as file:
        file.write(body + hashlib.sha256(body).digest())
