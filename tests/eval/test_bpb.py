"""The three sizes: what counts in which, and that they stand in order."""

from __future__ import annotations

import os
import random

import pytest

from pgolf_codec.codec.container import Method
from pgolf_codec.codec.stream import CompressionStats
from pgolf_codec.eval.bpb import Sizes


def test_frames_without_the_model_count_in_full() -> None:
    stats = CompressionStats(raw_bytes=1000, file_bytes=400, entropy_bits=799.5, coded_bits=800)
    stats.payload_bytes.update({Method.MODEL: 102, Method.ZSTD: 150, Method.STORED: 50})
    sizes = Sizes.of(stats)
    assert sizes == Sizes(1000, 799.5 + 1600, 816 + 1600, 400)
    assert (sizes.bpb_entropy, sizes.bpb_coded, sizes.bpb_file) == (2.3995, 2.416, 3.2)


def test_no_bytes_no_bpb() -> None:
    sizes = Sizes.of(CompressionStats(file_bytes=50))
    assert sizes.bpb_file is None


@pytest.mark.parametrize("seed", range(3))
def test_order_holds_for_real_archives(seed: int) -> None:
    import importlib.util
    import io
    import sys
    from pathlib import Path

    from pgolf_codec.codec.stream import compress_stream

    path = Path(__file__).parents[1] / "codec" / "fake.py"
    spec = importlib.util.spec_from_file_location("_codec_fake", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["_codec_fake"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    chance = random.Random(seed)
    text = "".join(chance.choices(["the ", "and ", "then ", "a "], k=600)).encode()
    data = text[:2048] + os.urandom(1024) + bytes(1024)
    sink = io.BytesIO()
    stats = compress_stream(
        io.BytesIO(data), sink, model=module.FakeModel(), streams=2, frame_bytes=1024
    )
    sizes = Sizes.of(stats)
    assert stats.n_frames[Method.MODEL] > 0
    assert stats.n_frames[Method.STORED] > 0
    assert sizes.file_bytes == len(sink.getvalue())
    assert sizes.entropy_bits <= sizes.coded_bits <= 8 * sizes.file_bytes
