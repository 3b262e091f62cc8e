"""Frames coded in the lanes of a device, without one: the bytes are those of the processor."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake import FakeModel, Order1Session
from numpy.typing import NDArray

from pgolf_codec.codec import frames, model_frame, payload
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.container import FrameHeader, Method
from pgolf_codec.codec.frame_coder import ONE_BY_ONE, CodedFrame, FrameCoder
from pgolf_codec.codec.frequencies import locate
from pgolf_codec.codec.lane_coder import LaneCoder
from pgolf_codec.errors import CorruptError, DeviceError

MODEL = FakeModel()
WORDS = [b"the ", b"and ", b"hat ", b"a ", b"end\n"]
STREAMS = 5


def prose(n_bytes: int, seed: int) -> bytes:
    return b"".join(random.Random(seed).choices(WORDS, k=n_bytes))[:n_bytes]


class OwnLanes:
    """A session for each lane, anew for each stream."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._sessions: list[Any] = [None] * n
        self._last: list[Any] = [None] * n

    def encode(
        self, ids: NDArray[np.int32], restart: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        cum, freq = np.zeros((2, *ids.shape), np.uint32)
        for t, lane in np.ndindex(ids.shape):
            self._restart(lane, bool(restart[t, lane]))
            found = self._sessions[lane].intervals(ids[t : t + 1, lane : lane + 1])
            cum[t, lane], freq[t, lane] = (int(bound[0, 0]) for bound in found)
        return cum, freq

    def decode(self, points: NDArray[np.int64], restart: NDArray[np.bool_]) -> NDArray[np.int64]:
        found = np.zeros((3, self.n), np.int64)
        for lane in range(self.n):
            self._restart(lane, bool(restart[lane]))
            weights = self._sessions[lane].weights(self._last[lane])[0]
            found[:, lane] = locate(weights, int(points[lane]))
            self._last[lane] = found[:1, lane].astype(np.int32)
        return found

    def _restart(self, lane: int, wanted: bool) -> None:
        if wanted or self._sessions[lane] is None:
            self._sessions[lane] = Order1Session(1, MODEL.tokenizer.n_symbols)
            self._last[lane] = None


class OwnDevice:
    """Lanes that were used before, and more of them than are asked for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lanes = OwnLanes(most + 2)

    def max_lanes(self, model: Any) -> int:
        return self._most

    @contextlib.contextmanager
    def lanes(self, model: Any, n: int) -> Iterator[OwnLanes]:
        assert n <= self._most
        yield self._lanes


@pytest.fixture(params=[3, 40])
def coder(request: pytest.FixtureRequest) -> LaneCoder:
    """With few lanes, each of which gets several streams, and with many."""
    return LaneCoder(OwnDevice(request.param))


def coded_frame(index: int, raw: bytes, data: bytes, method: Method = Method.MODEL) -> CodedFrame:
    return CodedFrame(FrameHeader.of(index, method, data, raw), index, data, lambda: MODEL)


def encoded(coder: FrameCoder, raws: list[bytes]) -> list[frames.EncodedFrame]:
    return coder.encode(raws, MODEL, streams=STREAMS, threads=2, progress=None)


def modelled(raw: bytes) -> bytes:
    """The model's payload, also where zstd has a smaller one."""
    ids = MODEL.tokenizer.encode(raw)
    return model_frame.encode(ids, MODEL.predictor, streams=STREAMS, threads=1).data


def errors(coder: FrameCoder, group: list[CodedFrame]) -> list[str]:
    found = coder.decode(group, threads=1, progress=None)
    assert all(isinstance(one, CorruptError | bytes) for one in found)
    return ["" if isinstance(one, bytes) else str(one) for one in found]


def test_the_same_frames(coder: LaneCoder) -> None:
    """Of every method, the first ones sampled: a text, and one that is hopeless."""
    noise = random.Random(1).randbytes
    raws = [
        noise(40000), prose(35000, 1), noise(300), prose(900, 2), bytes(700), prose(40, 3),
    ]  # fmt: skip
    found = encoded(coder, raws)
    assert found == encoded(ONE_BY_ONE, raws)
    assert {frame.method for frame in found} == {Method.STORED, Method.ZSTD, Method.MODEL}
    group = [
        coded_frame(i, raw, one.payload, one.method)
        for i, (raw, one) in enumerate(zip(raws, found, strict=True))
    ]
    assert coder.decode(group, threads=1, progress=None) == raws


def forged(raw: bytes) -> dict[str, bytes]:
    """Payloads whose checks hold, around streams that no encoder has left."""
    n_tokens = MODEL.tokenizer.encode(raw).size
    streams = [bytes(stream.data) for stream in payload.split(modelled(raw), len(raw))]

    def changed(first: bytes) -> bytes:
        return payload.join(n_tokens, [first, *streams[1:]])

    return {
        "cut": changed(streams[0][:8]),
        "too long": changed(streams[0] + b"\1" * 8),
        "one word too long": changed(streams[0] + bytes(-len(streams[0]) % 4) + b"\0\0\0\1"),
        **{f"beyond the range, {n}": changed(b"\xff" * n) for n in range(8, 33, 4)},
        "nothing": changed(b""),
    }


def test_a_damaged_stream_is_its_own_frames_fault(coder: LaneCoder) -> None:
    """Lanes go on with streams of sound frames; the decoder says what it has found."""
    raw = prose(800, 4)
    small = [prose(200 + i, 5 + i) for i in range(2)]
    sound = [coded_frame(i, one, modelled(one)) for i, one in enumerate(small, 1)]
    for name, data in forged(raw).items():
        group = [coded_frame(0, raw, data), *sound]
        told = errors(coder, group)
        assert told[0].startswith("a stream of coded tokens "), name
        assert told[1:] == [""] * 2, name
        assert errors(ONE_BY_ONE, group[:1])[0].startswith("a stream of coded tokens "), name


def test_frames_that_lie(coder: LaneCoder) -> None:
    """A check that fails, and words that say something else than the header."""
    raw, other = prose(500, 1), prose(480, 2)
    data = modelled(raw)
    header = FrameHeader.of(0, Method.MODEL, data, raw)
    damaged = CodedFrame(header, 0, data[:-1] + bytes([data[-1] ^ 1]), lambda: MODEL)
    n_tokens = MODEL.tokenizer.encode(raw).size
    none = payload.join(len(raw) + 1, [b""])
    for frame, why in (
        (damaged, "the check does not hold"),
        (coded_frame(0, raw[:-1], data), "the tokens are not those of the claimed size"),
        (coded_frame(0, other + raw[480:], data), "not those that were encoded"),
        (coded_frame(0, raw, none), f"{len(raw) + 1} tokens can't hold {len(raw)} bytes"),
        (coded_frame(0, raw, payload.join(n_tokens, [b""] * 65)), "65 streams"),
    ):
        assert why in errors(coder, [frame])[0]
        assert errors(coder, [frame]) == errors(ONE_BY_ONE, [frame])


@pytest.mark.parametrize("coder", [LaneCoder(OwnDevice(3)), ONE_BY_ONE])
def test_progress_of_a_group(coder: FrameCoder) -> None:
    raws = [prose(600, 1), prose(500, 2)]
    seen: list[int] = []
    coder.encode(raws, MODEL, streams=STREAMS, threads=1, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1100
    seen.clear()
    group = [coded_frame(i, raw, modelled(raw)) for i, raw in enumerate(raws)]
    coder.decode(group, threads=1, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1100


def test_devices_do_not_adapt(coder: LaneCoder) -> None:
    """They refuse to; what adapts already is decoded by the processor."""
    raw, model = prose(600, 1), adapted(MODEL)
    with pytest.raises(DeviceError, match="only the processor adapts"):
        coder.encode([raw], model, streams=None, threads=1, progress=None)
    ids = model.tokenizer.encode(raw)
    data = model_frame.encode(ids, model.predictor, streams=2, threads=1).data
    frame = coded_frame(0, raw, data, Method.ADAPTED)
    assert coder.decode([frame], threads=1, progress=None) == [raw]
