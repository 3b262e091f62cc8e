"""Files that are whole or absent.

Output goes to a temporary file beside its destination and takes its name only when
it is complete and on the disk; an error, Ctrl-C or a signal leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pgolf_codec.errors import RefusedError


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file, pipe or device to read; raise :class:`RefusedError` for a directory."""
    if path.is_dir():
        raise RefusedError(path, "is a directory")
    with path.open("rb") as file:
        yield file


@contextlib.contextmanager
def replacing(
    path: Path, *, overwrite: bool = False, like: os.stat_result | None = None
) -> Iterator[BinaryIO]:
    """Write ``path`` as a whole: it appears, or changes, when the block ends without error.

    ``like`` gives the new file its permissions and modification time.  A symbolic
    link is followed; a pipe, a device or what is open already (:func:`is_open_file`) is
    written to directly.  Raises
    :class:`RefusedError` if the file exists and ``overwrite`` is not set (also when
    another process makes it meanwhile), or if it is a directory.  Where the disk is full,
    the error names the file.
    """
    with naming(path), _replacing(path, overwrite=overwrite, like=like) as file:
        yield file


@contextlib.contextmanager
def _replacing(path: Path, *, overwrite: bool, like: os.stat_result | None) -> Iterator[BinaryIO]:
    if (number := _open_number(path)) is not None:
        with open(os.dup(number), "wb") as file:
            yield file
        return
    name, path = path, Path(os.path.realpath(path))
    kind = _kind(path)
    if kind == stat.S_IFDIR:
        raise RefusedError(name, "is a directory")
    if kind not in (None, stat.S_IFREG):
        with path.open("wb") as file:
            yield file
        return
    if kind and not overwrite:
        raise RefusedError(name, _EXISTS)
    mode = 0o666 if like is None else stat.S_IMODE(like.st_mode) & 0o777
    temporary = path.with_name(f".pgolf-codec-{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _O_BINARY, mode)
    except OSError as error:
        error.filename = str(name)  # the user knows this one
        raise
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            if like is not None:
                os.chmod(temporary, mode)
                os.utime(temporary, ns=(like.st_atime_ns, like.st_mtime_ns))
            os.fsync(descriptor)
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_new(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def naming(name: object) -> Iterator[None]:
    """Give a failed write the name of the file that it is about."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _WRITE_ERRNOS:
            error.filename = str(name)
        raise


def user_cache() -> str:
    """Where what can be made again is kept: an absolute path, or "" if the user has no home."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(folder, "pgolf-codec") if os.path.isabs(folder) else ""


def check_target(name: str | None) -> None:
    """Raise :class:`RefusedError` now for what could not be written after long work.

    None and ``-`` (standard output) are no files.
    """
    if name is None or name == "-":
        return
    path = Path(name)
    if path.is_dir():
        raise RefusedError(name, "is a directory")
    if not path.parent.is_dir():
        raise RefusedError(path.parent, "is not a folder")


def is_open_file(path: Path) -> bool:
    """Whether it names what this process has open: ``/dev/stdout``, ``/dev/fd/3``.

    Such a file is continued where it stands.  It is never replaced, nor opened anew: the
    name leads to a pipe without a name, or to a file that others write to as well.
    """
    return _open_number(path) is not None


def same_file(one: Path, other: Path) -> bool:
    """Whether both names lead to one existing file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _open_number(path: Path) -> int | None:
    """The descriptor that a path names."""
    text = str(path)
    if text in _STANDARD:
        return _STANDARD[text]
    found = _OPEN.fullmatch(text)
    return int(found[1]) if found else None


_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_OPEN = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_EXISTS = "already exists; not overwritten"
_O_BINARY: int = getattr(os, "O_BINARY", 0)


def _kind(path: Path) -> int | None:
    """S_IFREG, S_IFDIR ..., None if nothing has this name."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None


def _rename_new(source: Path, destination: Path) -> None:
    """Rename, but never over an existing file."""
    try:
        os.link(source, destination)
    except FileExistsError:
        raise RefusedError(destination, _EXISTS) from None
    except OSError:  # a file system without hard links: the check and the rename are two steps
        if destination.exists():
            raise RefusedError(destination, _EXISTS) from None
        os.rename(source, destination)
    else:
        os.unlink(source)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
