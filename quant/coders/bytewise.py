"""Compressors of bytes, applied to the items as bytes: the baselines.

Payload: one byte, bit 0 says that the table is transposed, bits 1 and 2 are log2 of
the bytes an item has; then what the compressor made of the little-endian items.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError, MissingPackageError

_LZMA_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "pb": 0}]
_PIECE = 64
"""Bytes given to zstd at a time: it has no limit of its own for what they become."""
_ITEMS = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"))


class Bytewise:
    """A compressor of bytes as a coder of integers."""

    def __init__(
        self,
        summary: str,
        compress: Callable[[bytes], bytes],
        decompress: Callable[[memoryview, int], bytes],
        *,
        try_transposed: bool = True,
    ) -> None:
        """``decompress`` gets the payload and the size, and gives no more than size + 1 bytes."""
        self.summary = summary
        self._compress = compress
        self._decompress = decompress
        self._orientations = (0, 1) if try_transposed else (0,)

    def encode(self, values: NDArray[np.int32]) -> bytes:
        width = _width(int(values.min()), int(values.max()))
        items = values.astype(_ITEMS[width])
        made = []
        for transposed in self._orientations if min(values.shape) > 1 else (0,):
            data = (items.T if transposed else items).tobytes()
            made.append(bytes([transposed | width << 1]) + self._compress(data))
        return min(made, key=len)

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        if not len(payload) or payload[0] >> 1 >= len(_ITEMS):
            raise CorruptError("bytes: the first one is not possible")
        transposed, item = payload[0] & 1, _ITEMS[payload[0] >> 1]
        n_bytes = shape[0] * shape[1] * item.itemsize
        data = self._decompress(payload[1:], n_bytes)
        if len(data) != n_bytes:
            raise CorruptError(f"bytes: not the {n_bytes} that they should be")
        items = np.frombuffer(data, item)
        if transposed:
            items = items.reshape(shape[::-1]).T
        return np.ascontiguousarray(items.reshape(shape), np.int32)


def _width(low: int, high: int) -> int:
    top = max(high, -low - 1)
    return 0 if top < 128 else 1 if top < 1 << 15 else 2


def _bounded(make: Callable[[], Any], error: type[Exception]) -> Callable[[memoryview, int], bytes]:
    """``decompress`` of a Python decompressor object with a length limit."""

    def decompress(payload: memoryview, n_bytes: int) -> bytes:
        decoder = make()
        try:
            data: bytes = decoder.decompress(payload, n_bytes + 1)
            if not decoder.eof and len(data) == n_bytes:
                data += decoder.decompress(getattr(decoder, "unconsumed_tail", b""), 1)
        except error as problem:
            raise CorruptError(f"bytes: {problem}") from None
        if not decoder.eof or decoder.unused_data:
            raise CorruptError("bytes: the compressed data doesn't end where it should")
        return data

    return decompress


def _zstd_compress(data: bytes) -> bytes:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        22, source_size=len(data), write_checksum=False, write_content_size=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def _zstd_decompress(payload: memoryview, n_bytes: int) -> bytes:
    import zstandard

    window = min(max(1 << 10, 1 << (n_bytes + 1).bit_length()), 1 << 27)
    decoder = zstandard.ZstdDecompressor(max_window_size=window).decompressobj()
    data, at = bytearray(), 0
    try:
        while at < len(payload) and len(data) <= n_bytes and not decoder.eof:
            data += decoder.decompress(payload[at : at + _PIECE])
            at += _PIECE
    except zstandard.ZstdError as problem:
        raise CorruptError(f"bytes: {problem}") from None
    if not decoder.eof or decoder.unused_data or at < len(payload):
        raise CorruptError("bytes: the compressed data doesn't end where it should")
    return bytes(data)


def _brotli() -> Any:
    try:
        import brotli
    except ImportError:
        raise MissingPackageError("coder brotli: pip install pgolf-codec[bench]") from None
    return brotli


def _brotli_compress(data: bytes) -> bytes:
    made: bytes = _brotli().compress(data, quality=11, lgwin=24)
    return made


def _brotli_decompress(payload: memoryview, n_bytes: int) -> bytes:
    brotli = _brotli()
    decoder, data = brotli.Decompressor(), bytearray()
    try:
        data += decoder.process(bytes(payload), output_buffer_limit=n_bytes + 1)
        while not decoder.is_finished() and len(data) <= n_bytes:
            more = decoder.process(b"", output_buffer_limit=n_bytes + 1)
            if not more and decoder.can_accept_more_data():
                break
            data += more
    except brotli.error as problem:
        raise CorruptError(f"bytes: {problem}") from None
    if not decoder.is_finished():
        raise CorruptError("bytes: the compressed data doesn't end where it should")
    return bytes(data)


_zlib_decompress = _bounded(zlib.decompressobj, zlib.error)

ZLIB = Bytewise("zlib, level 9", lambda data: zlib.compress(data, 9), _zlib_decompress)
INT8_ZLIB = Bytewise(
    "zlib, level 9, row by row: the challenge's baseline",
    lambda data: zlib.compress(data, 9),
    _zlib_decompress,
    try_transposed=False,
)
BZIP2 = Bytewise(
    "bzip2, level 9", lambda data: bz2.compress(data, 9), _bounded(bz2.BZ2Decompressor, OSError)
)
LZMA = Bytewise(
    "LZMA2, preset 9e, no container",
    lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA_FILTERS),
    _bounded(lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA_FILTERS), lzma.LZMAError),
)
ZSTD = Bytewise("Zstandard, level 22", _zstd_compress, _zstd_decompress)
BROTLI = Bytewise("Brotli, quality 11", _brotli_compress, _brotli_decompress)
