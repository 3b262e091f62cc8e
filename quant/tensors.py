"""Tensors as bit patterns: any dtype of safetensors, with numpy alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import TensorError


@dataclass(frozen=True, slots=True)
class FloatForm:
    """Fields of a binary floating-point number, sign first."""

    exponent_bits: int
    mantissa_bits: int


FLOATS = {
    "F64": FloatForm(11, 52),
    "F32": FloatForm(8, 23),
    "F16": FloatForm(5, 10),
    "BF16": FloatForm(8, 7),
}
SMALL_FLOATS = ("F8_E4M3", "F8_E5M2")
"""Floats that are only kept as they are, as integers."""
ITEMS: dict[str, np.dtype[Any]] = {
    name: np.dtype(item)
    for name, item in {
        "F64": "<u8", "F32": "<u4", "F16": "<u2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",
        "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
        "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1",
    }.items()
}  # fmt: skip
"""Names of safetensors; floats as unsigned integers of their width."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of any dtype."""

    dtype: str
    """One of :data:`ITEMS`."""
    bits: NDArray[Any]
    """The items, in the shape, with the dtype that :data:`ITEMS` tells."""

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Tensor:
        """A numpy array of a float, integer or bool dtype."""
        kind, size = array.dtype.kind, array.dtype.itemsize
        name = "BOOL" if kind == "b" else f"{kind.upper()}{8 * size}"
        if kind not in "fiub" or name not in ITEMS:
            raise TensorError(f"dtype {array.dtype} has no place in a file of tensors")
        contiguous = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return cls(name, contiguous.view(ITEMS[name]).reshape(array.shape))

    @classmethod
    def from_bytes(cls, dtype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Tensor:
        if dtype not in ITEMS:
            raise TensorError(f"dtype {dtype} is not known")
        return cls(dtype, np.frombuffer(data, ITEMS[dtype]).reshape(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape

    @property
    def n_bytes(self) -> int:
        return self.bits.nbytes

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def floats(self) -> NDArray[Any]:
        """A float tensor's values: float64, float32, float16, or float32 for BF16."""
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.view(f"<f{self.bits.dtype.itemsize}")

    def to_bytes(self) -> bytes:
        return self.bits.tobytes()

    def digest(self) -> bytes:
        """The same for equal tensors only."""
        head = f"{self.dtype} {self.shape} ".encode()
        return hashlib.sha256(head + self.to_bytes()).digest()


def is_possible_shape(shape: Sequence[int], most_dimensions: int) -> bool:
    """Whether numpy can have such an array, be it empty, of items of 8 bytes at most."""
    return len(shape) <= most_dimensions and math.prod(max(n, 1) for n in shape) < 1 << 59


def from_float32(values: NDArray[np.float32], dtype: str) -> Tensor:
    """Float32 values as a tensor of a float dtype, rounded to nearest even."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return Tensor(dtype, rounded.astype("<u2"))
    with np.errstate(over="ignore"):
        return Tensor.from_array(values.astype(f"<f{ITEMS[dtype].itemsize}"))
