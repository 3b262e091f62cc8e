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
from pgolf_codec.files import replacing
from pgolf_codec.quant import coders
from pgolf_codec.quant.packing import Rule, order_0_entropy, quantized_by, rule_of
from pgolf_codec.quant.tensors import Tensor

_WARM_UP = (80, 64)
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

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Row:
        n_params = found["n_params"]
        return cls(
            found["tensor"],
            found["coder"],
            n_params,
            found["entropy_bits_per_param"],
            found["coded_bytes"],
            n_params / 1e6 / found["encode_mparam_per_second"],
            n_params / 1e6 / found["decode_mparam_per_second"],
        )


def compare(
    tensors: Mapping[str, NDArray[Any]],
    names: Iterable[str],
    progress: Callable[[str, str], object] = lambda tensor, coder: None,
) -> list[Row]:
    """A row for each tensor of integers and each coder; everything is decoded and compared.

    A coder that can't hold a tensor has no row for it.  Raises
    :class:`CoderNotFoundError`, :class:`MissingPackageError`, and :class:`CoderError` for a
    coder that gives back something else, and if none can hold any.
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
    if not rows:
        raise CoderError(f"{', '.join(names)}: can't hold any of these tensors")
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
    :class:`TensorError` as :func:`quantized_by` does, and if nothing is left.
    """
    found: dict[str, NDArray[Any]] = {}
    rules = list(rules)
    for name, tensor in tensors.items():
        quantized = quantized_by(name, tensor, rule_of(name, tensor, rules))
        if quantized is None and tensor.is_float:
            continue
        values = tensor.bits if quantized is None else quantized.values
        if values.size and np.abs(values.astype(np.float64)).max() < 2**31:
            found[name] = values
    if not found:
        raise TensorError("no tensors of integers; --quant makes them from floats")
    return found


def draw(path: Path, found: list[dict[str, Any]]) -> None:
    """Size against decoding speed, the front drawn as steps; PNG or SVG by the suffix.

    Sizes are percents beyond the smallest, linear below 1 and logarithmic above: what
    matters is a percent, and the worst coders are at sixty.  Names stand in a column at
    the right, in the order of their sizes, so that none hides another.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot, ticker
    except ImportError:
        raise MissingPackageError("pictures: pip install pgolf-codec[bench]") from None
    ordered = sorted(found, key=lambda total: total["bits_per_param"])
    least = max(ordered[0]["bits_per_param"], 1e-9)
    sizes = [100 * (total["bits_per_param"] / least - 1) for total in ordered]
    speeds = [total["decode_mparam_per_second"] for total in ordered]
    on_front = [speed > max(speeds[:k], default=0.0) for k, speed in enumerate(speeds)]
    figure, axes = pyplot.subplots(figsize=(7.5, 4.8))
    front = [(x, y) for x, y, best in zip(speeds, sizes, on_front, strict=True) if best]
    axes.step(*zip(*front, strict=True), where="pre", color="tab:blue", linewidth=1)
    for k, (total, x, y, best) in enumerate(zip(ordered, speeds, sizes, on_front, strict=True)):
        colour = "tab:blue" if best else "grey"
        axes.plot(x, y, "o", color=colour, markersize=5)
        axes.annotate(
            f"{total['coder']}  {total['bits_per_param']:.3f}",
            (x, y),
            xytext=(1.04, (k + 0.5) / len(ordered)),
            textcoords="axes fraction",
            va="center",
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": "lightgrey",
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "zorder": 0,
            },
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=-0.15)
    ticks = [t for t in (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if t <= 1.3 * max(*sizes, 1)]
    axes.set_yticks(ticks, [f"{t:g}%" for t in ticks])
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.set_xlabel("decoding, million parameters a second of one core")
    axes.set_ylabel("bytes beyond the smallest")
    axes.set_title("bits a parameter", loc="right", x=1.3, fontsize="medium")
    with replacing(path, overwrite=True) as file:
        figure.savefig(file, format=path.suffix[1:], bbox_inches="tight", dpi=150)
    pyplot.close(figure)


def _corner(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim < 2:
        return values.reshape(-1)[: _WARM_UP[1]]
    return values.reshape(values.shape[0], -1)[: _WARM_UP[0], : _WARM_UP[1]]


def _ratio(bits: float, entropy: float) -> float | None:
    return bits / entropy if entropy else None
