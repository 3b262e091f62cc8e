"""Files ``.safetensors``, read and written with the standard library.

The format is eight bytes of length, a JSON head, then the tensors; the library of that
name changes its interface for writing bit patterns from release to release, and unpacking
should need nothing optional.  Tests compare with the library.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgolf_codec.errors import FormatError, TensorError
from pgolf_codec.files import reading, replacing
from pgolf_codec.quant.tensors import ITEMS, Tensor, is_possible_shape

_LENGTH = struct.Struct("<Q")
_MAX_HEAD_BYTES = 100_000_000
"""The library's own limit."""
_ALIGNMENT = 8
_MAX_DIMENSIONS = 64
"""numpy's own limit."""
_METADATA = "__metadata__"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors, in the order of their bytes; raises :class:`FormatError`."""
    return read_with_metadata(path)[0]


def read_with_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same, and what the file says of itself: other programs may want it again."""
    with reading(path) as file:
        data = memoryview(file.read())
    if len(data) < _LENGTH.size:
        raise FormatError(f"{path}: not a safetensors file: {len(data)} bytes")
    (head_size,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + head_size
    if head_size > _MAX_HEAD_BYTES or start > len(data):
        raise FormatError(f"{path}: not a safetensors file: a head of {head_size} bytes")
    try:
        head = json.loads(bytes(data[_LENGTH.size : start]))
        metadata = texts(head.pop(_METADATA, {}))
        entries = _entries(head)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path}: not a safetensors file: head: {error}") from None
    tensors, at = {}, 0
    for name, dtype, shape, begin, end in entries:
        n_bytes = math.prod(shape) * ITEMS[dtype].itemsize
        if begin != at or end - begin != n_bytes or start + end > len(data):
            raise FormatError(f"{path}: safetensors: tensor {name} has no such place")
        tensors[name] = Tensor.from_bytes(dtype, shape, data[start + begin : start + end])
        at = end
    if start + at != len(data):
        raise FormatError(f"{path}: safetensors: {len(data) - start - at} bytes too many")
    return tensors, metadata


def texts(found: dict[Any, Any]) -> dict[str, str]:
    """Metadata as it should be; raises :class:`ValueError`."""
    for text in (*found, *found.values()):
        if not isinstance(text, str):
            raise ValueError(f"metadata: {text!r} is no text")
        text.encode()
    return found


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Atomic; raises :class:`RefusedError` if the file exists and ``overwrite`` is not set."""
    if _METADATA in tensors:
        raise TensorError(f"tensor {_METADATA}: safetensors has another use for this name")
    head: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.n_bytes
        head[name] = {
            "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]
        }  # fmt: skip
        at = end
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with replacing(path, overwrite=overwrite) as file:
        file.write(_LENGTH.pack(len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.to_bytes())


def _entries(head: dict[str, Any]) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """Name, dtype, shape, first and last byte, by place."""
    entries = []
    for name, entry in head.items():
        dtype, shape = str(entry["dtype"]), tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if dtype not in ITEMS:
            raise TensorError(f"tensor {name}: dtype {dtype} is not known")
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"tensor {name}: a size that is no natural number")
        if not is_possible_shape(shape, _MAX_DIMENSIONS):
            raise ValueError(f"tensor {name}: a shape that is not possible")
        entries.append((name, dtype, shape, begin, end))
    return sorted(entries, key=lambda entry: entry[3:])
