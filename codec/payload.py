"""The payload of a frame that the model codes: streams and their sizes (docs/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.container import get_varint, put_varint
from pgolf_codec.errors import CorruptError

MAX_STREAMS = 64
"""A bound on what an archive can make the decoder's sessions allocate."""


class CodedStream(NamedTuple):
    """Symbols that were coded from an empty past."""

    data: memoryview
    n_symbols: int


def edges(n_tokens: int, n_streams: int) -> list[int]:
    """Stream s holds the tokens edges[s] .. edges[s + 1] of a frame."""
    return [n_tokens * s // n_streams for s in range(n_streams + 1)]


def cut(ids: NDArray[np.int32], n_streams: int) -> list[NDArray[np.int32]]:
    """A frame's tokens (n,), n > 0, in at most ``n_streams`` streams."""
    return np.split(ids, edges(ids.size, min(n_streams, ids.size, MAX_STREAMS))[1:-1])


def join(n_tokens: int, streams: Sequence[bytes]) -> bytes:
    """The payload of these streams."""
    return b"".join(
        [
            put_varint(n_tokens),
            put_varint(len(streams)),
            *(put_varint(len(stream)) for stream in streams[:-1]),  # the last takes the rest
            *streams,
        ]
    )


def split(payload: bytes, raw_bytes: int) -> list[CodedStream]:
    """The streams of a frame of ``raw_bytes``, at least one.

    Raises :class:`CorruptError` and, at the end of the payload, ``TruncatedError``.
    """
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
    bounds = edges(n_tokens, n_streams)
    streams = []
    for s, size in enumerate([*sizes, len(view) - sum(sizes)]):
        streams.append(CodedStream(view[:size], bounds[s + 1] - bounds[s]))
        view = view[size:]
    return streams
