"""The bytes of a ``.pgz`` archive, version 1: header, frame headers, footer.

No file is opened and nothing is compressed here; see docs/FORMAT.md for the
tables and the reasons.

::

    archive = header frame* footer          file = archive+
    header  = 89 'p' 'g' 'z'  version  numerics  log2(frame size)  fingerprint[8]  check
    frame   = method  [raw size]  payload size  check  raw check  payload
    footer  = end mark  original size  frame sizes*  SHA-256[16]  footer size  check  'z' 8B
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pgolf_codec.errors import (
    CorruptError,
    NotAnArchiveError,
    TruncatedError,
    UnsupportedVersionError,
)

MAGIC = b"\x89pgz"
CLOSING_MAGIC = b"z\x89"
FORMAT_VERSION = 1
FINGERPRINT_BYTES = 8
DIGEST_BYTES = 16
HEADER_BYTES = 4 + 3 + FINGERPRINT_BYTES + 4
TRAILER_BYTES = 4 + 4 + len(CLOSING_MAGIC)
"""Footer size, check and closing magic: the fixed end of a footer."""

MIN_FOOTER_BYTES = 1 + 1 + DIGEST_BYTES + TRAILER_BYTES

MIN_FRAME_LOG2, MAX_FRAME_LOG2 = 10, 23
"""A frame holds at most 8 MiB, whatever an archive claims."""

END_MARK = 0x7F
_FULL = 0x80

ReadExactly = Callable[[int], bytes]
"""Takes n, returns n bytes or raises :class:`TruncatedError`."""


class Method(IntEnum):
    """How the payload of a frame holds its raw bytes."""

    STORED = 0
    ZSTD = 1
    MODEL = 2
    ADAPTED = 3
    """By the model with the stage of :mod:`pgolf_codec.codec.adaptation` behind it."""

    @property
    def needs_model(self) -> bool:
        return self in (Method.MODEL, Method.ADAPTED)


def put_varint(value: int) -> bytes:
    """Little-endian groups of 7 bits, the high bit set on all but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def get_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """(value < 2**63, position behind it).

    Raises :class:`TruncatedError` at the end of ``data``, :class:`CorruptError`
    on more groups than needed, so that a value has one spelling.
    """
    value = 0
    for i in range(9):
        if at + i >= len(data):
            raise TruncatedError("the data ends inside of a number")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if byte == 0 and i:
                raise CorruptError("a number has more bytes than it needs")
            return value, at + i + 1
    raise CorruptError("a number is too large")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _get_u32(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _read_varint(read: ReadExactly) -> bytes:
    """The bytes of one varint from a stream."""
    out = b""
    while len(out) < 9:
        out += read(1)
        if out[-1] < 0x80:
            break
    return out


@dataclass(frozen=True, slots=True)
class Header:
    """What a decoder has to know before the first frame."""

    numerics_version: int
    frame_bytes: int
    """Raw size of every frame but the last: a power of two."""
    fingerprint: bytes
    """The first 8 bytes of the fingerprint of the model."""

    def pack(self) -> bytes:
        body = (
            MAGIC
            + bytes([FORMAT_VERSION, self.numerics_version, self.frame_bytes.bit_length() - 1])
            + self.fingerprint[:FINGERPRINT_BYTES]
        )
        return body + _u32(zlib.crc32(body))

    @classmethod
    def read(cls, read: ReadExactly) -> Header:
        """Raises every kind of :class:`FormatError`."""
        for i in range(len(MAGIC)):  # one by one: three bytes of something else are not "cut off"
            if read(1) != MAGIC[i : i + 1]:
                raise NotAnArchiveError("not a .pgz archive: the magic number is missing")
        version = read(1)
        if version[0] != FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"version {version[0]} of the .pgz format; this release reads {FORMAT_VERSION}"
            )
        rest = read(HEADER_BYTES - 5)
        if zlib.crc32(MAGIC + version + rest[:-4]) != _get_u32(rest[-4:]):
            raise CorruptError("the header is damaged")
        numerics_version, frame_log2 = rest[0], rest[1]
        if not MIN_FRAME_LOG2 <= frame_log2 <= MAX_FRAME_LOG2:
            raise CorruptError(f"the header claims frames of 2**{frame_log2} bytes")
        return cls(numerics_version, 1 << frame_log2, rest[2:-4])


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What stands before a payload; the checks are CRC-32."""

    method: Method
    raw_bytes: int
    payload_bytes: int
    check: int
    """Of the frame's number (8 bytes), the fields before the checks, and the payload."""
    raw_check: int
    """Of the raw bytes: finds a decoder that disagrees with the encoder."""

    @classmethod
    def of(cls, index: int, method: Method, payload: bytes, raw: bytes | memoryview) -> FrameHeader:
        """The header of frame ``index`` of an archive."""
        header = cls(method, len(raw), len(payload), 0, zlib.crc32(raw))
        return cls(
            method,
            header.raw_bytes,
            header.payload_bytes,
            header.expected_check(index, payload),
            header.raw_check,
        )

    def _fields(self, frame_bytes: int | None) -> bytes:
        full = self.raw_bytes == frame_bytes
        return b"".join(
            [
                bytes([self.method | (_FULL if full else 0)]),
                b"" if full else put_varint(self.raw_bytes),
                put_varint(self.payload_bytes),
            ]
        )

    def pack(self, frame_bytes: int) -> bytes:
        """``frame_bytes`` is the header's: a full frame does not store its raw size."""
        return self._fields(frame_bytes) + _u32(self.check) + _u32(self.raw_check)

    def expected_check(self, index: int, payload: bytes) -> int:
        """What ``check`` has to be for this payload."""
        fields = index.to_bytes(8, "little") + self._fields(None) + _u32(self.raw_check)
        return zlib.crc32(payload, zlib.crc32(fields))

    @classmethod
    def read(cls, read: ReadExactly, frame_bytes: int) -> FrameHeader | None:
        """The next frame's header, or None where the end mark stands instead."""
        kind = read(1)[0]
        if kind == END_MARK:
            return None
        try:
            method = Method(kind & ~_FULL)
        except ValueError:
            raise CorruptError(f"unknown method {kind & ~_FULL}") from None
        raw_bytes = frame_bytes if kind & _FULL else get_varint(_read_varint(read), 0)[0]
        if not kind & _FULL and not 0 < raw_bytes < frame_bytes:
            raise CorruptError(f"a frame claims {raw_bytes} bytes; a full one has {frame_bytes}")
        payload_bytes = get_varint(_read_varint(read), 0)[0]
        # Storing is always possible, so no payload is longer than the raw bytes.
        if payload_bytes > raw_bytes or (method is Method.STORED and payload_bytes != raw_bytes):
            raise CorruptError(f"a frame of {raw_bytes} bytes claims {payload_bytes} coded bytes")
        return cls(method, raw_bytes, payload_bytes, _get_u32(read(4)), _get_u32(read(4)))


@dataclass(frozen=True, slots=True)
class Footer:
    """What only the end of the data tells; a pipe could not have said it before."""

    raw_bytes: int
    """Size of the original."""
    frame_sizes: Sequence[int]
    """Bytes of each frame in the archive, header and payload."""
    digest: bytes
    """The first 16 bytes of the SHA-256 of the original."""

    def pack(self) -> bytes:
        body = b"".join(
            [
                bytes([END_MARK]),
                put_varint(self.raw_bytes),
                *map(put_varint, self.frame_sizes),
                self.digest[:DIGEST_BYTES],
            ]
        )
        body += _u32(len(body) + TRAILER_BYTES)
        return body + _u32(zlib.crc32(body)) + CLOSING_MAGIC

    @classmethod
    def unpack(cls, data: bytes) -> Footer:
        """From all bytes of a footer, end mark and closing magic included."""
        body = data[: 4 - TRAILER_BYTES]
        if (
            len(data) < MIN_FOOTER_BYTES
            or data[-len(CLOSING_MAGIC) :] != CLOSING_MAGIC
            or body[0] != END_MARK
            or _get_u32(body[-4:]) != len(data)
            or _get_u32(data[len(body) : len(body) + 4]) != zlib.crc32(body)
        ):
            raise CorruptError("the footer is damaged")
        fields = memoryview(body)[: -4 - DIGEST_BYTES]
        raw_bytes, at = get_varint(fields, 1)
        frame_sizes = []
        while at < len(fields):
            size, at = get_varint(fields, at)
            frame_sizes.append(size)
        return cls(raw_bytes, frame_sizes, body[-4 - DIGEST_BYTES : -4])

    @classmethod
    def read(cls, read: ReadExactly, frame_sizes: Sequence[int], frame_bytes: int) -> Footer:
        """Behind the end mark of a stream whose frames had ``frame_sizes``.

        Raises :class:`CorruptError` where the footer tells otherwise.
        """
        size = _read_varint(read)
        index = b"".join(map(put_varint, frame_sizes))
        footer = cls.unpack(
            bytes([END_MARK]) + size + read(len(index) + DIGEST_BYTES + TRAILER_BYTES)
        )
        if list(footer.frame_sizes) != list(frame_sizes) or not footer.fits(frame_bytes):
            raise CorruptError("the footer does not agree with the frames")
        return footer

    def fits(self, frame_bytes: int) -> bool:
        """Whether size and number of frames belong together."""
        return len(self.frame_sizes) == -(-self.raw_bytes // frame_bytes)
