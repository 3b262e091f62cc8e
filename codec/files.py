"""Files as the codec needs them: exact reads with an offset, and all-or-nothing writes."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from pgolf_codec.errors import TruncatedError

_SKIP_BYTES = 1 << 16


class Readable(Protocol):
    """Anything with ``read``; pipes and sockets too."""

    def read(self, size: int = ..., /) -> bytes: ...


class Writable(Protocol):
    """Anything with ``write`` that takes all it is given, or says how much it took."""

    def write(self, data: bytes, /) -> int | None: ...


class Source:
    """Reads a file front to back and knows where it is."""

    def __init__(self, file: Readable, offset: int = 0) -> None:
        """``offset`` is the position of ``file`` at the start, for messages."""
        self._file = file
        self._ahead = b""
        self.offset = offset

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or :class:`TruncatedError`."""
        parts = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        left = size - len(parts[0])
        while left:
            part = self._file.read(left)
            if not part:
                raise TruncatedError(
                    f"the data ends at offset {self.offset + size - left}, at least "
                    f"{left} bytes too early"
                )
            parts.append(part)
            left -= len(part)
        self.offset += size
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """As :meth:`read` without keeping the bytes; seeks where the file can."""
        seekable = getattr(self._file, "seekable", None)
        if size > _SKIP_BYTES and not self._ahead and seekable is not None and seekable():
            self._file.seek(size - 1, os.SEEK_CUR)  # type: ignore[attr-defined]
            self.offset += size - 1
            size = 1  # read, to learn whether it is there
        while size:
            size -= len(self.read(min(size, _SKIP_BYTES)))

    def at_end(self) -> bool:
        """Whether nothing follows; may wait for a pipe."""
        if not self._ahead:
            self._ahead = self._file.read(1)
        return not self._ahead


class BufferFile:
    """A buffer as a seekable file, without a copy of the whole."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._view) if size < 0 else self._at + size
        out = bytes(self._view[self._at : end])
        self._at += len(out)
        return out

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        )
        return self._at

    def seekable(self) -> bool:
        return True


def write_all(file: Writable, data: bytes) -> None:
    """Write all of ``data``, also to raw files that take less at a time."""
    view = memoryview(data)
    while view:
        written = file.write(bytes(view) if len(view) < len(data) else data)
        view = view[len(view) if written is None else written :]


class AtomicFile:
    """A new file that appears under its name only when it is complete.

    It is written beside its destination, synced and renamed by :meth:`commit`; every
    other end removes it.  A destination that is no regular file (a pipe, a device)
    is written to directly.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Raises ``FileExistsError`` if ``path`` exists and may not be overwritten."""
        self.path = Path(os.path.realpath(path))  # a link stays one
        self._overwrite = overwrite
        self._temporary: Path | None = None
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            mode = 0
        if mode and not overwrite:
            raise FileExistsError(f"{path} exists")
        if mode and not stat.S_ISREG(mode):
            self.file: BinaryIO = self.path.open("wb")
            return
        # Not by tempfile, whose files are for the owner's eyes only.
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        self.file = self._temporary.open("xb")
        if mode:
            os.chmod(self._temporary, stat.S_IMODE(mode))

    def commit(self) -> None:
        """Make the file visible; after this only :meth:`discard`, without effect."""
        self.file.flush()
        if self._temporary is None:
            self.file.close()
            return
        os.fsync(self.file.fileno())
        self.file.close()
        if not self._overwrite and self.path.exists():
            self.discard()
            raise FileExistsError(f"{self.path} exists")
        os.replace(self._temporary, self.path)
        self._temporary = None

    def discard(self) -> None:
        """Leave nothing behind."""
        # On a full disk the rest of the buffer can't be written, and need not be.
        with contextlib.suppress(OSError):
            self.file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()
