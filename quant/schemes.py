"""What the coded integers of a tensor mean.

A tensor is a list of streams (:mod:`~pgolf_codec.quant.coders.registry`), by its scheme:

- ``integers``: the items; of 64-bit ones beyond 32 bits the upper halves, then the lower;
- ``floats``, lossless: sign and exponent of each item, then its mantissa in one or two parts;
- ``rows``, ``columns``, ``rows+columns``: quantized items, then scales of the rows and
  of the columns, each a float16 vector as ``floats`` has it;
- ``rows/64``, ``rows/64+columns``: a row has a scale for every 64 columns, (rows, groups).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.quant import coders
from pgolf_codec.quant.rounding import GROUP, Quantized
from pgolf_codec.quant.tensors import FLOATS, ITEMS, Tensor, from_float32

Encode = Callable[[NDArray[Any]], bytes]
"""Integers of any shape to a stream."""

INTEGERS, LOSSLESS = "integers", "floats"
QUANTIZED = {"rows": (True, False), "columns": (False, True), "rows+columns": (True, True)}
"""Scheme, without its groups, to whether rows, columns have scales."""
_GROUPED = re.compile(f"rows/({GROUP.pattern})")

_MANTISSA_PARTS = {"F64": (20, 32), "F32": (7, 16), "F16": (10,), "BF16": (7,)}
"""Bits, from the most significant; float32 often is bfloat16 with zeros behind."""


def encode_exact(tensor: Tensor, encode: Encode) -> tuple[str, list[bytes]]:
    """Scheme and streams of any tensor, bit by bit."""
    if tensor.is_float:
        return LOSSLESS, [encode(part) for part in _split_floats(tensor)]
    bits = tensor.bits
    if bits.dtype.itemsize == 8 and bits.size and not _fits(bits):
        halves = bits.reshape(-1).view("<i4").reshape(*bits.shape, 2)
        return INTEGERS, [encode(halves[..., 1]), encode(halves[..., 0])]
    if bits.dtype == np.uint32:
        bits = bits.view("<i4")
    return INTEGERS, [encode(bits)]


def encode_quantized(quantized: Quantized, encode: Encode) -> tuple[str, list[bytes]]:
    """Scheme and streams of integers with scales; the first stream has the integers."""
    streams = [encode(quantized.values)]
    rows = f"rows/{quantized.group_columns}" if quantized.group_columns else "rows"
    scales = {rows: quantized.row_scales, "columns": quantized.column_scales}
    for scale in scales.values():
        if scale is not None:
            streams += [encode(part) for part in _split_floats(Tensor.from_array(scale))]
    return "+".join(name for name, scale in scales.items() if scale is not None), streams


def decode_tensor(
    dtype: str, shape: tuple[int, ...], scheme: str, streams: Sequence[memoryview]
) -> Tensor:
    """The tensor in its dtype; raises :class:`CorruptError`, :class:`TruncatedError`."""
    parts = iter(streams)
    if scheme == LOSSLESS and dtype in FLOATS:
        tensor = _join_floats(dtype, shape, parts)
    elif scheme == INTEGERS and dtype not in FLOATS:
        tensor = _join_integers(dtype, shape, parts)
    elif _by_row(scheme)[0] in QUANTIZED and dtype in FLOATS:
        tensor = from_float32(_quantized(shape, scheme, parts).floats(), dtype)
    else:
        raise CorruptError(f"scheme {scheme!r} of {dtype} is unknown")
    _none_left(parts)
    return tensor


def decode_quantized(
    shape: tuple[int, ...], scheme: str, streams: Sequence[memoryview]
) -> Quantized | None:
    """Integers and scales; None if the scheme has none."""
    if _by_row(scheme)[0] not in QUANTIZED:
        return None
    parts = iter(streams)
    quantized = _quantized(shape, scheme, parts)
    _none_left(parts)
    return quantized


def _quantized(shape: tuple[int, ...], scheme: str, parts: Iterator[memoryview]) -> Quantized:
    if len(shape) < 2:
        raise CorruptError(f"scheme {scheme!r} of a tensor of {len(shape)} dimensions")
    values = _take(parts, shape)
    n_columns = math.prod(shape[1:])
    by_row, group = _by_row(scheme)
    groups = (-(-n_columns // group),) if group else ()
    sizes = ((shape[0], *groups), (n_columns,))
    rows, columns = (
        _join_floats("F16", size, parts).bits.view(np.float16) if there else None
        for size, there in zip(sizes, QUANTIZED[by_row], strict=True)
    )
    if not all(s is None or np.isfinite(s).all() for s in (rows, columns)):
        raise CorruptError("a scale is not a number")
    return Quantized(values, rows, columns, group)


def _by_row(scheme: str) -> tuple[str, int | None]:
    """``rows/64`` is ``rows`` and 64; other schemes are themselves."""
    grouped = _GROUPED.match(scheme)
    return ("rows" + scheme[grouped.end() :], int(grouped[1])) if grouped else (scheme, None)


def _split_floats(tensor: Tensor) -> Iterable[NDArray[np.int32]]:
    form, bits = FLOATS[tensor.dtype], tensor.bits
    shift = form.mantissa_bits
    sign = bits >> bits.dtype.type(shift + form.exponent_bits)
    # Sign last: neighbours in size are neighbours in the alphabet.
    exponent = bits >> bits.dtype.type(shift) & bits.dtype.type((1 << form.exponent_bits) - 1)
    yield (exponent << bits.dtype.type(1) | sign).astype(np.int32)
    for width in _MANTISSA_PARTS[tensor.dtype]:
        shift -= width
        part = bits >> bits.dtype.type(shift) & bits.dtype.type((1 << width) - 1)
        yield part.astype(np.uint32).view(np.int32)


def _join_floats(dtype: str, shape: tuple[int, ...], parts: Iterator[memoryview]) -> Tensor:
    form, item = FLOATS[dtype], ITEMS[dtype].type
    exponent = _unsigned(_take(parts, shape), form.exponent_bits + 1).astype(item)
    top = exponent & item(1)
    bits = top << item(form.exponent_bits) | exponent >> item(1)
    for width in _MANTISSA_PARTS[dtype]:
        bits = bits << item(width) | _unsigned(_take(parts, shape), width).astype(item)
    return Tensor(dtype, bits)


def _join_integers(dtype: str, shape: tuple[int, ...], parts: Iterator[memoryview]) -> Tensor:
    item, values = ITEMS[dtype], _take(parts, shape)
    if item.itemsize == 8:
        low = next(parts, None)
        if low is not None:
            halves = np.stack([coders.decode(low, max_items=values.size), values], axis=-1)
            return Tensor(dtype, halves.reshape(-1).astype("<i4").view(item).reshape(shape))
    elif dtype == "U32":
        return Tensor(dtype, values.view(np.uint32))
    info = np.iinfo(item)
    if values.size and not info.min <= int(values.min()) <= int(values.max()) <= info.max:
        raise CorruptError(f"an item that {dtype} does not have")
    return Tensor(dtype, values.astype(item))


def _take(parts: Iterator[memoryview], shape: tuple[int, ...]) -> NDArray[np.int32]:
    stream = next(parts, None)
    if stream is None:
        raise CorruptError("a stream is missing")
    found = coders.stream_info(stream).shape
    if found != shape:
        raise CorruptError(f"a stream of shape {found} where {shape} is expected")
    return coders.decode(stream)


def _none_left(parts: Iterator[memoryview]) -> None:
    if next(parts, None) is not None:
        raise CorruptError("a stream too many")


def _unsigned(values: NDArray[np.int32], width: int) -> NDArray[np.uint32]:
    if width < 32 and values.size and not 0 <= int(values.min()) <= int(values.max()) < 1 << width:
        raise CorruptError(f"a part of a float that does not fit {width} bits")
    return values.view(np.uint32)


def _fits(bits: NDArray[Any]) -> bool:
    return -(2**31) <= int(bits.min()) <= int(bits.max()) < 2**31
