"""Round trips, and the promises of reader and writer as files."""

from __future__ import annotations

import array
import gc
import io
import mmap
import random
from pathlib import Path

import numpy as np
import pytest
from fake import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf_codec.codec.container import Method
from pgolf_codec.codec.inspection import inspect
from pgolf_codec.codec.stream import (
    ArchiveReader,
    ArchiveWriter,
    compress,
    compress_stream,
    decompress,
    open_archive,
)
from pgolf_codec.errors import (
    ConfigError,
    CorruptError,
    OutputLimitError,
    RefusedError,
    TruncatedError,
    UnsupportedVersionError,
    WrongModelError,
)

FRAME = 1024
MODEL = FakeModel()


def methods(archive: bytes) -> list[str]:
    return [frame.method.name for member in inspect(archive).members for frame in member.frames]


@given(
    st.one_of(
        st.binary(max_size=3000),
        st.text(st.sampled_from("thean \n\u2581"), max_size=2000).map(str.encode),
    ),
    st.integers(1, 5),
)
def test_any_bytes(data: bytes, streams: int) -> None:
    archive = compress(data, model=MODEL, streams=streams, frame_bytes=FRAME)
    assert decompress(archive, model=MODEL) == data
    assert inspect(archive).raw_bytes == len(data)
    assert inspect(archive).n_bytes == len(archive)


@pytest.mark.parametrize(
    "size", [0, 1, 2, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME - 1, 2 * FRAME, 2 * FRAME + 1]
)
def test_frame_edges(size: int, english: bytes) -> None:
    data = english[:size]
    archive = compress(data, model=MODEL, frame_bytes=FRAME)
    assert decompress(archive, model=MODEL) == data
    assert len(methods(archive)) == -(-size // FRAME)


def test_every_method(mixed: bytes) -> None:
    archive = compress(mixed, model=MODEL, streams=3, frame_bytes=FRAME)
    assert methods(archive) == ["MODEL", "ZSTD", "STORED", "MODEL"]
    assert decompress(archive, model=MODEL) == mixed


def test_threads_do_not_change_a_byte(english: bytes) -> None:
    archives = [compress(english, model=MODEL, streams=5, threads=n) for n in (1, 2, 3, 8)]
    assert len(set(archives)) == 1
    assert methods(archives[0]) == ["MODEL"]
    for n in (1, 2, 7):
        assert decompress(archives[0], model=MODEL, threads=n) == english


@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(b"xx" + data)[2:],
        lambda data: np.frombuffer(data, np.uint16),
        lambda data: np.frombuffer(data, np.uint8).reshape(-1, 2),
        lambda data: np.frombuffer(bytes(b for pair in data for b in (pair, 0)), np.uint8)[::2],
        lambda data: array.array("H", data),
    ],
)
def test_any_buffer(make: object, english: bytes) -> None:
    data = english[:600]
    archive = compress(make(data), model=MODEL)  # type: ignore[operator]
    assert archive == compress(data, model=MODEL)
    assert decompress(bytearray(archive), model=MODEL) == data


def test_mmap(tmp_path: Path, english: bytes) -> None:
    (tmp_path / "a").write_bytes(english)
    with (
        (tmp_path / "a").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        assert decompress(compress(mapped, model=MODEL), model=MODEL) == english


def test_empty_array() -> None:
    archive = compress(np.zeros((0, 3), np.float32), model=MODEL)
    assert decompress(archive, model=MODEL) == b""


def test_text_is_not_bytes() -> None:
    with pytest.raises(TypeError):
        compress("text", model=MODEL)  # type: ignore[arg-type]


def test_price_of_a_kilobyte(english: bytes) -> None:
    """The bar of the format: entropy * 1.001 + 64 bytes + 16 a frame."""
    for size, frame_bytes in ((1000, 1 << 20), (len(english), 1 << 20), (len(english), FRAME)):
        sink = io.BytesIO()
        stats = compress_stream(
            io.BytesIO(english[:size]), sink, model=MODEL, streams=1, frame_bytes=frame_bytes
        )
        n_frames = sum(stats.n_frames.values())
        assert set(stats.n_frames) == {Method.MODEL}
        assert stats.file_bytes == len(sink.getvalue())
        assert stats.file_bytes <= stats.entropy_bits / 8 * 1.001 + 64 + 16 * n_frames
        assert stats.framing_bytes <= 47 + 20 * n_frames
        # A stream's end may by luck be short: its length tells what its bits don't.
        assert abs(stats.coded_bits - stats.entropy_bits) <= 12 * n_frames


def test_stats_add_up(mixed: bytes) -> None:
    stats = compress_stream(
        io.BytesIO(mixed), io.BytesIO(), model=MODEL, streams=2, frame_bytes=FRAME
    )
    assert stats.raw_bytes == len(mixed) == stats.raw_bytes_by_method.total()
    assert stats.n_frames == {Method.MODEL: 2, Method.ZSTD: 1, Method.STORED: 1}
    assert stats.payload_bytes[Method.STORED] == FRAME
    # Of the payloads of the model, all but the sizes of tokens and streams is coded bits.
    sizes = stats.payload_bytes[Method.MODEL] - stats.coded_bits // 8
    assert 0 < sizes <= 2 * 5
    assert stats.framing_bytes == stats.file_bytes - stats.payload_bytes.total() + sizes
    assert len(MODEL.tokenizer.encode(mixed[:FRAME])) < stats.n_tokens < FRAME


def test_random_bytes_barely_grow() -> None:
    data = random.Random(3).randbytes(300_000)
    assert len(compress(data, model=MODEL)) <= len(data) * 1.001 + 100
    assert len(compress(data[:20], model=MODEL)) <= 20 + 100


def test_a_file_in_pieces(english: bytes) -> None:
    sink = io.BytesIO()
    with ArchiveWriter(sink, model=MODEL, frame_bytes=FRAME) as writer:
        assert writer.writable()
        for at in range(0, len(english), 77):
            assert writer.write(english[at : at + 77]) == len(english[at : at + 77])
    assert sink.getvalue() == compress(english, model=MODEL, frame_bytes=FRAME)
    reader = ArchiveReader(io.BytesIO(sink.getvalue()), model=MODEL)
    assert reader.readable()
    assert reader.read(0) == b""
    parts = [reader.read(5), reader.read1(3), reader.read1()]
    buffer = bytearray(100)
    assert reader.readinto(buffer) == 100
    parts += [bytes(buffer), *iter(lambda: reader.read(999), b"")]
    assert b"".join(parts) == english
    assert reader.read() == reader.read(1) == reader.read1() == b""
    assert io.BufferedReader(
        ArchiveReader(io.BytesIO(sink.getvalue()), model=MODEL)
    ).readlines() == (english.splitlines(keepends=True))


class Pipe:
    """No seek, and a few bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.at = 0

    def read(self, size: int = -1, /) -> bytes:
        size = 7 if size < 0 else min(size, 7)
        self.at += size
        return self.data[self.at - size : self.at]

    def write(self, data: bytes, /) -> int:
        self.data += data[:5]
        return len(data[:5])


def test_pipes(mixed: bytes) -> None:
    pipe = Pipe()
    compress_stream(io.BytesIO(mixed), pipe, model=MODEL, frame_bytes=FRAME)
    assert pipe.data == compress(mixed, model=MODEL, frame_bytes=FRAME)
    assert ArchiveReader(pipe, model=MODEL).read() == mixed
    assert inspect(Pipe(pipe.data)) == inspect(pipe.data)


def test_memory_is_a_few_frames() -> None:
    """The writer is never more than a frame behind, the reader never more than one ahead."""
    noise = random.Random(4)
    sink = io.BytesIO()
    raw = b""
    with ArchiveWriter(sink, model=MODEL, frame_bytes=FRAME) as writer:
        for _ in range(50):
            raw += (block := noise.randbytes(100))
            writer.write(block)
            assert sink.tell() >= len(raw) - FRAME
    pipe = Pipe(sink.getvalue())
    reader = ArchiveReader(pipe, model=MODEL)
    for n in range(0, len(raw), 100):
        assert reader.read(100) == raw[n : n + 100]
        assert pipe.at <= n + 100 + FRAME + 19 + 20 * (2 + n // FRAME)


def test_concatenated(mixed: bytes) -> None:
    parts = [mixed, b"", b"the", mixed[:10]]
    blob = b"".join(compress(part, model=MODEL, frame_bytes=FRAME) for part in parts)
    assert decompress(blob, model=MODEL) == b"".join(parts)
    info = inspect(blob)
    assert [member.raw_bytes for member in info.members] == [len(part) for part in parts]
    assert sum(member.n_bytes for member in info.members) == len(blob)


@pytest.mark.parametrize("tail", [b"\0", b"garbage", b"\n" * 50, b"\x89pgx"])
def test_trailing_garbage(tail: bytes, english: bytes) -> None:
    archive = compress(english, model=MODEL)
    for read in (lambda blob: decompress(blob, model=MODEL), inspect):
        with pytest.raises(CorruptError, match="follows the archive"):
            read(archive + tail)
    reader = ArchiveReader(io.BytesIO(archive + tail), model=MODEL)
    assert reader.read(len(english)) == english
    for _ in range(2):  # and it goes on saying so
        with pytest.raises(CorruptError):
            reader.read()


def test_output_limit(mixed: bytes) -> None:
    archive = compress(mixed, model=MODEL, frame_bytes=FRAME)
    assert decompress(archive, model=MODEL, max_output_bytes=len(mixed)) == mixed
    for limit in (len(mixed) - 1, 5, 0):
        with pytest.raises(OutputLimitError, match=str(limit)):
            decompress(archive, model=MODEL, max_output_bytes=limit)
    with pytest.raises(OutputLimitError):
        decompress(archive + archive, model=MODEL, max_output_bytes=2 * len(mixed) - 1)


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_progress(verb: str, mixed: bytes) -> None:
    seen: list[int] = []
    tell = seen.append if verb == "compress" else None
    archive = compress(mixed, model=MODEL, frame_bytes=FRAME, progress=tell)
    if verb == "decompress":
        decompress(archive, model=MODEL, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(mixed)
    assert set(range(FRAME, len(mixed), FRAME)) <= set(seen)


def test_an_error_of_progress_stops_the_work(english: bytes) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(english, model=MODEL, streams=4, threads=2, progress=interrupt)


def test_another_model(english: bytes) -> None:
    other = FakeModel(name="other", seed=b"other")
    archive = compress(english, model=MODEL)
    with pytest.raises(WrongModelError) as caught:
        decompress(archive, model=other)
    assert MODEL.predictor.fingerprint[:8].hex() in str(caught.value)
    assert other.predictor.fingerprint[:8].hex() in str(caught.value)


def test_the_model_is_looked_up_when_needed(english: bytes) -> None:
    asked: list[bytes] = []

    def resolve(prefix: bytes) -> FakeModel:
        asked.append(prefix)
        return MODEL

    stored = compress(b"\1\2\3", model=MODEL)
    assert decompress(stored, model=resolve) == b"\1\2\3"
    assert asked == []
    archive = compress(english, model=MODEL, frame_bytes=FRAME)
    assert decompress(archive + archive, model=resolve) == english * 2
    assert asked == [MODEL.predictor.fingerprint[:8]]


def test_other_numerics(english: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = compress(english, model=MODEL)
    monkeypatch.setattr(type(MODEL.predictor), "__init__", _with_numerics_8)
    with pytest.raises(UnsupportedVersionError, match="numerics version 7; model order-1 has 8"):
        decompress(archive, model=MODEL)


def _with_numerics_8(self: object, n_symbols: int, fingerprint: bytes) -> None:
    for name, value in (
        ("n_symbols", n_symbols),
        ("fingerprint", fingerprint),
        ("numerics_version", 8),
    ):
        object.__setattr__(self, name, value)


@pytest.mark.parametrize("options", [{"frame_bytes": 1000}, {"frame_bytes": 512}, {"streams": 0}])
def test_impossible_sizes(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        compress(b"the", model=MODEL, **options)


class TestWriterThatFails:
    """What it leaves must not look like an archive."""

    def test_exception_in_the_block(self, english: bytes) -> None:
        sink = io.BytesIO()
        with (
            pytest.raises(ZeroDivisionError),
            ArchiveWriter(sink, model=MODEL, frame_bytes=FRAME) as writer,
        ):
            writer.write(english)
            raise ZeroDivisionError
        assert writer.closed
        with pytest.raises(TruncatedError):
            decompress(sink.getvalue(), model=MODEL)

    def test_forgotten(self, english: bytes) -> None:
        sink = io.BytesIO()
        writer = ArchiveWriter(sink, model=MODEL, frame_bytes=FRAME)
        writer.write(english[: 2 * FRAME])
        del writer
        gc.collect()
        with pytest.raises(TruncatedError):
            decompress(sink.getvalue(), model=MODEL)

    def test_full_disk(self, english: bytes) -> None:
        class Full(io.BytesIO):
            def write(self, data: object, /) -> int:
                if self.tell() > 300:
                    raise OSError(28, "No space left on device")
                return super().write(data)  # type: ignore[arg-type]

        sink = Full()
        writer = ArchiveWriter(sink, model=MODEL, frame_bytes=FRAME)
        with pytest.raises(OSError, match="No space"):
            writer.write(english)
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")
        with pytest.raises(ValueError, match="not complete"):
            writer.close()
        with pytest.raises(TruncatedError):
            decompress(sink.getvalue(), model=MODEL)

    def test_by_name(self, tmp_path: Path, english: bytes) -> None:
        path = tmp_path / "a.pgz"
        path.write_bytes(b"before")
        with pytest.raises(ZeroDivisionError), open_archive(path, "wb", model=MODEL) as writer:
            writer.write(english)
            raise ZeroDivisionError
        assert path.read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [path]


def test_files_by_name(tmp_path: Path, english: bytes) -> None:
    path = tmp_path / "a.pgz"
    with open_archive(path, "xb", model=MODEL) as writer:
        writer.write(english)
        assert not path.exists()
    assert path.read_bytes() == compress(english, model=MODEL)
    with open_archive(str(path), model=MODEL) as reader:
        assert reader.read() == english
    with pytest.raises(RefusedError):
        open_archive(path, "xb", model=MODEL)
    with open_archive(path, "wb", model=MODEL) as writer:
        writer.write(b"the")
    assert decompress(path.read_bytes(), model=MODEL) == b"the"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_open_stay_open(english: bytes) -> None:
    file = io.BytesIO()
    with open_archive(file, "wb", model=MODEL) as writer:
        writer.write(english)
    file.seek(0)
    with open_archive(file, "rb", model=MODEL) as reader:
        assert reader.read() == english
    assert not file.closed
    with pytest.raises(ValueError, match="closed"):
        reader.read()


def test_wrong_modes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode"):
        open_archive(tmp_path / "a", "ab", model=MODEL)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="resolver"):
        open_archive(tmp_path / "a", "wb", model=lambda _: MODEL)
    assert not list(tmp_path.iterdir())


@settings(max_examples=10)
@given(st.data())
def test_slices_of_a_reader(data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=1, max_size=4000))
    reader = ArchiveReader(io.BytesIO(compress(raw, model=MODEL, frame_bytes=FRAME)), model=MODEL)
    out = b""
    while len(out) < len(raw):
        size = data.draw(st.integers(1, 2000))
        part = reader.read(size)
        assert len(part) == min(size, len(raw) - len(out))
        out += part
    assert out == raw
