"""What a process gives up before it loads foreign code, and what it notes of that code.

Where Linux grants user namespaces, the process has no network, no shared memory with
others, a file system it can only read (but for an empty folder that goes away with it)
and, in place of each hidden file, an empty one.  Elsewhere an audit hook refuses sockets
and files opened to write: that stops Python code, not native code, and hides nothing.
Either way limits of memory and processor time hold, and files that Python opens to read
are noted.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgolf_codec.files import user_cache

NAMESPACES = "namespaces: no network, read-only files, the text is hidden"
GUARD = "guard: an audit hook refuses sockets and writing; the text is not hidden"

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x40000000
_BIND, _RECURSIVE, _PRIVATE = 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR = 442  # the number is the same on every architecture
_AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = -100, 0x8000, 1
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class Isolation:
    """The two steps of this process, and what they could do.

    The first has to come while the process has one thread, so before numpy; the second
    before foreign code, but after whatever caches of ours are to be read or written.
    """

    def __init__(self, scratch: Path, hidden: Iterable[Path]) -> None:
        """``scratch`` is an empty folder, ``hidden`` are existing files."""
        self._scratch = scratch
        self._sealed = False
        self._read: dict[str, None] = {}
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self.kind = NAMESPACES if self._leave(hidden) else GUARD
        os.environ.setdefault("PGOLF_CODEC_CACHE", user_cache())
        self._cache = Path(os.environ["PGOLF_CODEC_CACHE"] or scratch)
        for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
            os.environ[name] = str(scratch)

    def seal(self, memory_bytes: int, cpu_seconds: int) -> None:
        """No writing, no network, limits, and notes of what is read, from here on."""
        if self.kind == NAMESPACES and not self._make_read_only():
            self.kind = GUARD
        for limit, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_CPU, cpu_seconds),
            (resource.RLIMIT_AS, memory_bytes),
        ):
            hard = resource.getrlimit(limit)[1]
            soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(limit, (soft, soft))
        self._sealed = True
        sys.addaudithook(self._hook)

    def files_read(self) -> list[Path]:
        """Files that Python code has opened since :meth:`seal`, but for those that came with
        Python, with installed packages and with the system."""
        found = set()
        for name in [*self._read]:
            path = Path(os.path.realpath(name))
            if path.parent.name == "__pycache__" and path.suffix == ".pyc":
                path = path.parents[1] / f"{path.name.split('.')[0]}.py"
            made_here = any(path.is_relative_to(folder) for folder in (self._scratch, self._cache))
            if not made_here and not _comes_with_the_system(path) and path.is_file():
                found.add(path)
        return sorted(found)

    def _leave(self, hidden: Iterable[Path]) -> bool:
        """New namespaces, and something empty over each hidden file; False if not granted."""
        libc = self._libc
        flags = _NEW_USER | _NEW_MOUNTS | _NEW_NETWORK | _NEW_IPC
        user, group = os.geteuid(), os.getegid()
        if libc is None or platform.machine() == "alpha" or libc.unshare(flags) != 0:
            return False
        try:  # without a name in there, no file could be made, not even in the scratch folder
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        except OSError:
            return False
        return (
            libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None) == 0
            and libc.mount(b"none", os.fsencode(self._scratch), b"tmpfs", 0, None) == 0
            and all(
                libc.mount(b"/dev/null", os.fsencode(path), None, _BIND, None) == 0
                for path in hidden
            )
        )

    def _make_read_only(self) -> bool:
        libc = self._libc
        assert libc is not None
        scratch = os.fsencode(self._scratch)
        read_only = _MountAttributes(set=_READ_ONLY)
        writable = _MountAttributes(clear=_READ_ONLY)

        def change(path: bytes, flags: int, attributes: _MountAttributes) -> bool:
            size = ctypes.sizeof(attributes)
            at = ctypes.byref(attributes)
            done: int = libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path, flags, at, size)
            return done == 0

        return change(b"/", _AT_RECURSIVE, read_only) and change(scratch, 0, writable)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(*arguments[:3])
        elif event.startswith("socket.") and event != "socket.__new__":
            raise PermissionError(f"{event}: a predictor has no network")

    def _opened(self, path: object, mode: object, flags: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # an open descriptor
        name = os.fsdecode(path)
        if isinstance(flags, int) and flags & _WRITING:
            inside = os.path.realpath(name).startswith((f"{self._scratch}{os.sep}", "/dev/"))
            if self.kind == GUARD and not inside:
                raise PermissionError(f"{name}: a predictor may not write")
        else:
            self._read[os.path.abspath(name)] = None


def _comes_with_the_system(path: Path) -> bool:
    package = Path(__file__).resolve().parents[1]
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)}
    ours = [package / name for name in ("pgolf_codec", "codec", "lm", "quant", "eval")]
    system = [Path(name) for name in ("/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev")]
    return any(path.is_relative_to(folder) for folder in [*folders, *ours, *system])
