"""Which method a frame gets, and what finding out may cost."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fake import FakeModel, Order1Predictor, Order1Session

from pgolf_codec.codec import frames
from pgolf_codec.codec.container import Method
from pgolf_codec.codec.model_frame import default_streams
from pgolf_codec.codec.payload import MAX_STREAMS

N = 1 << 17


class CountingModel(FakeModel):
    """Counts the symbols that its sessions are asked for."""

    n_asked = 0

    @property
    def predictor(self) -> Any:
        plain = super().predictor

        class Session(Order1Session):
            def intervals(self, ids: Any) -> Any:
                CountingModel.n_asked += ids.size
                return super().intervals(ids)

        class Predictor(Order1Predictor):
            def session(self, n_streams: int) -> Session:
                return Session(n_streams, self.n_symbols)

        return Predictor(plain.n_symbols, plain.fingerprint)


def encode(raw: bytes) -> tuple[Method, int]:
    """(method, symbols that the model was asked for)."""
    CountingModel.n_asked = 0
    encoded = frames.encode(raw, CountingModel(), streams=2, threads=1)
    return encoded.method, CountingModel.n_asked


def words(n: int) -> bytes:
    chosen = random.Random(2).choices([b"the", b" the", b" and", b"an", b" a"], k=n // 2)
    return b"".join(chosen)[:n]


@pytest.mark.parametrize(
    ("raw", "method"),
    [
        (random.Random(1).randbytes(N), Method.STORED),
        (bytes(N), Method.ZSTD),
        (b"line of a log 12345\n" * (N // 20), Method.ZSTD),
    ],
    ids=["random", "zeros", "log"],
)
def test_hopeless_frames_cost_a_sample(raw: bytes, method: Method) -> None:
    found, asked = encode(raw)
    assert found is method
    assert asked <= N / 7


def test_half_text_is_tried() -> None:
    """Noise in one half must not cost the other half its model."""
    noise = random.Random(3).randbytes(20480)
    assert encode(words(20480) + noise)[1] > 20480


def test_text_is_coded_by_the_model() -> None:
    method, asked = encode(words(40000))
    assert method is Method.MODEL
    assert asked > len(FakeModel().tokenizer.encode(words(40000)))  # all, and a sample


def test_small_frames_are_not_sampled() -> None:
    raw = random.Random(4).randbytes(1000)
    assert encode(raw) == (Method.STORED, len(FakeModel().tokenizer.encode(raw)))


def test_the_smallest_is_kept() -> None:
    for raw in (words(3000), bytes(3000), random.Random(5).randbytes(3000), b"x"):
        encoded = frames.encode(raw, FakeModel(), streams=1, threads=1)
        assert len(encoded.payload) <= len(raw)
        assert (encoded.model is not None) == (encoded.method is Method.MODEL)
        if encoded.model is not None:
            assert encoded.model.data is encoded.payload


@pytest.mark.parametrize(("model_bytes", "most"), [(1 << 20, 32), (8 << 20, 32), (16 << 20, 64)])
def test_default_streams(model_bytes: int, most: int) -> None:
    model = FakeModel(n_bytes=model_bytes)
    sizes = [1, 1000, 1 << 13, 1 << 14, (1 << 18) - 1, 1 << 18, 1 << 23]
    assert [default_streams(size, model) for size in sizes] == [1, 1, 1, 2, 31, 32, most]
    assert most <= MAX_STREAMS
