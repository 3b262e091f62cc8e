"""The container ``.pgw``: any tensors, each coded by itself, any of them readable alone.

Layout (little-endian), version 1::

    8   magic  89 'PGW' 0D 0A 1A 0A
    2   version
    4   bytes of the head, compressed        4   bytes of the head
        head: JSON through zlib
    4   CRC-32 of all before
        the tensors' bytes, in the head's order

The head is {"tensors": [[name, dtype, shape, scheme, [bytes of each stream], crc32],
...], "same": {name: name of the equal tensor}}, and may have "metadata", as safetensors
has it.  What the streams of a tensor mean is in
:mod:`~pgolf_codec.quant.schemes`; docs/WEIGHTS.md has it all.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pgolf_codec.errors import (
    CorruptError,
    NotAnArchiveError,
    OutputLimitError,
    TruncatedError,
    UnsupportedVersionError,
)
from pgolf_codec.quant.coders.registry import MAX_DIMENSIONS
from pgolf_codec.quant.rounding import Quantized
from pgolf_codec.quant.safetensors_file import texts
from pgolf_codec.quant.schemes import decode_quantized, decode_tensor
from pgolf_codec.quant.tensors import ITEMS, Tensor, is_possible_shape

MAGIC = b"\x89PGW\r\n\x1a\n"
VERSION = 1
MAX_HEAD_BYTES = 1 << 26
MAX_OUTPUT_BYTES = 1 << 34
"""Of all tensors unpacked, unless the caller says otherwise."""
_FIXED = struct.Struct("<8sHII")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor's row of the head."""

    name: str
    dtype: str
    """What it was, and will be again; a name of safetensors."""
    shape: tuple[int, ...]
    scheme: str
    """A name that :mod:`~pgolf_codec.quant.schemes` knows."""
    stream_bytes: tuple[int, ...]
    crc32: int

    @property
    def n_bytes(self) -> int:
        """In the file."""
        return sum(self.stream_bytes)

    @property
    def n_items(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class CodedTensor:
    """What goes into a bag."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scheme: str
    streams: Sequence[bytes]


def dump_bag(
    coded: Sequence[CodedTensor], same: Mapping[str, str], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a ``.pgw``; ``same`` has the names of tensors that equal one of ``coded``."""
    bodies = [b"".join(tensor.streams) for tensor in coded]
    rows = [
        [t.name, t.dtype, t.shape, t.scheme, [len(s) for s in t.streams], zlib.crc32(body)]
        for t, body in zip(coded, bodies, strict=True)
    ]
    text = {"tensors": rows, "same": dict(same)}
    if metadata:
        text["metadata"] = dict(metadata)
    head = json.dumps(text, separators=(",", ":"), ensure_ascii=False).encode()
    packed = zlib.compress(head, 9)
    blob = _FIXED.pack(MAGIC, VERSION, len(packed), len(head)) + packed
    return blob + _CRC.pack(zlib.crc32(blob)) + b"".join(bodies)


class Bag(Mapping[str, Tensor]):
    """A ``.pgw`` that is open: only its head is read, tensors when they are asked for.

    Raises :class:`NotAnArchiveError`, :class:`UnsupportedVersionError`,
    :class:`TruncatedError` or :class:`CorruptError`, here and at each tensor.
    """

    def __init__(self, file: BinaryIO, *, max_output_bytes: int = MAX_OUTPUT_BYTES) -> None:
        """``file`` can be read and sought, and stays open as long as the bag is used.

        Raises :class:`OutputLimitError` if the tensors, unpacked, exceed the limit.
        """
        self._file = file
        n_total = file.seek(0, io.SEEK_END)
        file.seek(0)
        rows, self.same, self.metadata, at = _read_head(file)
        self.entries = {entry.name: entry for entry in rows}
        self._starts: dict[str, int] = {}
        for entry in rows:
            self._starts[entry.name] = at
            at += entry.n_bytes
        if at > n_total:
            raise TruncatedError(f"tensors: {n_total} bytes of {at}")
        if at < n_total:
            raise CorruptError(f"tensors: {n_total - at} bytes too many")
        n_output = sum(entry.n_items * ITEMS[entry.dtype].itemsize for entry in rows)
        if n_output > max_output_bytes:
            raise OutputLimitError(f"tensors: {n_output} bytes where {max_output_bytes} may be")

    def __len__(self) -> int:
        return len(self.entries) + len(self.same)

    def __iter__(self) -> Iterator[str]:
        yield from self.entries
        yield from self.same

    def __getitem__(self, name: str) -> Tensor:
        """One tensor, in the dtype it had."""
        entry, streams = self.streams(name)
        try:
            return decode_tensor(entry.dtype, entry.shape, entry.scheme, streams)
        except (CorruptError, TruncatedError) as error:
            raise type(error)(f"tensor {name}: {error}") from None

    def quantized(self, name: str) -> Quantized | None:
        """The integers and scales of a tensor; None if it was packed losslessly."""
        entry, streams = self.streams(name)
        try:
            return decode_quantized(entry.shape, entry.scheme, streams)
        except (CorruptError, TruncatedError) as error:
            raise type(error)(f"tensor {name}: {error}") from None

    def streams(self, name: str) -> tuple[Entry, list[memoryview]]:
        """A tensor's row and its streams, the checksum compared."""
        entry = self.entries[self.same.get(name, name)]
        self._file.seek(self._starts[entry.name])
        body = self._file.read(entry.n_bytes)
        if len(body) != entry.n_bytes:
            raise TruncatedError(f"tensor {name}: ends early")
        if zlib.crc32(body) != entry.crc32:
            raise CorruptError(f"tensor {name}: is damaged")
        streams, at, view = [], 0, memoryview(body)
        for n_bytes in entry.stream_bytes:
            streams.append(view[at : at + n_bytes])
            at += n_bytes
        return entry, streams


def load_bag(blob: bytes) -> Bag:
    return Bag(io.BytesIO(blob))


def is_bag(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _read_head(file: BinaryIO) -> tuple[list[Entry], dict[str, str], dict[str, str], int]:
    """Rows, names of equal tensors, metadata, and where the tensors begin."""
    fixed = file.read(_FIXED.size)
    if not fixed or fixed[: len(MAGIC)] != MAGIC[: len(fixed)]:
        raise NotAnArchiveError("not a file of packed tensors: the magic number is missing")
    if len(fixed) < _FIXED.size:
        raise TruncatedError("tensors: end within their head")
    _, version, n_packed, n_head = _FIXED.unpack(fixed)
    if version != VERSION:
        raise UnsupportedVersionError(f"tensors: format version {version} is unknown")
    if max(n_packed, n_head) > MAX_HEAD_BYTES:
        raise CorruptError(f"tensors: a head of {n_head} bytes")
    packed = file.read(n_packed + _CRC.size)
    if len(packed) < n_packed + _CRC.size:
        raise TruncatedError("tensors: end within their head")
    if _CRC.unpack_from(packed, n_packed)[0] != zlib.crc32(fixed + packed[:n_packed]):
        raise CorruptError("tensors: the head's checksum does not hold")
    unpacker = zlib.decompressobj()
    try:
        head = unpacker.decompress(packed[:n_packed], n_head + 1)
    except zlib.error as error:
        raise CorruptError(f"tensors: head: {error}") from None
    if len(head) != n_head or not unpacker.eof:
        raise CorruptError("tensors: the head's size does not hold")
    return *_parse(head), _FIXED.size + len(packed)


def _parse(head: bytes) -> tuple[list[Entry], dict[str, str], dict[str, str]]:
    try:
        values = json.loads(head)
        rows = [
            Entry(str(name), str(dtype), tuple(shape), str(scheme), tuple(sizes), int(crc))
            for name, dtype, shape, scheme, sizes, crc in values["tensors"]
        ]
        same = {str(name): str(other) for name, other in values["same"].items()}
        metadata = texts(values.get("metadata", {}))
        for name in (*(row.name for row in rows), *same):
            name.encode()  # JSON can have halves of characters
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise CorruptError(f"tensors: head: {error}") from None
    names = {row.name for row in rows}
    if len(names) != len(rows) or not names.isdisjoint(same) or not names.issuperset(same.values()):
        raise CorruptError("tensors: head: names that are not possible")
    for row in rows:
        if row.dtype not in ITEMS:
            raise CorruptError(f"tensors: head: {row.name} has the dtype {row.dtype!r}")
        sizes = (*row.shape, *row.stream_bytes)
        possible = all(type(size) is int and size >= 0 for size in sizes)
        if not (possible and is_possible_shape(row.shape, MAX_DIMENSIONS)):
            raise CorruptError(f"tensors: head: {row.name} has a size that is not possible")
    return rows, same, metadata
