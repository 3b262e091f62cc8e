"""The model artifact ``.pglm``: everything a decoder needs, in one file.

Layout (little-endian), versions 1 and 2::

    8   magic  89 'PGLM' 0D 0A 1A
    2   format version          2   numerics version
    4   length of the head
        head: JSON {"name", "bpb", "config", "sections": [[name, coding, n_bytes, crc32], ...]}
    4   CRC-32 of all before
        the sections' bytes, in the head's order
    32  SHA-256 of all before: the model's fingerprint

Section "tokenizer" is the tokenizer's own form; every other section is a tensor of
``lm.weights.tensor_specs``, coded "raw" (little-endian items), "ans" (a learned histogram
of int8 values, then an ANS stream of constriction) or, in version 2, by any coder of
:mod:`pgolf_codec.quant.coders`, which the coding names.  docs/NUMERICS.md has it all.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.codec.workers import default_threads
from pgolf_codec.errors import (
    CoderError,
    CorruptError,
    FormatError,
    NotAnArchiveError,
    PgolfError,
    TruncatedError,
    UnsupportedVersionError,
)
from pgolf_codec.files import replacing
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.lm.integers.weights import IntegerWeights, TensorSpec, tensor_specs
from pgolf_codec.quant import coders, histogram

if TYPE_CHECKING:
    from pgolf_codec.lm.integers.engine import Engine

MAGIC = b"\x89PGLM\r\n\x1a"
FORMAT_VERSION = 1
"""Of files that have the codings of :data:`PLAIN` only."""
CODERS_VERSION = 2
"""Of files that need other coders."""
PLAIN = ("raw", "ans")
AUTO = "auto"
_AUTO_MATRICES = ("raw", "ans", "trellis")
_AUTO_VECTORS = ("raw", "zlib", "bzip2")
"""What :data:`AUTO` tries: coders that decode fast, and without numba."""
MAX_HEAD_BYTES = 1 << 20
MAX_ITEMS = 1 << 28
"""Items of all tensors together."""
_FIXED = struct.Struct("<8sHHI")
_BAD_HEAD = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, PgolfError,
)  # fmt: skip
"""What JSON of another shape than a head's runs into."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A parsed ``.pglm``."""

    name: str
    bpb: float | None
    """What its makers measured on held-out text; a remark, nothing depends on it."""
    weights: IntegerWeights
    tokenizer: Tokenizer
    fingerprint: bytes
    """SHA-256, 32 bytes."""
    blob: bytes
    """The whole file."""
    numerics_version: int
    coded_sizes: dict[str, int]
    """Bytes of each section."""
    codings: dict[str, str]
    """How each section is coded."""


class LoadedModel:
    """An artifact that is ready to code with: what ``codec`` calls a Model."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.name = artifact.name
        self.tokenizer = artifact.tokenizer
        self.blob = artifact.blob
        self.n_bytes = len(artifact.blob)
        self.n_parameters = artifact.weights.n_params
        self.bpb = artifact.bpb
        self._engine: Engine | None = None

    @property
    def predictor(self) -> Engine:
        """The integer engine, built at the first use."""
        if self._engine is None:
            from pgolf_codec.lm.integers.engine import Engine

            self._engine = Engine(self.artifact.weights, self.artifact.fingerprint)
        return self._engine

    @property
    def fingerprint(self) -> bytes:
        return self.artifact.fingerprint


def dump_artifact(
    weights: IntegerWeights,
    tokenizer: Tokenizer,
    *,
    name: str,
    bpb: float | None = None,
    coder: str = "ans",
) -> bytes:
    """The bytes of a ``.pglm``; the same arguments give the same bytes.

    ``coder`` is ``auto``, ``ans``, or one of :func:`coders.coder_names`; a tensor that it
    does not make smaller is stored as it is.  Raises :class:`CoderNotFoundError`.
    """
    payloads: list[tuple[str, str, bytes]] = [("tokenizer", "raw", tokenizer.to_bytes())]
    for tensor in tensor_specs(weights.config):
        payloads.append((tensor, *_encode(weights.tensors[tensor], coder)))
    head = json.dumps(
        {
            "name": name,
            "bpb": bpb,
            "config": weights.config.to_dict(),
            "sections": [[n, coding, len(b), zlib.crc32(b)] for n, coding, b in payloads],
        },
        separators=(",", ":"),
    ).encode()
    plain = all(coding in PLAIN for _, coding, _ in payloads)
    version = FORMAT_VERSION if plain else CODERS_VERSION
    blob = _FIXED.pack(MAGIC, version, NUMERICS_VERSION, len(head)) + head
    blob += struct.pack("<I", zlib.crc32(blob))
    blob += b"".join(b for _, _, b in payloads)
    return blob + hashlib.sha256(blob).digest()


def save_artifact(
    path: Path,
    weights: IntegerWeights,
    tokenizer: Tokenizer,
    *,
    name: str,
    bpb: float | None = None,
    coder: str = "ans",
) -> None:
    """Write a ``.pglm`` atomically."""
    with replacing(path, overwrite=True) as file:
        file.write(dump_artifact(weights, tokenizer, name=name, bpb=bpb, coder=coder))


def load_artifact(source: Path | bytes) -> LoadedModel:
    """Read and check a ``.pglm``.

    Raises :class:`NotAnArchiveError`, :class:`UnsupportedVersionError`,
    :class:`TruncatedError` or :class:`CorruptError`, which name the file.
    """
    if isinstance(source, bytes):
        return LoadedModel(parse_artifact(source))
    try:
        return LoadedModel(parse_artifact(source.read_bytes()))
    except FormatError as error:
        raise type(error)(f"{source}: {error}") from None


def parse_artifact(blob: bytes) -> Artifact:
    if blob[: len(MAGIC)] != MAGIC[: len(blob)] or not blob:
        raise NotAnArchiveError("not a model artifact: the magic number is missing")
    if len(blob) < _FIXED.size + 36:
        raise TruncatedError(f"model artifact: {len(blob)} bytes are too few")
    _, version, numerics, head_size = _FIXED.unpack_from(blob)
    if version not in (FORMAT_VERSION, CODERS_VERSION):
        raise UnsupportedVersionError(f"model artifact: format version {version} is unknown")
    if numerics != NUMERICS_VERSION:
        raise UnsupportedVersionError(f"model artifact: numerics version {numerics} is unknown")
    body = len(blob) - 32
    start = _FIXED.size + head_size + 4
    if head_size > MAX_HEAD_BYTES or start > body:
        raise TruncatedError("model artifact: ends within its head")
    if struct.unpack_from("<I", blob, start - 4)[0] != zlib.crc32(blob[: start - 4]):
        raise CorruptError("model artifact: the head's checksum does not hold")
    head = _parse_head(blob[_FIXED.size : start - 4])
    total = start + sum(n_bytes for _, _, n_bytes, _ in head.sections)
    if total > body:
        raise TruncatedError(f"model artifact: {len(blob)} bytes of {total + 32}")
    if total < body:
        raise CorruptError(f"model artifact: {body - total} bytes too many")
    view = memoryview(blob)
    sections: dict[str, tuple[str, memoryview]] = {}
    for name, coding, n_bytes, crc in head.sections:
        payload = view[start : start + n_bytes]
        if zlib.crc32(payload) != crc:
            raise CorruptError(f"model artifact: section {name!r} is damaged")
        sections[name] = (coding, payload)
        start += n_bytes
    fingerprint = hashlib.sha256(view[:body]).digest()
    if fingerprint != blob[body:]:
        raise CorruptError("model artifact: the SHA-256 does not hold")
    specs = tensor_specs(head.config)
    if sorted(name for name, *_ in head.sections) != sorted(("tokenizer", *specs)):
        raise CorruptError("model artifact: its sections are not those of its configuration")
    if sum(int(np.prod(s.shape)) for s in specs.values()) > MAX_ITEMS:
        raise CorruptError("model artifact: larger than this release allows")
    tokenizer = Tokenizer.from_bytes(bytes(sections["tokenizer"][1]))
    if tokenizer.n_symbols != head.config.vocab_size:
        raise CorruptError("model artifact: tokenizer and model differ in their vocabulary")
    if version == FORMAT_VERSION:
        for name in specs:
            _check_plain(name, sections[name][0])
    with ThreadPoolExecutor(default_threads()) as pool:
        jobs = {n: pool.submit(_decode, n, spec, *sections[n]) for n, spec in specs.items()}
        tensors = {name: job.result() for name, job in jobs.items()}
    return Artifact(
        name=head.name,
        bpb=head.bpb,
        weights=IntegerWeights(head.config, tensors),
        tokenizer=tokenizer,
        fingerprint=fingerprint,
        blob=blob,
        numerics_version=numerics,
        coded_sizes={name: n_bytes for name, _, n_bytes, _ in head.sections},
        codings={name: coding for name, coding, *_ in head.sections},
    )


@dataclass(frozen=True, slots=True)
class _Head:
    name: str
    bpb: float | None
    config: ModelConfig
    sections: list[tuple[str, str, int, int]]


def _parse_head(data: bytes) -> _Head:
    try:
        values: dict[str, Any] = json.loads(data)
        sections = [(str(n), str(c), int(size), int(crc)) for n, c, size, crc in values["sections"]]
        if any(size < 0 for _, _, size, _ in sections):
            raise ValueError("a negative size")
        config = ModelConfig.from_dict(values["config"])
        bpb = None if values["bpb"] is None else float(values["bpb"])
        return _Head(str(values["name"]), bpb, config, sections)
    except _BAD_HEAD as error:
        raise CorruptError(f"model artifact: head: {error}") from None


def _encode(tensor: NDArray[Any], coder: str) -> tuple[str, bytes]:
    """The coding and the bytes of the smallest of what may be tried."""
    raw = tensor.astype(tensor.dtype.newbyteorder("<")).tobytes()
    made = {"raw": raw}
    names: tuple[str, ...] = (coder,)
    if coder == AUTO:
        names = _AUTO_MATRICES if tensor.dtype == np.int8 else _AUTO_VECTORS
    for name in names if tensor.size else ():
        if name == "ans":
            if tensor.dtype == np.int8:
                made[name] = histogram.encode(tensor.reshape(-1))
        elif name != "raw":
            made[name] = coders.find_coder(name).encode(_table(tensor))
    coding = min(made, key=lambda name: len(made[name]))
    return coding, made[coding]


def _table(tensor: NDArray[Any]) -> NDArray[np.int32]:
    """What coders see (rows, columns): a vector is one row, float16 its bit patterns."""
    items = tensor.view(np.uint16) if tensor.dtype == np.float16 else tensor
    return np.ascontiguousarray(items.reshape(_shape(tensor.shape)), np.int32)


def _shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def _check_plain(name: str, coding: str) -> None:
    if coding not in PLAIN:
        raise CorruptError(f"model artifact: tensor {name}: coding {coding!r} is unknown")


def _decode(name: str, spec: TensorSpec, coding: str, payload: memoryview) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    n_items = int(np.prod(spec.shape))
    if coding == "raw":
        if len(payload) != n_items * dtype.itemsize:
            raise CorruptError(f"model artifact: tensor {name}: {len(payload)} bytes")
        items = np.frombuffer(payload, dtype.newbyteorder("<")).astype(dtype)
    elif coding == "ans" and dtype == np.int8:
        items = histogram.decode(payload, n_items)
    else:
        items = _from_coder(name, spec, coding, payload)
    return items.reshape(spec.shape)


def _from_coder(name: str, spec: TensorSpec, coding: str, payload: memoryview) -> NDArray[Any]:
    try:
        coder = coders.find_coder(coding)
        items = coder.decode(payload, _shape(spec.shape))
    except CoderError as error:
        message = f"model artifact: tensor {name}: coding {coding!r} is unknown: {error}"
        raise CorruptError(message) from None
    except FormatError as error:
        raise type(error)(f"model artifact: tensor {name}: {error}") from None
    held = np.dtype(np.uint16) if spec.dtype is np.float16 else np.dtype(spec.dtype)
    info = np.iinfo(held)
    if items.size and not info.min <= int(items.min()) <= int(items.max()) <= info.max:
        raise CorruptError(f"model artifact: tensor {name}: an item that {held} does not have")
    return items.astype(held).view(spec.dtype)
