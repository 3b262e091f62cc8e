"""One frame: which method codes it, and how it is read back.

The model is tried unless a sample says that it is hopeless; the smallest of
stored, zstd and model is kept.  zstd at its best takes 7% of the time of a text (.44 s of 6
for a megabyte), so it is asked only where a quick estimate says that it may be the smaller.
A frame is decoded only after its check has been found right, and handed out only after the
check of the raw bytes has.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from pgolf_codec.codec import adaptation, model_frame
from pgolf_codec.codec.container import FrameHeader, Method
from pgolf_codec.codec.model import Model
from pgolf_codec.errors import CorruptError

ZSTD_LEVEL = 19
_QUICK_LEVEL = 3
_GAIN = 0.85
"""What the former makes of the latter's size, about: .77 to .87 with twelve kinds of files."""
_CLEARLY = 0.6
"""A model that takes less than this share of the latter's size is the smaller."""

_SAMPLE_PIECES = 8
_SAMPLE_PIECE_BYTES = (512, 2048)
"""Least and most bytes of a piece; all pieces together are about 1/16 of a small frame."""
_HOPELESS = {Method.MODEL: 1.2, Method.ADAPTED: 1.8}
"""The model is skipped when its sample takes this much more than zstd's whole.

An adapted model learns little from a sample, and much from a whole that is not prose.

Measured with a 4-layer model on eight kinds of files, the sample takes 0.98 to 1.11
times the bits a byte of the whole frame; 0.99 to 1.06 with the largest pieces.
"""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """The smallest payload that was found."""

    method: Method
    payload: bytes
    model: model_frame.ModelPayload | None = None
    """The model's accounts, if its payload is the one."""


def encode(
    raw: bytes,
    model: Model,
    *,
    streams: int | None,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> EncodedFrame:
    """Code ``raw``, at least one byte; ``progress`` gets the bytes done, about.

    An adapted model makes an adapted frame.
    """
    estimate = zstd_bytes(raw)
    pieces = sample(raw)
    if pieces:
        bits = model_frame.sample_bits(pieces, model.tokenizer, model.predictor, threads)
        if is_hopeless(pieces, bits, raw, estimate, model):
            return encode_without_model(raw)
    ids = model.tokenizer.encode(raw)

    def in_bytes(done: int) -> None:
        if progress is not None:
            progress(min(len(raw) * done // ids.size, len(raw)))

    coded = model_frame.encode(
        ids,
        model.predictor,
        streams=streams or model_frame.default_streams(len(raw), model),
        threads=threads,
        progress=in_bytes,
    )
    return smallest(raw, estimate, coded, method_of(model))


def zstd_bytes(raw: bytes) -> float:
    """About the size of the frame without a model, quickly."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=_QUICK_LEVEL, write_content_size=False)
    return min(_GAIN * len(compressor.compress(raw)), len(raw))


def encode_without_model(raw: bytes) -> EncodedFrame:
    """Stored, or zstd if that is smaller."""
    import zstandard

    # The frame's header knows the size.
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=False)
    if len(packed := compressor.compress(raw)) < len(raw):
        return EncodedFrame(Method.ZSTD, packed)
    return EncodedFrame(Method.STORED, raw)


def method_of(model: Model) -> Method:
    """Of the frames that it codes."""
    return Method.ADAPTED if isinstance(model, adaptation.AdaptedModel) else Method.MODEL


def smallest(
    raw: bytes,
    estimate: float,
    coded: model_frame.ModelPayload,
    method: Method = Method.MODEL,
) -> EncodedFrame:
    """What the model made of ``raw``, unless it is smaller without."""
    frame = EncodedFrame(method, coded.data, coded)
    if len(coded.data) < _CLEARLY / _GAIN * estimate:
        return frame
    return min(encode_without_model(raw), frame, key=lambda frame: len(frame.payload))


def decode(
    header: FrameHeader,
    index: int,
    payload: bytes,
    get_model: Callable[[], Model],
    *,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """The raw bytes of frame ``index``; ``get_model`` is called only if one is needed.

    Raises :class:`CorruptError` (or ``TruncatedError``) and what ``get_model`` raises.
    """
    check_payload(header, index, payload)
    match header.method:
        case Method.STORED:
            raw = payload
        case Method.ZSTD:
            raw = _decode_zstd(payload, header.raw_bytes)
        case Method.MODEL | Method.ADAPTED:
            kind = adaptation.adapted if header.method is Method.ADAPTED else adaptation.plain
            raw = model_frame.decode(
                payload, header.raw_bytes, kind(get_model()), threads=threads, progress=progress
            )
    check_raw(header, raw)
    return raw


def check_payload(header: FrameHeader, index: int, payload: bytes) -> None:
    """Raise :class:`CorruptError` if this is not the payload of frame ``index``."""
    if header.expected_check(index, payload) != header.check:
        raise CorruptError("the check does not hold")


def check_raw(header: FrameHeader, raw: bytes) -> None:
    """Raise :class:`CorruptError` if these are not the bytes that were encoded."""
    if len(raw) != header.raw_bytes:
        raise CorruptError(f"{len(raw)} bytes instead of {header.raw_bytes}")
    if zlib.crc32(raw) != header.raw_check:
        raise CorruptError("the decoded bytes are not those that were encoded")


def sample(raw: bytes) -> list[bytes]:
    """Equally spaced pieces by which :func:`is_hopeless` judges; none of a small frame."""
    least, most = _SAMPLE_PIECE_BYTES
    size = max(least, min(len(raw) // (16 * _SAMPLE_PIECES), most))
    if len(raw) < 8 * _SAMPLE_PIECES * size:
        return []
    starts = [(2 * i + 1) * len(raw) // (2 * _SAMPLE_PIECES) for i in range(_SAMPLE_PIECES)]
    return [raw[start : start + size] for start in starts]


def is_hopeless(
    pieces: list[bytes], bits: list[float], raw: bytes, estimate: float, model: Model
) -> bool:
    """Whether the model's ``bits`` of the sample say clearly that it can't beat the ``estimate``
    of :func:`zstd_bytes`.

    The pieces are coded from an empty past, which costs the model more than coding the
    whole would.  Their bits a byte, less two standard errors of the mean (a frame may be
    half text, half not), must exceed 1.2 times those of the estimate, or eight: that
    much storing takes.
    """
    bpb = [n / len(piece) for n, piece in zip(bits, pieces, strict=True)]
    error = statistics.stdev(bpb) / math.sqrt(len(bpb))
    factor = _HOPELESS[method_of(model)]
    limit = min(factor * 8 * estimate / len(raw), 8.0)
    return statistics.fmean(bpb) - 2 * error > limit


def _decode_zstd(payload: bytes, raw_bytes: int) -> bytes:
    import zstandard

    try:
        # A content size would be believed, and allocated; our frames have none.
        if zstandard.get_frame_parameters(payload).content_size != zstandard.CONTENTSIZE_UNKNOWN:
            raise CorruptError("a zstd frame with a content size")
        return zstandard.ZstdDecompressor().decompress(
            payload, max_output_size=raw_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CorruptError(f"zstd: {error}") from None
