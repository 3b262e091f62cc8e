"""The challenge's token shards: header, damage, streams over several files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pgolf_codec.errors import (
    ConfigError,
    CorruptError,
    FormatError,
    TruncatedError,
    UnsupportedVersionError,
)
from pgolf_codec.lm.data.shards import (
    HEADER_BYTES,
    ShardWriter,
    TokenStream,
    first_ids,
    open_shard,
    shard_name,
    split_paths,
)


def by_hand(ids: list[int], magic: int = 20240520, version: int = 1, n: int | None = None) -> bytes:
    header = struct.pack("<3i", magic, version, len(ids) if n is None else n)
    return header.ljust(1024, b"\0") + struct.pack(f"<{len(ids)}H", *ids)


def test_the_writer_writes_the_format(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "fineweb", "val") as writer:
        writer.append(np.array([1, 65535], np.uint16))
        writer.append(np.array([], np.uint16))
        writer.append(np.array([7], np.uint16))
    assert (tmp_path / "fineweb_val_000000.bin").read_bytes() == by_hand([1, 65535, 7])
    assert writer.n_tokens == [3]


def test_the_first_ids_of_a_shard_or_of_a_bare_file(tmp_path: Path) -> None:
    shard, bare = tmp_path / "x_train_000000.bin", tmp_path / "train.bin"
    shard.write_bytes(by_hand([1, 5, 65535]))
    bare.write_bytes(by_hand([1, 5, 65535])[HEADER_BYTES:])
    for path in (shard, bare):
        for n in (0, 2, 3, 9):
            assert first_ids(path, n).tolist() == [1, 5, 65535][:n]
    shard.write_bytes(by_hand([1, 5], n=3))
    with pytest.raises(TruncatedError, match="1028 bytes of 1030"):
        first_ids(shard, 1)
    bare.write_bytes(b"")
    assert first_ids(bare, 4).size == 0


@pytest.mark.parametrize("piece", [1, 3, 7, 100])
def test_a_stream_over_shards(tmp_path: Path, piece: int) -> None:
    ids = np.arange(25, dtype=np.uint16)
    with ShardWriter(tmp_path, "x", "train", shard_tokens=10) as writer:
        for start in range(0, 25, piece):
            writer.append(ids[start : start + piece])
    assert writer.n_tokens == [10, 10, 5]
    assert writer.paths == split_paths(tmp_path, "train")
    stream = TokenStream(writer.paths)
    assert len(stream) == 25
    for start in range(26):
        for stop in range(start, 28):
            part = stream[start:stop]
            assert part.dtype == np.uint16
            assert part.tolist() == ids[start:stop].tolist()
    assert stream[-7:].tolist() == ids[-7:].tolist()


def test_empty_shards_and_streams(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "x", "train"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "x_train_000000.bin").write_bytes(by_hand([]))
    assert len(TokenStream(split_paths(tmp_path, "train"))) == 0
    assert TokenStream([])[0:5].size == 0


def test_an_error_leaves_no_half_shard(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError),
        ShardWriter(tmp_path, "x", "train", shard_tokens=4) as writer,
    ):
        writer.append(np.arange(6, dtype=np.uint16))
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["x_train_000000.bin"]
    assert open_shard(tmp_path / "x_train_000000.bin").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (b"", FormatError, "magic"),
        (b"\x00\x01", FormatError, "magic"),
        (by_hand([1], magic=20240521), FormatError, "magic"),
        (by_hand([1])[:1023], TruncatedError, "header"),
        (by_hand([1], version=2), UnsupportedVersionError, "version 2"),
        (by_hand([1, 2])[:-1], TruncatedError, "1027 bytes of 1028"),
        (by_hand([1, 2], n=2_000_000_000), TruncatedError, "of 4000001024"),
        (by_hand([1, 2]) + b"\0", CorruptError, "1029 bytes"),
        (by_hand([1, 2], n=-1), CorruptError, "-1 tokens"),
    ],
)
def test_damage_is_named(tmp_path: Path, data: bytes, error: type[Exception], why: str) -> None:
    path = tmp_path / "a_train_000000.bin"
    path.write_bytes(data)
    with pytest.raises(error, match=rf"a_train_000000\.bin: .*{why}"):
        open_shard(path)


def test_a_gap_in_the_numbers_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no shards"):
        split_paths(tmp_path, "val")
    for index in (0, 2):
        (tmp_path / shard_name("x", "train", index)).write_bytes(by_hand([1]))
    with pytest.raises(ConfigError, match=r"x_train_000001\.bin is missing"):
        split_paths(tmp_path, "train")


def test_impossible_sizes(tmp_path: Path) -> None:
    for n in (0, 1 << 31):
        with pytest.raises(ConfigError, match="tokens a shard"):
            ShardWriter(tmp_path, "x", "train", n)
    assert HEADER_BYTES == 1024
