"""Where the bits of an archive went: symbol by symbol, and what the format adds to them."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import payload, workers
from pgolf_codec.codec.adaptation import adapted, plain
from pgolf_codec.codec.container import FrameHeader, Method
from pgolf_codec.codec.frequencies import PRECISION
from pgolf_codec.codec.inspection import FrameInfo, inspect
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.model_frame import encoding_groups
from pgolf_codec.codec.predictor import Predictor

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]

_CHUNK = 256
"""Positions that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The bits of one archive, by what they are for; together they are all of it."""

    entropy_bits: float
    """−Σ log2 of the frequencies of the symbols that came."""
    coder_bits: float
    """What the range coder wrote beyond that; a stream that ends luckily makes it negative."""
    unmodelled_bytes: int
    """Payloads of frames that are stored, or coded with zstd."""
    table_bytes: int
    """Number and sizes of the streams of each frame."""
    frame_bytes: int
    """Headers of frames: method, sizes, two checks."""
    wrapping_bytes: int
    """Header, index and digest of the archive."""

    @property
    def file_bytes(self) -> float:
        """The archive's size; an integer but for what floats leave."""
        beside = self.unmodelled_bytes + self.table_bytes + self.frame_bytes + self.wrapping_bytes
        return (self.entropy_bits + self.coder_bits) / 8 + beside


@dataclass(frozen=True, slots=True)
class Trace:
    """A text cut into what was coded one by one: symbols, or whole frames without a model."""

    edges: NDArray[np.int64]
    """(n + 1,) byte offsets: item i is the bytes edges[i] .. edges[i + 1]."""
    bits: Floats
    """(n,) of each item."""
    is_symbol: NDArray[np.bool_]
    """(n,) False for a frame that no model coded."""
    starts: NDArray[np.int64]
    """Items that were predicted from nothing: the first of each stream."""
    frames: tuple[FrameInfo, ...]
    costs: Costs | None
    """Of an archive of ours."""

    @property
    def n_bytes(self) -> int:
        return int(self.edges[-1])

    def bits_until(self, offsets: NDArray[np.float64]) -> Floats:
        """Bits of all before each byte offset; an item's bits lie evenly on its bytes."""
        sums = np.concatenate([[0.0], np.cumsum(self.bits)])
        until: Floats = np.interp(offsets, self.edges, sums)
        return until


def trace(
    text: bytes,
    archive: Path,
    model: Model,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """Ask the model again for what the archive of ``text`` was coded with.

    ``archive`` is one member, as :func:`~pgolf_codec.eval.verify.encode` writes it;
    ``progress`` gets the raw bytes that are done.  Raises a ``FormatError``.
    """
    member = inspect(archive).members[0]
    items: list[_Items] = []
    with archive.open("rb") as file:
        for frame in member.frames:
            file.seek(frame.offset)
            raw = text[frame.raw_start : frame.raw_start + frame.raw_bytes]
            coded = file.read(frame.n_bytes)
            done = None if progress is None else partial(_further, progress, frame)
            items.append(_items(raw, coded, frame, member.frame_bytes, model, threads, done))
    bits = np.concatenate([np.zeros(0), *(item.bits for item in items)])
    lengths = [item.lengths for item in items]
    counts = [0, *itertools.accumulate(len(item.bits) for item in items)]
    starts = [first + item.starts for first, item in zip(counts, items, strict=False)]
    return Trace(
        edges=np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64),
        bits=bits,
        is_symbol=np.concatenate(
            [np.zeros(0, bool), *(np.full(len(i.bits), i.is_model) for i in items)]
        ),
        starts=np.concatenate([np.zeros(0, np.int64), *starts]),
        frames=member.frames,
        costs=_costs(items, member.n_bytes),
    )


@dataclass(frozen=True, slots=True)
class _Items:
    """Those of one frame."""

    is_model: bool
    lengths: NDArray[np.int64]
    bits: Floats
    starts: NDArray[np.int64]
    stream_bytes: int
    table_bytes: int
    header_bytes: int


def _items(
    raw: bytes,
    coded: bytes,
    frame: FrameInfo,
    frame_bytes: int,
    model: Model,
    threads: int | None,
    progress: Callable[[int], None] | None,
) -> _Items:
    header = FrameHeader.read(io.BytesIO(coded).read, frame_bytes)
    assert header is not None  # `inspect` has read it
    header_bytes = frame.n_bytes - header.payload_bytes
    if not frame.method.needs_model:
        return _Items(
            is_model=False,
            lengths=np.array([len(raw)], np.int64),
            bits=np.array([8.0 * header.payload_bytes]),
            starts=np.zeros(1, np.int64),
            stream_bytes=header.payload_bytes,
            table_bytes=0,
            header_bytes=header_bytes,
        )
    streams = payload.split(coded[header_bytes:], len(raw))
    ids = model.tokenizer.encode(raw)
    ends = np.cumsum([stream.n_symbols for stream in streams])
    runs = np.split(ids, ends[:-1])
    sizes = np.array([len(entry) for entry in model.tokenizer.table], np.int64)
    kind = adapted if frame.method is Method.ADAPTED else plain
    predictor = kind(model).predictor
    stream_bytes = sum(len(stream.data) for stream in streams)
    return _Items(
        is_model=True,
        lengths=sizes[ids],
        bits=_bits(runs, predictor, threads or workers.default_threads(), progress),
        starts=np.concatenate([[0], ends[:-1]]).astype(np.int64),
        stream_bytes=stream_bytes,
        table_bytes=header.payload_bytes - stream_bytes,
        header_bytes=header_bytes,
    )


def _bits(
    runs: Sequence[Ids],
    predictor: Predictor,
    threads: int,
    progress: Callable[[int], None] | None,
) -> Floats:
    """Bits of the symbols of all streams, one after the other; each starts from nothing."""

    def job(first: int, last: int) -> Callable[[workers.Tick], list[Floats]]:
        return lambda tick: _bits_of_lanes(runs[first:last], predictor, tick)

    jobs = [job(a, b) for a, b in encoding_groups(len(runs), predictor, threads)]
    parts = workers.run(jobs, progress, threads=threads)
    return np.concatenate([lane for part in parts for lane in part])


def _bits_of_lanes(runs: Sequence[Ids], predictor: Predictor, tick: workers.Tick) -> list[Floats]:
    session = predictor.session(len(runs))
    ids = np.zeros((len(runs), max(run.size for run in runs)), np.int32)
    for lane, run in enumerate(runs):
        ids[lane, : run.size] = run
    bits = np.empty(ids.shape)
    for at in range(0, ids.shape[1], _CHUNK):
        chunk = np.ascontiguousarray(ids[:, at : at + _CHUNK])
        _, freq = session.intervals(chunk)
        bits[:, at : at + _CHUNK] = PRECISION - np.log2(freq.astype(np.float64))
        tick(chunk.size)
    return [bits[lane, : run.size] for lane, run in enumerate(runs)]


def _costs(items: Sequence[_Items], n_bytes: int) -> Costs:
    modelled = [item for item in items if item.is_model]
    entropy_bits = math.fsum(float(item.bits.sum()) for item in modelled)
    payloads = sum(item.stream_bytes for item in items)
    tables = sum(item.table_bytes for item in items)
    headers = sum(item.header_bytes for item in items)
    return Costs(
        entropy_bits=entropy_bits,
        coder_bits=8 * sum(item.stream_bytes for item in modelled) - entropy_bits,
        unmodelled_bytes=sum(item.stream_bytes for item in items if not item.is_model),
        table_bytes=tables,
        frame_bytes=headers,
        wrapping_bytes=n_bytes - payloads - tables - headers,
    )


def _further(progress: Callable[[int], None], frame: FrameInfo, n_symbols: int) -> None:
    """Symbols count as bytes while nobody knows better."""
    progress(frame.raw_start + min(n_symbols, frame.raw_bytes))
