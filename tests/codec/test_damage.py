"""Nothing is silent: flips, cuts, lies and bombs all end in a named error."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from fake import FakeModel
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.codec import container
from pgolf_codec.codec.container import (
    HEADER_BYTES,
    MAX_FRAME_LOG2,
    Footer,
    FrameHeader,
    Header,
    Method,
    get_varint,
    put_varint,
)
from pgolf_codec.codec.inspection import inspect, salvage
from pgolf_codec.codec.stream import compress, decompress
from pgolf_codec.errors import (
    CorruptError,
    FormatError,
    ModelError,
    NotAnArchiveError,
    TruncatedError,
    UnsupportedVersionError,
)

MODEL = FakeModel()
FRAME = 1024
LARGEST = 1 << MAX_FRAME_LOG2


@pytest.fixture(scope="module")
def small_archive(english: bytes) -> tuple[bytes, bytes]:
    """(archive, original) with zstd, stored and model frames, the last in three streams."""
    raw = b"\0" * FRAME + random.Random(1).randbytes(FRAME) + english[:400]
    archive = compress(raw, model=MODEL, streams=3, frame_bytes=FRAME)
    (member,) = inspect(archive).members
    assert [frame.method for frame in member.frames] == [Method.ZSTD, Method.STORED, Method.MODEL]
    return archive, raw


def test_every_flip(small_archive: tuple[bytes, bytes]) -> None:
    archive, raw = small_archive
    assert decompress(archive, model=MODEL) == raw
    for bit in range(8 * len(archive)):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decompress(damaged, model=MODEL, threads=1)


def test_flips_behind_a_model_frame(mixed: bytes) -> None:
    archive = compress(mixed, model=MODEL, streams=2, frame_bytes=FRAME)
    rng = random.Random(5)
    for bit in rng.sample(range(8 * len(archive)), 100):
        damaged = bytearray(archive)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decompress(damaged, model=MODEL, threads=1)


def test_every_truncation(small_archive: tuple[bytes, bytes]) -> None:
    archive, _ = small_archive
    for size in range(len(archive)):
        with pytest.raises(TruncatedError):
            decompress(archive[:size], model=MODEL, threads=1)
        with pytest.raises(EOFError):
            inspect(archive[:size])


def test_every_truncation_of_the_second(small_archive: tuple[bytes, bytes]) -> None:
    archive, _ = small_archive
    tiny = compress(b"the", model=MODEL)
    for size in range(1, len(tiny)):
        with pytest.raises(TruncatedError):
            decompress(archive + tiny[:size], model=MODEL, threads=1)


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08\x00", b"no", b"PK\3\4", b"\x89PNG\r\n\x1a\n"])
def test_other_files(data: bytes) -> None:
    for read in (lambda: decompress(data, model=MODEL), lambda: inspect(data)):
        with pytest.raises(NotAnArchiveError):
            read()


def test_another_version(small_archive: tuple[bytes, bytes]) -> None:
    blob = bytearray(small_archive[0])
    blob[4] = 2
    with pytest.raises(UnsupportedVersionError, match=r"version 2 .* reads 1"):
        decompress(blob, model=MODEL)


def test_damage_is_located(small_archive: tuple[bytes, bytes]) -> None:
    archive, _ = small_archive
    frame = inspect(archive).members[0].frames[1]
    damaged = bytearray(archive)
    damaged[frame.offset + 500] ^= 1
    with pytest.raises(CorruptError, match=rf"frame 1 \(at offset {frame.offset}; .* from 1024 on"):
        decompress(damaged, model=MODEL)


def forged(
    method: Method,
    payload: bytes,
    raw_bytes: int,
    *,
    frame_bytes: int = LARGEST,
    raw: bytes = b"",
    footer: Footer | None = None,
) -> bytes:
    """An archive of one frame, whose checks are right whatever it claims."""
    unchecked = FrameHeader(method, raw_bytes, len(payload), 0, zlib.crc32(raw))
    frame = FrameHeader(
        method, raw_bytes, len(payload), unchecked.expected_check(0, payload), zlib.crc32(raw)
    ).pack(frame_bytes)
    footer = footer or Footer(raw_bytes, [len(frame) + len(payload)], b"\0" * 16)
    fingerprint = MODEL.predictor.fingerprint
    return Header(7, frame_bytes, fingerprint[:8]).pack() + frame + payload + footer.pack()


def bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))


LIES = {
    "zstd, one byte too many": forged(Method.ZSTD, bomb(LARGEST + 1), LARGEST),
    "zstd, large bomb": forged(Method.ZSTD, bomb(1 << 28), LARGEST),
    "zstd, one byte too few": forged(Method.ZSTD, bomb(LARGEST - 1), LARGEST),
    "zstd, claimed size": forged(
        Method.ZSTD, bytes.fromhex("28b52ffde0000000000001000000"), LARGEST
    ),
    "zstd, claimed window": forged(Method.ZSTD, bytes.fromhex("28b52ffd00f8010000"), LARGEST),
    "zstd, nothing": forged(Method.ZSTD, b"", LARGEST),
    "zstd, with a tail": forged(Method.ZSTD, bomb(100) + b"tail", 100),
    "model, nothing": forged(Method.MODEL, b"", LARGEST),
    "model, no tokens": forged(Method.MODEL, b"\0\1", LARGEST),
    "model, no streams": forged(Method.MODEL, b"\1\0", LARGEST),
    "model, all tokens": forged(Method.MODEL, put_varint(LARGEST) + b"\1", LARGEST),
    "model, too many tokens": forged(Method.MODEL, put_varint(LARGEST + 1) + b"\1", LARGEST),
    "model, too many streams": forged(Method.MODEL, b"\xff\x7f\x41" + b"\0" * 70, LARGEST),
    "model, more streams than tokens": forged(Method.MODEL, b"\1\2\0", LARGEST),
    "model, streams too long": forged(Method.MODEL, b"\x10\2\x7fabc", LARGEST),
    "model, endless number": forged(Method.MODEL, b"\xff" * 20, LARGEST),
    "model, garbage": forged(Method.MODEL, b"\x40\2\x10" + bytes(range(7, 47)), 64),
    "stored, wrong digest": forged(Method.STORED, b"abc", 3, raw=b"abc"),
    "stored, other raw check": forged(Method.STORED, b"abc", 3, raw=b"abd"),
    "footer, size": forged(
        Method.STORED, b"abc", 3, raw=b"abc", footer=Footer(1 << 60, [15], b"\0" * 16)
    ),
    "footer, index": forged(
        Method.STORED, b"abc", 3, raw=b"abc", footer=Footer(3, [1 << 60], b"\0" * 16)
    ),
}


@pytest.mark.parametrize("blob", LIES.values(), ids=LIES)
def test_lies(blob: bytes) -> None:
    """Every check sum is right; only the claims are not."""
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            decompress(blob, model=MODEL, threads=2)
        for frame in salvage(blob, model=MODEL):
            assert (frame.data is None) == (frame.error is not None)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_a_payload_longer_than_its_raw_bytes() -> None:
    with pytest.raises(CorruptError, match="claims"):
        decompress(forged(Method.MODEL, b"abcd", 3), model=MODEL)


def test_frames_of_an_impossible_size() -> None:
    for log2 in (0, 9, MAX_FRAME_LOG2 + 1, 255):
        body = container.MAGIC + bytes([1, 7, log2]) + bytes(8)
        with pytest.raises(CorruptError, match="claims frames"):
            decompress(body + zlib.crc32(body).to_bytes(4, "little"), model=MODEL)


def test_a_short_frame_is_the_last(small_archive: tuple[bytes, bytes]) -> None:
    one = forged(Method.STORED, b"abc", 3, raw=b"abc", frame_bytes=FRAME)
    frame = one[HEADER_BYTES : HEADER_BYTES + 14]
    with pytest.raises(CorruptError, match="was the last"):
        decompress(one[:HEADER_BYTES] + frame + frame + one[HEADER_BYTES + 14 :], model=MODEL)


def test_swapped_frames(english: bytes) -> None:
    """Both are whole and of the same kind and size, but not where they belong."""
    noise = random.Random(6).randbytes(2 * FRAME)
    archive = compress(noise, model=MODEL, frame_bytes=FRAME)
    first, second = inspect(archive).members[0].frames
    assert first.n_bytes == second.n_bytes
    parts = [archive[f.offset : f.offset + f.n_bytes] for f in (second, first)]
    swapped = archive[: first.offset] + b"".join(parts) + archive[second.offset + second.n_bytes :]
    with pytest.raises(CorruptError, match="frame 0"):
        decompress(swapped, model=MODEL)


@given(st.binary(max_size=100), st.integers(0, 2))
def test_garbage_behind_right_checks(payload: bytes, method: int) -> None:
    for raw_bytes in {max(len(payload), 1), 1000}:
        if method == Method.STORED and raw_bytes != len(payload):
            continue
        with pytest.raises(FormatError):
            decompress(forged(Method(method), payload, raw_bytes, raw=b"?"), model=MODEL, threads=1)


@given(st.binary(max_size=300))
def test_any_garbage(data: bytes) -> None:
    header = Header(7, FRAME, MODEL.predictor.fingerprint[:8]).pack()
    for blob in (data, container.MAGIC + data, header + data):
        for read in (lambda b: decompress(b, model=MODEL), inspect):
            with pytest.raises(FormatError):
                read(blob)


@given(st.integers(0, 2**63 - 1))
def test_numbers(value: int) -> None:
    data = put_varint(value)
    assert get_varint(b"x" + data + b"y", 1) == (value, 1 + len(data))
    with pytest.raises(TruncatedError):
        get_varint(data[:-1], 0)


@pytest.mark.parametrize("data", [b"\x80\0", b"\xff\x80\0", b"\xff" * 9, b"\x80" * 20])
def test_other_spellings_of_numbers(data: bytes) -> None:
    with pytest.raises(CorruptError):
        get_varint(data, 0)


def test_a_decoder_that_disagrees_is_found(english: bytes) -> None:
    """The same fingerprint, another arithmetic: the check of the raw bytes says so."""

    class Drifted(FakeModel):
        @property
        def predictor(self) -> object:  # type: ignore[override]
            predictor = super().predictor

            class Drifting(type(predictor)):  # type: ignore[misc]
                def session(self, n_streams: int) -> object:
                    session = super().session(n_streams)
                    session._counts[:, :, 5] += 1
                    return session

            return Drifting(predictor.n_symbols, predictor.fingerprint)

    archive = compress(english, model=MODEL, streams=1)
    with pytest.raises(CorruptError, match="frame 0"):
        decompress(archive, model=Drifted())


class TestSalvage:
    @pytest.fixture
    def archive(self, mixed: bytes) -> bytes:
        return compress(mixed, model=MODEL, streams=2, frame_bytes=FRAME)

    @pytest.mark.parametrize("field", ["method", "sizes", "payload"])
    @pytest.mark.parametrize("hit", [0, 1, 2, 3])
    def test_one_frame_is_lost(self, archive: bytes, mixed: bytes, hit: int, field: str) -> None:
        frames = inspect(archive).members[0].frames
        at = frames[hit].offset + {"method": 0, "sizes": 1, "payload": 20}[field]
        damaged = bytearray(archive)
        damaged[at] ^= 0x55
        found = list(salvage(damaged, model=MODEL))
        assert [frame.index for frame in found] == [0, 1, 2, 3]
        for frame, info in zip(found, frames, strict=True):
            raw = mixed[info.raw_start : info.raw_start + info.raw_bytes]
            assert (frame.offset, frame.raw_start) == (info.offset, info.raw_start)
            assert frame.raw_bytes == info.raw_bytes
            if frame.index == hit:
                assert frame.data is None
                assert isinstance(frame.error, FormatError)
                assert f"frame {hit} (at offset {info.offset};" in str(frame.error)
            else:
                assert (frame.data, frame.error) == (raw, None)

    def test_nothing_is_lost(self, archive: bytes, mixed: bytes) -> None:
        found = list(salvage(archive + archive, model=MODEL))
        assert b"".join(frame.data or b"" for frame in found) == mixed * 2
        assert [frame.raw_start for frame in found][4:] == [
            len(mixed) + i * FRAME for i in range(4)
        ]

    def test_cut_off(self, archive: bytes, mixed: bytes) -> None:
        last = inspect(archive).members[0].frames[3]
        *found, end = salvage(archive[: last.offset + 30], model=MODEL)
        assert b"".join(frame.data or b"" for frame in found) == mixed[: 3 * FRAME]
        assert (end.index, end.offset, end.raw_start) == (3, last.offset, 3 * FRAME)
        assert end.raw_bytes is end.data is None
        assert isinstance(end.error, TruncatedError)

    def test_damaged_footer(self, archive: bytes, mixed: bytes) -> None:
        """Frames are found one after another; the error tells of the footer."""
        damaged = bytearray(archive)
        damaged[-30] ^= 1
        *found, end = salvage(damaged, model=MODEL)
        assert b"".join(frame.data or b"" for frame in found) == mixed
        assert isinstance(end.error, FormatError)

    def test_damaged_second_archive(self, archive: bytes, mixed: bytes) -> None:
        damaged = bytearray(archive + archive)
        damaged[-1] ^= 1
        *found, end = salvage(damaged, model=MODEL)
        assert b"".join(frame.data or b"" for frame in found) == mixed * 2
        assert end.data is None

    def test_first_archive_without_footer(self, archive: bytes, mixed: bytes) -> None:
        found = list(salvage(archive[:-20] + archive, model=MODEL))
        assert b"".join(frame.data or b"" for frame in found) == mixed * 2
        assert sum(frame.error is not None for frame in found) == 1

    def test_damaged_header(self, archive: bytes) -> None:
        damaged = bytearray(archive)
        damaged[10] ^= 1
        with pytest.raises(CorruptError, match="header"):
            list(salvage(damaged, model=MODEL))

    @pytest.mark.parametrize("call", [lambda blob: list(salvage(blob, model=FakeModel(seed=b"x")))])
    def test_without_the_model(self, archive: bytes, call: Callable[[bytes], object]) -> None:
        with pytest.raises(ModelError):
            call(archive)

    @given(st.binary(max_size=200))
    def test_any_garbage(self, data: bytes) -> None:
        header = Header(7, FRAME, MODEL.predictor.fingerprint[:8]).pack()
        *_, end = salvage(header + data, model=MODEL)
        assert isinstance(end.error, FormatError)
        with pytest.raises(FormatError):
            list(salvage(data, model=MODEL))
