"""A frame coded by the language model: raw bytes ⇄ payload.

The tokens of a frame are cut into contiguous runs; each is coded by a *lane* with
an empty past, and all lanes advance in lock step, so that the model's weights are
read once for many tokens.  Lanes are dealt to threads, each with a session of its
own: no barrier, and bytes that do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import workers
from pgolf_codec.codec.container import get_varint, put_varint
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.predictor import DecodingSession, Predictor, Session
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import CorruptError

if TYPE_CHECKING:
    from pgolf_codec.codec.range_coder import Decoder

MAX_STREAMS = 64
"""A bound on what an archive can make the decoder's sessions allocate."""

_BYTES_A_STREAM = 1 << 14
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


def default_streams(n_bytes: int) -> int:
    """Streams for a frame of ``n_bytes``: each cut costs context and buys speed."""
    return max(1, min(n_bytes // _BYTES_A_STREAM, 16))


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
    n_streams = min(streams, ids.size, MAX_STREAMS)
    edges = _edges(ids.size, n_streams)

    def job(first: int, last: int) -> Callable[[workers.Tick], list[tuple[bytes, float]]]:
        runs = [ids[edges[s] : edges[s + 1]] for s in range(first, last)]
        return lambda tick: _encode_lanes(runs, predictor, tick)

    dealt = _deal(n_streams, threads)
    parts = workers.run([job(a, b) for a, b in dealt], progress)
    lanes = [lane for part in parts for lane in part]
    coded = [stream for stream, _ in lanes]
    data = b"".join(
        [
            put_varint(ids.size),
            put_varint(n_streams),
            *(put_varint(len(stream)) for stream in coded[:-1]),  # the last takes the rest
            *coded,
        ]
    )
    return ModelPayload(
        data, ids.size, sum(bits for _, bits in lanes), 8 * sum(len(stream) for stream in coded)
    )


def decode(
    payload: bytes,
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
    n_tokens, streams = _split(payload, raw_bytes)
    edges = _edges(n_tokens, len(streams))

    def job(first: int, last: int) -> Callable[[workers.Tick], list[NDArray[np.int32]]]:
        lengths = np.diff(edges[first : last + 1])
        return lambda tick: _decode_lanes(streams[first:last], lengths, model.predictor, tick)

    def in_bytes(done: int) -> None:
        if progress is not None:
            progress(raw_bytes * done // n_tokens)

    parts = workers.run([job(a, b) for a, b in _deal(len(streams), threads)], in_bytes)
    ids = np.concatenate([lane for part in parts for lane in part])
    if model.tokenizer.n_bytes(ids) != raw_bytes:
        raise CorruptError("the tokens are not those of the claimed size")
    return model.tokenizer.decode(ids)


def sample_bits(pieces: list[bytes], tokenizer: Tokenizer, predictor: Predictor) -> list[float]:
    """Entropy in bits of each piece of text, all coded side by side from an empty past."""
    runs = [tokenizer.encode(piece) for piece in pieces]
    return [bits for _, bits in _encode_lanes(runs, predictor, lambda _: None)]


def _edges(n_tokens: int, n_streams: int) -> NDArray[np.int64]:
    """Stream s holds the tokens edges[s] .. edges[s + 1]."""
    return np.arange(n_streams + 1, dtype=np.int64) * n_tokens // n_streams


def _deal(n_streams: int, threads: int) -> list[tuple[int, int]]:
    edges = _edges(n_streams, min(max(threads, 1), n_streams)).tolist()
    return list(itertools.pairwise(edges))


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
    streams: list[memoryview], lengths: NDArray[np.int64], predictor: Predictor, tick: workers.Tick
) -> list[NDArray[np.int32]]:
    from pgolf_codec.codec import range_coder

    session = predictor.session(len(streams))
    decoder = range_coder.Decoder(streams, lengths)
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


def _split(payload: bytes, raw_bytes: int) -> tuple[int, list[memoryview]]:
    """Number of tokens, and the streams."""
    n_tokens, at = get_varint(payload, 0)
    n_streams, at = get_varint(payload, at)
    if not 0 < n_tokens <= raw_bytes:
        raise CorruptError(f"{n_tokens} tokens can't hold {raw_bytes} bytes")
    if not 0 < n_streams <= min(MAX_STREAMS, n_tokens):
        raise CorruptError(f"{n_streams} streams for {n_tokens} tokens")
    sizes = []
    for _ in range(n_streams - 1):
        size, at = get_varint(payload, at)
        sizes.append(size)
    view = memoryview(payload)[at:]
    if sum(sizes) > len(view):
        raise CorruptError("the streams are longer than the frame")
    sizes.append(len(view) - sum(sizes))
    streams = []
    at = 0
    for size in sizes:
        streams.append(view[at : at + size])
        at += size
    return n_tokens, streams
