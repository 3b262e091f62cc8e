"""What a coder is, which there are, and the stream that names the one it was made by.

A stream::

    1      number of a built-in coder, or 0: then 1 byte n, and n bytes of its name
    1      number of dimensions, 0 to 8; then each dimension as a varint
           the coder's payload, to the end

Another package adds a coder with an entry point of the group ``pgolf_codec.coders``
that leads to an object with the methods of :class:`Coder`, or to a class of such::

    [project.entry-points."pgolf_codec.coders"]
    mine = "my_package:MyCoder"
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import (
    CoderError,
    CoderNotFoundError,
    CorruptError,
    PgolfError,
    TruncatedError,
)
from pgolf_codec.quant.coders.varint import read_varint, write_varint

GROUP = "pgolf_codec.coders"
MAX_ITEMS = 1 << 28
"""Items of one stream, unless the caller of :func:`decode` says otherwise."""
MAX_DIMENSIONS = 8


@runtime_checkable
class Coder(Protocol):
    """Integers ⇄ bytes; everything but the shape is inside the payload."""

    summary: str
    """Half a line for ``pgolf-codec coders``."""

    def encode(self, values: NDArray[np.int32]) -> bytes:
        """Payload of a C-contiguous array (rows, columns), 1 item at least; no side effects.

        Raises :class:`CoderError` for values that this coder can't hold.
        """
        ...

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> NDArray[np.int32]:
        """The values again, or :class:`CorruptError`, :class:`TruncatedError`.

        The number of items was checked by the caller; other sizes that the payload
        claims are checked here, before memory is taken for them.
        """
        ...


class BuiltIn(NamedTuple):
    """Where a coder of ours is; the number is part of the format."""

    number: int
    module: str
    attribute: str


BUILT_IN = {
    "raw": BuiltIn(1, "bits", "RAW"),
    "zlib": BuiltIn(2, "bytewise", "ZLIB"),
    "int8+zlib": BuiltIn(3, "bytewise", "INT8_ZLIB"),
    "bzip2": BuiltIn(4, "bytewise", "BZIP2"),
    "lzma": BuiltIn(5, "bytewise", "LZMA"),
    "zstd": BuiltIn(6, "bytewise", "ZSTD"),
    "brotli": BuiltIn(7, "bytewise", "BROTLI"),
    "huffman": BuiltIn(8, "huffman", "HUFFMAN"),
    "ans-hist": BuiltIn(9, "fits", "HIST"),
    "ans-gauss": BuiltIn(10, "fits", "GAUSS"),
    "ans-laplace": BuiltIn(11, "fits", "LAPLACE"),
    "ans-mixture": BuiltIn(12, "fits", "MIXTURE"),
    "ans-scale": BuiltIn(13, "fits", "SCALE"),
    "cm": BuiltIn(14, "cm", "CM"),
    "trellis": BuiltIn(15, "trellis", "TRELLIS"),
}
_NAMES = {coder.number: name for name, coder in BUILT_IN.items()}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")


class StreamInfo(NamedTuple):
    """The head of a stream."""

    coder: str
    shape: tuple[int, ...]
    payload_start: int

    @property
    def n_items(self) -> int:
        return math.prod(self.shape)


def coder_names() -> list[str]:
    """Built-in coders in the order of their numbers, then those of other packages."""
    return [*BUILT_IN, *sorted(_entry_points().keys() - BUILT_IN.keys())]


@cache
def find_coder(name: str) -> Coder:
    """The coder of this name.

    Raises :class:`CoderNotFoundError` if there is none, if two packages have one, and if its
    package can't be loaded or gives something that is no coder.
    """
    if name in BUILT_IN:
        _, module, attribute = BUILT_IN[name]
        return getattr(importlib.import_module(f"{__package__}.{module}"), attribute)  # type: ignore[no-any-return]
    points = _entry_points().get(name, {})
    if not points:
        raise CoderNotFoundError(f"no coder {name!r}; there are {', '.join(coder_names())}")
    if len(points) > 1:
        raise CoderNotFoundError(f"coder {name!r} is in {' and in '.join(sorted(points))}")
    ((place, point),) = points.items()
    if not _NAME.fullmatch(name):
        raise CoderNotFoundError(f"{name!r} of {place} can't be the name of a coder")
    try:
        found = point.load()
        coder = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:  # whatever another package runs into
        raise CoderNotFoundError(f"coder {name!r} can't be loaded: {_told(error)}") from error
    if not (isinstance(coder, Coder) and isinstance(coder.summary, str)):
        raise CoderNotFoundError(f"coder {name!r} of {place} is not a Coder")
    return coder


def encode(values: NDArray[np.integer[Any]], coder: str) -> bytes:
    """A stream: integers of any shape, in the range of int32, by the coder of this name."""
    if not _NAME.fullmatch(coder):
        raise CoderNotFoundError(f"{coder!r} can't be the name of a coder")
    if values.ndim > MAX_DIMENSIONS:
        raise CoderError(f"{values.ndim} dimensions; {MAX_DIMENSIONS} are allowed")
    if not np.issubdtype(values.dtype, np.integer):
        raise CoderError(f"integers are wanted, not {values.dtype}")
    if values.size > MAX_ITEMS:
        raise CoderError(f"{values.size} items; {MAX_ITEMS} are allowed")
    if values.size and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
        raise CoderError("integers beyond 32 bits")
    head = bytearray()
    if coder in BUILT_IN:
        head.append(BUILT_IN[coder].number)
    else:
        head += bytes([0, len(coder)]) + coder.encode()
    head.append(values.ndim)
    for size in values.shape:
        write_varint(head, size)
    if not values.size:
        return bytes(head)
    table = np.ascontiguousarray(values.reshape(_as_table(values.shape)), np.int32)
    if coder in BUILT_IN:
        return bytes(head) + find_coder(coder).encode(table)
    found, table = find_coder(coder), table.view()
    table.flags.writeable = False
    with _blaming(coder, CoderError):
        return bytes(head) + bytes(memoryview(found.encode(table)))


def decode(stream: bytes | memoryview, *, max_items: int = MAX_ITEMS) -> NDArray[np.int32]:
    """The integers of a stream, in their shape.

    Raises :class:`CorruptError`, :class:`TruncatedError` or :class:`CoderNotFoundError`.
    """
    stream = memoryview(stream)
    info = stream_info(stream)
    if info.n_items > max_items:
        raise CorruptError(f"coded integers: {info.n_items} items where {max_items} are allowed")
    payload = stream[info.payload_start :]
    if not info.n_items:
        if len(payload):
            raise CorruptError("coded integers: bytes behind the end")
        return np.empty(info.shape, np.int32)
    found, shape = find_coder(info.coder), _as_table(info.shape)
    if info.coder in BUILT_IN:
        return found.decode(payload, shape).reshape(info.shape)
    with _blaming(info.coder, CorruptError):
        values = found.decode(payload, shape)
        if values.shape != shape or values.dtype != np.int32:
            raise CorruptError(
                f"coder {info.coder!r} gave {values.dtype} {values.shape}, not int32 {shape}"
            )
    return values.reshape(info.shape)


def stream_info(stream: bytes | memoryview) -> StreamInfo:
    """Coder and shape; nothing is decoded."""
    stream = memoryview(stream)
    if len(stream) < 2:
        raise TruncatedError("coded integers: end within their head")
    number, at = stream[0], 1
    if number == 0:
        at = 2 + stream[1]
        name = bytes(stream[2:at]).decode("latin-1")
        if not _NAME.fullmatch(name):
            raise CorruptError(f"coded integers: {name!r} can't be the name of a coder")
    elif number in _NAMES:
        name = _NAMES[number]
    else:
        raise CorruptError(f"coded integers: coder number {number} is unknown")
    if at >= len(stream) or stream[at] > MAX_DIMENSIONS:
        raise CorruptError("coded integers: the number of dimensions is not possible")
    shape = []
    n_dimensions, at = stream[at], at + 1
    for _ in range(n_dimensions):
        size, at = read_varint(stream, at)
        shape.append(size)
    return StreamInfo(name, tuple(shape), at)


def _as_table(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns: a vector is one row, more dimensions than two are one behind another."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


@contextlib.contextmanager
def _blaming(coder: str, kind: type[PgolfError]) -> Iterator[None]:
    """Whatever another package's coder runs into is an error that names it."""
    try:
        yield
    except (PgolfError, MemoryError):
        raise
    except Exception as error:
        raise kind(f"coder {coder!r}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _entry_points() -> dict[str, dict[str, Any]]:
    """Those of each name, by what they lead to."""
    from importlib.metadata import entry_points

    found: dict[str, dict[str, Any]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = point
    return found
