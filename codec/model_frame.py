"""A frame coded by the language model: raw bytes ⇄ payload.

The tokens of a frame are cut into contiguous runs; each is coded by a *lane* with
an empty past.  The decoder's lanes are dealt to threads, and those of a thread advance
in lock step, so that the model's weights are read once for many tokens.  The encoder's
need not, for it knows the tokens: a thread that has coded one takes the next.  No
barrier, and bytes that do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import payload, workers
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.payload import CodedStream
from pgolf_codec.codec.predictor import DecodingSession, Predictor, Session, encodes_alone
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import CorruptError

if TYPE_CHECKING:
    from pgolf_codec.codec.range_coder import Decoder

_BYTES_A_STREAM = 1 << 13
_CACHED_BYTES = 8 << 20
"""A larger artifact is read from memory anew at every step."""
_CHUNK = 256
"""Positions that the encoder asks for at once."""
_STEPS = 32
"""Symbols that the decoder asks for at once."""


@dataclass(frozen=True, slots=True)
class ModelPayload:
    """What the model made of a frame."""

    data: bytes
    n_tokens: int
    entropy_bits: float
    """-log2(freq / 2**24), summed over all tokens."""
    coded_bits: int
    """8 times the bytes that the range coder wrote."""


def default_streams(n_bytes: int, model: Model) -> int:
    """Streams for a frame of ``n_bytes``: each cut costs context and buys speed.

    More of them for a model that the caches don't hold, as all share one reading of its weights.
    """
    most = 32 if model.n_bytes <= _CACHED_BYTES else 64
    return max(1, min(n_bytes // _BYTES_A_STREAM, most))


def encode(
    ids: NDArray[np.int32],
    predictor: Predictor,
    *,
    streams: int,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> ModelPayload:
    """Code ``ids`` (n,), n > 0, in ``streams`` lanes (at most n, at most 64).

    ``progress`` gets the number of tokens done.
    """
    lanes = _encode_runs(payload.cut(ids, streams), predictor, threads, progress)
    coded = [stream for stream, _ in lanes]
    return ModelPayload(
        payload.join(ids.size, coded),
        ids.size,
        sum(bits for _, bits in lanes),
        8 * sum(len(stream) for stream in coded),
    )


def decode(
    data: bytes,
    raw_bytes: int,
    model: Model,
    *,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """The raw bytes of a frame; at most ``raw_bytes`` of them are ever made.

    ``progress`` gets the number of bytes done, about.  Raises
    :class:`CorruptError` and, at the end of the payload, ``TruncatedError``.
    """
    streams = payload.split(data, raw_bytes)
    n_tokens = sum(stream.n_symbols for stream in streams)

    def job(first: int, last: int) -> Callable[[workers.Tick], list[NDArray[np.int32]]]:
        return lambda tick: _decode_lanes(streams[first:last], model.predictor, tick)

    def in_bytes(done: int) -> None:
        if progress is not None:
            progress(raw_bytes * done // n_tokens)

    jobs = [job(a, b) for a, b in _groups(len(streams), threads)]
    parts = workers.run(jobs, in_bytes, threads=threads)
    ids = np.concatenate([lane for part in parts for lane in part])
    if model.tokenizer.n_bytes(ids) != raw_bytes:
        raise CorruptError("the tokens are not those of the claimed size")
    return model.tokenizer.decode(ids)


def sample_bits(
    pieces: list[bytes], tokenizer: Tokenizer, predictor: Predictor, threads: int
) -> list[float]:
    """Entropy in bits of each piece of text, all coded side by side from an empty past."""
    runs = [tokenizer.encode(piece) for piece in pieces]
    return [bits for _, bits in _encode_runs(runs, predictor, threads)]


def _encode_runs(
    runs: list[NDArray[np.int32]],
    predictor: Predictor,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> list[tuple[bytes, float]]:
    """(coded bytes, entropy in bits) of each run."""

    def job(first: int, last: int) -> Callable[[workers.Tick], list[tuple[bytes, float]]]:
        return lambda tick: _encode_lanes(runs[first:last], predictor, tick)

    jobs = [job(a, b) for a, b in encoding_groups(len(runs), predictor, threads)]
    parts = workers.run(jobs, progress, threads=threads)
    return [lane for part in parts for lane in part]


def encoding_groups(n_runs: int, predictor: Predictor, threads: int) -> list[tuple[int, int]]:
    """First and last run of each group whose known symbols are best dealt with side by side."""
    return _groups(n_runs, n_runs if encodes_alone(predictor) else threads)


def _groups(n_streams: int, n_groups: int) -> list[tuple[int, int]]:
    bounds = payload.edges(n_streams, min(max(n_groups, 1), n_streams))
    return list(itertools.pairwise(bounds))


def _encode_lanes(
    runs: list[NDArray[np.int32]], predictor: Predictor, tick: workers.Tick
) -> list[tuple[bytes, float]]:
    """(coded bytes, entropy in bits) of each lane."""
    from pgolf_codec.codec import range_coder

    session = predictor.session(len(runs))
    longest = max(run.size for run in runs)
    ids = np.zeros((len(runs), longest), np.int32)  # lanes that end early go on with zeros
    for lane, run in enumerate(runs):
        ids[lane, : run.size] = run
    cum, freq = np.empty_like(ids, np.uint32), np.empty_like(ids, np.uint32)
    for at in range(0, longest, _CHUNK):
        chunk = np.ascontiguousarray(ids[:, at : at + _CHUNK])
        cum[:, at : at + _CHUNK], freq[:, at : at + _CHUNK] = session.intervals(chunk)
        tick(chunk.size)
    return [
        (
            range_coder.encode(cum[lane, : run.size], freq[lane, : run.size]),
            float(np.sum(24.0 - np.log2(freq[lane, : run.size].astype(np.float64)))),
        )
        for lane, run in enumerate(runs)
    ]


def _decode_lanes(
    streams: list[CodedStream], predictor: Predictor, tick: workers.Tick
) -> list[NDArray[np.int32]]:
    from pgolf_codec.codec import range_coder

    session = predictor.session(len(streams))
    lengths = np.array([stream.n_symbols for stream in streams], np.int64)
    decoder = range_coder.Decoder([stream.data for stream in streams], lengths)
    ids = np.empty((len(streams), int(lengths.max())), np.int32)
    for at in range(0, ids.shape[1], _STEPS):
        n_steps = min(_STEPS, ids.shape[1] - at)
        previous = ids[:, at - 1] if at else None
        ids[:, at : at + n_steps] = _decode_steps(session, decoder, previous, n_steps)
        tick(len(streams) * n_steps)
    decoder.finish()
    return [ids[lane, :length] for lane, length in enumerate(lengths)]


def _decode_steps(
    session: Session, decoder: Decoder, previous: NDArray[np.int32] | None, n_steps: int
) -> NDArray[np.int32]:
    """(n, n_steps) symbols; ``previous`` (n,) came before them."""
    if isinstance(session, DecodingSession):
        return session.decode(decoder, n_steps)
    ids = np.empty((decoder.state.left.size, n_steps), np.int32)
    for step in range(n_steps):
        ids[:, step] = previous = decoder.step(session.weights(previous))
    return ids
