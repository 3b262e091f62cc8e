"""Any tensors to a ``.pgw`` and back: quantize, try coders, keep the smallest, check.

The main path is :func:`pack`; what a tensor gets is in its :class:`Rule`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import (
    BudgetError,
    CoderError,
    ConfigError,
    FormatError,
    PgolfError,
    TensorError,
)
from pgolf_codec.quant import coders
from pgolf_codec.quant.bag import CodedTensor, dump_bag
from pgolf_codec.quant.budget import Fit, Log, fit
from pgolf_codec.quant.rounding import Quantized, Scheme, quantize
from pgolf_codec.quant.schemes import (
    decode_quantized,
    decode_tensor,
    encode_exact,
    encode_quantized,
)
from pgolf_codec.quant.tensors import FLOATS, SMALL_FLOATS, Tensor, from_float32

_NO_SCHEME = ("none", "lossless")
AUTO = ("raw", "ans-hist", "ans-scale", "cm", "trellis")
"""Coders that ``auto`` tries."""
SLOW = "ans-scale"
"""Of these, left out for scales: there are few, and nothing to predict."""
SEARCH = ("raw", "trellis")
"""The same while a search packs again and again."""
OF_FLOATS = ("raw", "ans-hist", "cm")
"""The same for exponents and mantissas; the others never made the fewest bytes of these."""
_NOISE = 4096
"""A mantissa's part of more different values than this stays as it is: it is noise."""
LEAST_ITEMS = 1024
"""Smaller tensors are lossless unless a rule names them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the tensors whose name matches a pattern."""

    match: str
    """As of a shell: ``*.weight``."""
    scheme: Scheme | None
    """None: lossless."""
    coder: str | None = None
    """None: that of the whole."""
    least_items: int = 0

    def matches_any(self, names: Iterable[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, self.match) for name in names)


@dataclass(frozen=True, slots=True)
class TensorReport:
    """A row of the report of :func:`pack`; all sizes are bytes in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scheme: str
    entropy_bits: float
    """Order 0, of the integers (of a float's exponents, if lossless), bits an item."""
    coded_bytes: dict[str, int]
    """What each coder that was tried made of the integers."""
    coder: str
    value_bytes: int
    scale_bytes: int
    """Scales; mantissas if lossless."""

    @property
    def n_bytes(self) -> int:
        return self.value_bytes + self.scale_bytes

    def to_dict(self) -> dict[str, Any]:
        n_items = max(1, int(np.prod(self.shape)))
        return {
            "tensor": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "scheme": self.scheme,
            "entropy_bits_per_param": self.entropy_bits,
            "bits_per_param": {name: 8 * n / n_items for name, n in self.coded_bytes.items()},
            "coder": self.coder,
            "coded_bytes": self.value_bytes,
            "scale_bytes": self.scale_bytes,
            "total_bits_per_param": 8 * self.n_bytes / n_items,
        }


@dataclass(slots=True)
class PackReport:
    """What :func:`pack` did."""

    tensors: list[TensorReport] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)
    n_params: int = 0
    """Of all tensors that are stored."""
    file_bytes: int = 0
    encode_seconds: float = 0.0
    """Of the coders alone, all that were tried."""
    decode_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "tensors": [row.to_dict() for row in self.tensors],
            "same": self.same,
            "totals": {
                "n_params": self.n_params,
                "value_bytes": sum(row.value_bytes for row in self.tensors),
                "scale_bytes": sum(row.scale_bytes for row in self.tensors),
                "file_bytes": self.file_bytes,
                "bits_per_param": 8 * self.file_bytes / max(1, self.n_params),
                "encode_mparam_per_second": self.n_params / 1e6 / max(1e-9, self.encode_seconds),
                "decode_mparam_per_second": self.n_params / 1e6 / max(1e-9, self.decode_seconds),
            },
        }


def pack(
    tensors: Mapping[str, Tensor | Quantized],
    *,
    rules: Sequence[Rule] = (),
    coder: str = "auto",
    progress: Callable[[int], object] = lambda n_done: None,
    done: MutableMapping[tuple[str, str], Packed] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> tuple[bytes, PackReport]:
    """A ``.pgw``, and how its bytes came about.

    The first rule that matches a tensor's name counts; a tensor without one is
    lossless.  What is :class:`Quantized` already stays as it is.  Every tensor is decoded
    again and compared.  ``done`` remembers tensors by name and scheme for a next call with
    the same tensors and coders.  ``metadata`` goes into the file.
    Raises :class:`TensorError`, :class:`CoderError`.
    """
    _check_names(tensors)
    report, packed, first_of = PackReport(), [], dict[bytes, str]()
    n_done = 0
    for name, tensor in tensors.items():
        rule = rule_of(name, tensor, rules)
        if isinstance(tensor, Tensor):
            twin = first_of.setdefault(tensor.digest(), name)
            if twin != name:
                report.same[name] = twin
                continue
        key = (name, str(rule and rule.scheme))
        made = done.get(key) if done is not None else None
        if made is None:
            made = _pack_and_check(name, tensor, rule, (rule and rule.coder) or coder)
            if done is not None and not (rule and rule.scheme and rule.scheme.sigmas):
                done[key] = made
        report.decode_seconds += made.decode_seconds
        report.encode_seconds += made.encode_seconds
        report.n_params += int(np.prod(made.coded.shape))
        report.tensors.append(made.row)
        packed.append(made.coded)
        n_done += tensor.n_bytes if isinstance(tensor, Tensor) else tensor.values.nbytes
        progress(n_done)
    blob = dump_bag(packed, report.same, metadata)
    report.file_bytes = len(blob)
    return blob, report


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor that is packed."""

    coded: CodedTensor
    row: TensorReport
    encode_seconds: float
    decode_seconds: float


def pack_within(
    tensors: Mapping[str, Tensor | Quantized],
    cap_bytes: int,
    *,
    rules: Sequence[Rule],
    coder: str = "auto",
    more_bytes: int = 0,
    keep: Path | None = None,
    log: Log = lambda line: None,
    metadata: Mapping[str, str] | None = None,
) -> tuple[bytes, PackReport]:
    """As :func:`pack`, with such steps that the file and ``more_bytes`` just fit ``cap_bytes``.

    All schemes that have a number (``trellis:0.4``, ``int6:12.85``) get coarser or finer
    together.  ``auto`` tries :data:`SEARCH` only.  ``keep`` is a file by which a search
    that was stopped goes on.  Raises :class:`BudgetError` if nothing lands within 0.1%
    below the cap.
    """
    _check_names(tensors)
    about = f"{coder} {more_bytes} {[str(rule) for rule in rules]} {dict(metadata or {})}"
    digest = hashlib.sha256(about.encode())
    for name, tensor in tensors.items():
        digest.update(name.encode() + b"\0")
        digest.update(tensor.digest() if isinstance(tensor, Tensor) else tensor.values.tobytes())
    n_items = sum(
        t.bits.size
        for name, t in tensors.items()
        if isinstance(t, Tensor) and _has_knob(rule_of(name, t, rules), t)
    )
    if not n_items:
        raise BudgetError("no tensor has a scheme with steps to search, such as trellis:0.4")
    done: dict[tuple[str, str], Packed] = {}
    last: tuple[float, bytes, PackReport] | None = None

    def at(octaves: float) -> tuple[bytes, PackReport]:
        nonlocal last
        if last is None or last[0] != octaves:
            names = "search" if coder == "auto" else coder
            coarser = _coarser(rules, octaves)
            made = pack(tensors, rules=coarser, coder=names, done=done, metadata=metadata)
            last = (octaves, *made)
        return last[1:]

    def search() -> Fit:
        return fit(
            lambda octaves: len(at(octaves)[0]) + more_bytes,
            cap_bytes,
            bytes_per_octave=n_items / 8,
            keep=keep,
            key=digest.hexdigest(),
            log=log,
        )

    found = search()
    if keep and len(at(found.octaves)[0]) + more_bytes != found.n_bytes:
        log("what was weighed before is of another release")
        keep.unlink()
        found = search()
    return at(found.octaves)


def _check_names(tensors: Iterable[str]) -> None:
    for name in tensors:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise TensorError(f"tensor {name!a}: its name is not Unicode text") from None


def _coarser(rules: Sequence[Rule], octaves: float) -> list[Rule]:
    return [replace(rule, scheme=rule.scheme and rule.scheme.coarser(octaves)) for rule in rules]


def _has_knob(rule: Rule | None, tensor: Tensor) -> bool:
    scheme = rule.scheme if rule else None
    return bool(scheme and scheme.sigmas and tensor.is_float and len(tensor.shape) > 1)


def _pack_and_check(name: str, tensor: Tensor | Quantized, rule: Rule | None, coder: str) -> Packed:
    quantized = tensor if isinstance(tensor, Quantized) else quantized_by(name, tensor, rule)
    coded, row, seconds = _pack_one(name, tensor, quantized, rule, coder)
    return Packed(coded, row, seconds, _seconds(_check, tensor, quantized, coded))


def parse_scheme(text: str) -> Scheme | None:
    """``none`` and ``lossless`` are None."""
    return None if text in _NO_SCHEME else Scheme.parse(text)


def parse_rules(text: str) -> list[Rule]:
    """Rules of a TOML text; raises :class:`ConfigError`.

    ::

        [[rule]]
        match = "*embed*"
        quant = "int8"
        coder = "cm"        # optional
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"rules: {error}") from None
    if unknown := content.keys() - {"rule"}:
        raise ConfigError(f"rules: {', '.join(sorted(unknown))}: only [[rule]] is known")
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError("rules: [[rule]] is written with two brackets")
    rules = []
    for number, table in enumerate(tables, 1):
        unknown = table.keys() - {"match", "quant", "coder"}
        if unknown or not all(isinstance(value, str) for value in table.values()):
            what = f"unknown: {', '.join(sorted(unknown))}" if unknown else "a value is no text"
            raise ConfigError(f"rules: rule {number}: {what}")
        if "match" not in table or "quant" not in table:
            raise ConfigError(f"rules: rule {number} needs match and quant")
        rules.append(Rule(table["match"], parse_scheme(table["quant"]), table.get("coder")))
    return rules


def rule_of(name: str, tensor: Tensor | Quantized, rules: Sequence[Rule]) -> Rule | None:
    """The first that matches; None if there is none, or the tensor is too small for it."""
    for rule in rules:
        if rule.matches_any([name]):
            too_small = isinstance(tensor, Tensor) and tensor.bits.size < rule.least_items
            return None if too_small else rule
    return None


def order_0_entropy(values: NDArray[Any]) -> float:
    """Bits an item, of the items' frequencies."""
    if not values.size:
        return 0.0
    counts = np.unique(values, return_counts=True)[1] / values.size
    return float(max(0.0, -(counts * np.log2(counts)).sum()))


def quantized_by(name: str, tensor: Tensor, rule: Rule | None) -> Quantized | None:
    """A tensor by its rule; None if that keeps it as it is.

    Raises :class:`TensorError`, which names the tensor, for NaN and infinity, scales beyond
    float16, and floats of 8 bits.
    """
    if rule is None or rule.scheme is None or len(tensor.shape) < 2:
        return None
    if tensor.dtype in SMALL_FLOATS:
        raise TensorError(
            f"tensor {name}: {rule.scheme} of {tensor.dtype} is not possible; "
            'a rule with quant = "none" keeps it as it is'
        )
    if not tensor.is_float:
        return None
    try:
        return quantize(tensor.floats(), rule.scheme)
    except TensorError as error:
        raise TensorError(f"tensor {name}: {error}") from None


class _Attempts:
    """An encoder of the streams of one tensor that tries coders; knows the first one's sizes."""

    def __init__(self, coder: str, *, of_floats: bool) -> None:
        chosen = {"auto": AUTO, "search": SEARCH}.get(coder)
        self.names = (coder,) if chosen is None else OF_FLOATS if of_floats else chosen
        self.of_floats = of_floats
        self.coded_bytes: dict[str, int] = {}
        self.chosen = ""
        self.values: NDArray[Any] = np.zeros(0, np.int32)
        self.seconds = 0.0

    def __call__(self, values: NDArray[Any]) -> bytes:
        first = not self.chosen
        started = time.perf_counter()
        names = self.names if first else self._others(values)
        made: dict[str, bytes] = {}
        failed: PgolfError | None = None
        for name in names:
            try:
                made[name] = coders.encode(values, name)
            except CoderError as error:
                failed = error
        if not made:
            raise failed or CoderError("no coder to try")
        best = min(made, key=lambda name: len(made[name]))
        self.seconds += time.perf_counter() - started
        if first:
            self.coded_bytes = {name: len(stream) for name, stream in made.items()}
            self.chosen, self.values = best, values
        return made[best]

    def _others(self, values: NDArray[Any]) -> Iterable[str]:
        """For scales and mantissas, which may always be raw."""
        if self.of_floats and np.unique(values).size > _NOISE:
            return ("raw",)
        others = [name for name in self.names if name != SLOW or len(self.names) == 1]
        return dict.fromkeys((*others, "raw"))


def _pack_one(
    name: str,
    tensor: Tensor | Quantized,
    quantized: Quantized | None,
    rule: Rule | None,
    coder: str,
) -> tuple[CodedTensor, TensorReport, float]:
    """The tensor, its row, and the seconds that all coders took."""
    if isinstance(tensor, Quantized):
        dtype, shape = "F32", tensor.values.shape
    else:
        dtype, shape = tensor.dtype, tensor.shape
    attempts = _Attempts(coder, of_floats=quantized is None and dtype in FLOATS)
    try:
        if quantized is not None:
            scheme, streams = encode_quantized(quantized, attempts)
        else:
            assert isinstance(tensor, Tensor)
            scheme, streams = encode_exact(tensor, attempts)
    except CoderError as error:
        raise type(error)(f"tensor {name}: {error}") from None
    label = "none" if quantized is None else scheme
    if rule and quantized is not None and quantized is not tensor:
        label = str(rule.scheme)
    row = TensorReport(
        name=name,
        shape=shape,
        dtype=dtype,
        scheme=label,
        entropy_bits=order_0_entropy(attempts.values),
        coded_bytes=attempts.coded_bytes,
        coder=attempts.chosen,
        value_bytes=len(streams[0]),
        scale_bytes=sum(map(len, streams[1:])),
    )
    return CodedTensor(name, dtype, shape, scheme, streams), row, attempts.seconds


def _check(tensor: Tensor | Quantized, quantized: Quantized | None, coded: CodedTensor) -> None:
    """Decode again; what was quantized must also be finite in the tensor's dtype."""
    views = [memoryview(stream) for stream in coded.streams]
    try:
        if quantized is None:
            assert isinstance(tensor, Tensor)
            decoded = decode_tensor(coded.dtype, coded.shape, coded.scheme, views)
            same = np.array_equal(decoded.bits, tensor.bits)
        else:
            found = decode_quantized(coded.shape, coded.scheme, views)
            same = found is not None and found.same_as(quantized)
    except FormatError as error:
        raise CoderError(f"tensor {coded.name}: {error}") from None
    if not same:
        raise CoderError(f"tensor {coded.name}: a coder does not give back what it got")
    if quantized is not None:
        floats = from_float32(quantized.floats(), coded.dtype).floats()
        if not np.isfinite(floats).all():
            raise TensorError(f"tensor {coded.name}: an item, rounded, is beyond {coded.dtype}")


def _seconds(function: Callable[..., None], *arguments: Any) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started
