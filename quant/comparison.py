"""Coders side by side on the same integers: bytes, bits, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CoderError, MissingPackageError, TensorError
from pgolf_codec.quant import coders
from pgolf_codec.quant.packing import Rule, order_0_entropy, rule_of
from pgolf_codec.quant.rounding import quantize
from pgolf_codec.quant.tensors import Tensor

_WARM_UP = (64, 64)
"""Of each tensor that is coded first, so that compiling is not timed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One coder on one tensor."""

    tensor: str
    coder: str
    n_params: int
    entropy_bits: float
    """Order 0, bits a parameter."""
    coded_bytes: int
    """Of the whole stream: coder, shape, side information, payload."""
    encode_seconds: float
    """Of processor time: others may be at work too."""
    decode_seconds: float

    @property
    def bits_per_param(self) -> float:
        return 8 * self.coded_bytes / self.n_params

    def to_dict(self) -> dict[str, Any]:
        return {
            "tensor": self.tensor,
            "coder": self.coder,
            "n_params": self.n_params,
            "coded_bytes": self.coded_bytes,
            "bits_per_param": self.bits_per_param,
            "entropy_bits_per_param": self.entropy_bits,
            "ratio_to_entropy": _ratio(self.bits_per_param, self.entropy_bits),
            "encode_mparam_per_second": self.n_params / 1e6 / max(self.encode_seconds, 1e-9),
            "decode_mparam_per_second": self.n_params / 1e6 / max(self.decode_seconds, 1e-9),
        }


def compare(
    tensors: Mapping[str, NDArray[Any]],
    names: Iterable[str],
    progress: Callable[[str, str], object] = lambda tensor, coder: None,
) -> list[Row]:
    """A row for each tensor of integers and each coder; everything is decoded and compared.

    A coder that can't hold a tensor has no row for it.  Raises
    :class:`CoderNotFoundError`, :class:`MissingPackageError`.
    """
    rows = []
    names = list(names)
    for name in names:
        coders.find_coder(name)
    for tensor, values in tensors.items():
        entropy = order_0_entropy(values)
        for name in names:
            progress(tensor, name)
            try:
                coders.decode(coders.encode(_corner(values), name))
                started = time.process_time()
                stream = coders.encode(values, name)
            except CoderError:
                continue
            encoded = time.process_time()
            decoded = coders.decode(stream)
            done = time.process_time()
            if not np.array_equal(decoded, values):
                raise CoderError(f"coder {name} does not give back tensor {tensor}")
            rows.append(
                Row(
                    tensor,
                    name,
                    values.size,
                    entropy,
                    len(stream),
                    encoded - started,
                    done - encoded,
                )
            )
    return rows


def totals(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """A coder's sums over the tensors, smallest first."""
    by_coder: dict[str, list[Row]] = {}
    for row in rows:
        by_coder.setdefault(row.coder, []).append(row)
    found = []
    for coder, own in by_coder.items():
        n_params = sum(row.n_params for row in own)
        entropy = sum(row.entropy_bits * row.n_params for row in own) / n_params
        total = Row(
            "", coder, n_params, entropy, sum(row.coded_bytes for row in own),
            sum(row.encode_seconds for row in own), sum(row.decode_seconds for row in own),
        ).to_dict()  # fmt: skip
        del total["tensor"]
        found.append({"n_tensors": len(own)} | total)
    return sorted(found, key=lambda total: (-total["n_tensors"], total["coded_bytes"]))


def integers_of(tensors: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, NDArray[Any]]:
    """Integer tensors as they are, floats quantized by the first rule that matches.

    Float tensors without a scheme are left out, and so is what is empty.  Raises
    :class:`TensorError` if nothing is left.
    """
    found: dict[str, NDArray[Any]] = {}
    rules = list(rules)
    for name, tensor in tensors.items():
        if not tensor.is_float:
            values = tensor.bits
        else:
            rule = rule_of(name, tensor, rules)
            if rule is None or rule.scheme is None or len(tensor.shape) < 2:
                continue
            values = quantize(tensor.floats(), rule.scheme).values
        if values.size and np.abs(values.astype(np.float64)).max() < 2**31:
            found[name] = values
    if not found:
        raise TensorError("no tensors of integers; --quant makes them from floats")
    return found


def draw(path: Path, found: list[dict[str, Any]]) -> None:
    """Bits a parameter against decoding speed; the front joined; PNG or SVG by the suffix."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise MissingPackageError("pictures: pip install pgolf-codec[bench]") from None
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    points = [(t["decode_mparam_per_second"], t["bits_per_param"], t["coder"]) for t in found]
    front, least = [], float("inf")
    for speed, bits, name in sorted(points, reverse=True):
        if bits < least:
            front.append((speed, bits))
            least = bits
        axes.plot(speed, bits, "o", color="black")
        axes.annotate(name, (speed, bits), xytext=(4, 4), textcoords="offset points")
    axes.plot(*zip(*front, strict=True), color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("decoding, million parameters a second")
    axes.set_ylabel("bits a parameter")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _corner(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim < 2:
        return values.reshape(-1)[: _WARM_UP[1]]
    return values.reshape(values.shape[0], -1)[: _WARM_UP[0], : _WARM_UP[1]]


def _ratio(bits: float, entropy: float) -> float | None:
    return bits / entropy if entropy else None
