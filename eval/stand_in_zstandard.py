"""Zstandard frames of stored blocks, for programs that must run without zstandard.

Bundled under the name ``zstandard`` (:mod:`pgolf_codec.eval.bundle`): what
``codec.tokenizer`` uses.  What it writes is a frame as RFC 8878 has it, which every zstd
reads, only not compressed; what it reads is such frames, so those of its own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

_MAGIC = b"\x28\xb5\x2f\xfd"
_SINGLE_SEGMENT_U64 = 0xE0
_HEAD = struct.Struct("<4sBQ")
_BLOCK_BYTES = 1 << 17


class ZstdError(Exception):
    """Not a frame of stored blocks."""


@dataclass(frozen=True)
class FrameParameters:
    content_size: int


def get_frame_parameters(data: bytes) -> FrameParameters:
    try:
        magic, descriptor, size = _HEAD.unpack_from(data)
    except struct.error as error:
        raise ZstdError(str(error)) from None
    if magic != _MAGIC or descriptor != _SINGLE_SEGMENT_U64:
        raise ZstdError("not a frame that was written without zstandard: install zstandard")
    return FrameParameters(size)


class ZstdCompressor:
    def __init__(self, **_: Any) -> None:
        pass

    def compress(self, data: bytes) -> bytes:
        blocks = [data[i : i + _BLOCK_BYTES] for i in range(0, len(data), _BLOCK_BYTES)] or [b""]
        out = [_HEAD.pack(_MAGIC, _SINGLE_SEGMENT_U64, len(data))]
        for i, block in enumerate(blocks):
            last = i == len(blocks) - 1
            out += [(len(block) << 3 | last).to_bytes(3, "little"), block]
        return b"".join(out)


class ZstdDecompressor:
    def __init__(self, **_: Any) -> None:
        pass

    def decompress(self, data: bytes, **_: Any) -> bytes:
        size = get_frame_parameters(data).content_size
        at, last, out = _HEAD.size, False, []
        while not last:
            head = int.from_bytes(data[at : at + 3], "little")
            last, kind, n = bool(head & 1), head >> 1 & 3, head >> 3
            block = data[at + 3 : at + 3 + n]
            if kind or len(block) < n or at + 3 > len(data):
                raise ZstdError("damaged, or written by another program: install zstandard")
            out.append(block)
            at += 3 + n
        content = b"".join(out)
        if at != len(data) or len(content) != size:
            raise ZstdError("the sizes do not add up")
        return content
