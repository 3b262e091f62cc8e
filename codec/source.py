"""Reading front to back: exact sizes, and the offset for messages."""

from __future__ import annotations

import os
from typing import Protocol

from pgolf_codec.errors import TruncatedError

_SKIP_BYTES = 1 << 16


class Readable(Protocol):
    """Anything with ``read``; pipes and sockets too."""

    def read(self, size: int = ..., /) -> bytes: ...


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
