"""Files written by torch and by numba are the same, and each reads the other's."""

from __future__ import annotations

import io
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_model import PROSE

import pgolf_codec
import pgolf_codec.devices
from pgolf_codec.codec import stream
from pgolf_codec.codec.container import Method
from pgolf_codec.codec.frame_coder import ONE_BY_ONE, FrameCoder
from pgolf_codec.codec.lane_coder import LaneCoder
from pgolf_codec.codec.lanes import Schedule
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import CorruptError, DeviceError, OutputLimitError, PgolfError
from pgolf_codec.lm.gpu.torch_device import TorchDevice
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant.artifact import LoadedModel, dump_artifact, load_artifact

FRAME = 1024


class NarrowDevice(TorchDevice):
    """So few lanes that a lane gets several streams."""

    def max_lanes(self, model: object) -> int:
        return 3


@pytest.fixture(scope="session")
def model(tiny: IntegerWeights, tokenizer: Tokenizer) -> LoadedModel:
    return load_artifact(dump_artifact(tiny, tokenizer, name="tiny"))


@pytest.fixture(scope="session")
def coders() -> dict[str, FrameCoder]:
    device = torch.device("cpu")
    return {
        "all at once": LaneCoder(TorchDevice(device)),
        "groups of two": LaneCoder(TorchDevice(device), 2 * FRAME),
        "three lanes": LaneCoder(NarrowDevice(device)),
    }


def mixed_text() -> bytes:
    """Frames that end up stored, zstd and model; the last is short."""
    rng = random.Random(5)
    prose = PROSE.encode()
    parts = [prose[:FRAME], rng.randbytes(FRAME), b"ab" * (FRAME // 2), prose[200 : 200 + FRAME]]
    return b"".join(parts) + prose[900:1400]


def written(data: bytes, model: LoadedModel, coder: FrameCoder, streams: int | None) -> bytes:
    return stream.compress(data, model=model, frame_bytes=FRAME, streams=streams, coder=coder)


@pytest.mark.parametrize(
    ("name", "data", "streams"),
    [
        ("all at once", mixed_text(), 16),
        ("groups of two", mixed_text(), 16),
        ("all at once", PROSE.encode()[: FRAME + 500], None),
        ("three lanes", PROSE.encode()[: FRAME + 20], 7),
    ],
)
def test_the_same_file(
    model: LoadedModel,
    coders: dict[str, FrameCoder],
    name: str,
    data: bytes,
    streams: int | None,
) -> None:
    expected = written(data, model, ONE_BY_ONE, streams)
    assert written(data, model, coders[name], streams) == expected
    assert stream.decompress(expected, model=model, coder=coders[name]) == data


def test_the_accounts_are_the_same(model: LoadedModel, coders: dict[str, FrameCoder]) -> None:
    stats = [
        stream.compress_stream(
            io.BytesIO(mixed_text()),
            io.BytesIO(),
            model=model,
            frame_bytes=FRAME,
            streams=32,
            coder=coder,
        )
        for coder in (ONE_BY_ONE, coders["all at once"])
    ]
    assert stats[0] == stats[1]
    assert set(stats[0].n_frames) == {Method.STORED, Method.ZSTD, Method.MODEL}


@pytest.mark.parametrize("data", [b"", b"x", PROSE.encode()[:FRAME]])
def test_small(model: LoadedModel, coders: dict[str, FrameCoder], data: bytes) -> None:
    coder = coders["all at once"]
    blob = written(data, model, coder, 30)
    assert blob == written(data, model, ONE_BY_ONE, 30)
    assert stream.decompress(blob + blob, model=model, coder=coder) == 2 * data


def test_large_frames_are_sampled(model: LoadedModel, coders: dict[str, FrameCoder]) -> None:
    """Frames so large that a sample decides whether the model is tried."""
    rng = np.random.default_rng(1)
    hopeless = rng.integers(0, 256, 33000, np.uint8).tobytes()
    found, expected = (
        stream.compress(hopeless, model=model, streams=64, coder=coder)
        for coder in (coders["all at once"], ONE_BY_ONE)
    )
    assert found == expected


def test_damage_is_the_same_error(model: LoadedModel, coders: dict[str, FrameCoder]) -> None:
    """Wherever a byte is changed; the frames before it are handed out."""
    blob = written(mixed_text(), model, ONE_BY_ONE, 32)
    rng = random.Random(2)
    for at in sorted(rng.sample(range(len(blob)), 6)) + [len(blob) - 1]:
        damaged = blob[:at] + bytes([blob[at] ^ 1 << rng.randrange(8)]) + blob[at + 1 :]
        told = []
        for coder in (ONE_BY_ONE, coders["all at once"]):
            reader = stream.ArchiveReader(io.BytesIO(damaged), model=model, coder=coder)
            n_bytes = 0
            with pytest.raises(PgolfError) as error:
                while block := reader.read1():
                    n_bytes += len(block)
            told.append((error.type, str(error.value), n_bytes))
        assert told[0] == told[1]


def test_a_forged_stream_is_refused(model: LoadedModel, coders: dict[str, FrameCoder]) -> None:
    """Checks that hold around words that no encoder wrote."""
    from pgolf_codec.codec.container import Footer, FrameHeader, Header

    data = PROSE.encode()[:FRAME]
    blob = written(data, model, ONE_BY_ONE, 20)
    header = Header.read(io.BytesIO(blob).read)
    source = io.BytesIO(blob[19:])
    frame = FrameHeader.read(source.read, header.frame_bytes)
    assert frame is not None
    assert frame.method is Method.MODEL
    payload = source.read(frame.payload_bytes)
    n_refused = 0
    for forged in (payload[:-2], payload + b"\1" * 8, payload[:90] + bytes(40)):
        lying = FrameHeader.of(0, Method.MODEL, forged, data)
        packed = lying.pack(FRAME) + forged
        archive = blob[:19] + packed + Footer(len(data), [len(packed)], bytes(16)).pack()
        for coder in (ONE_BY_ONE, coders["all at once"]):
            with pytest.raises(CorruptError, match="frame 0"):
                stream.decompress(archive, model=model, coder=coder)
            n_refused += 1
    assert n_refused == 6


def test_the_limit_of_output(model: LoadedModel, coders: dict[str, FrameCoder]) -> None:
    blob = written(PROSE.encode()[: FRAME + 10], model, ONE_BY_ONE, 20)
    for coder in (ONE_BY_ONE, coders["all at once"]):
        reader = stream.ArchiveReader(
            io.BytesIO(blob), model=model, max_output_bytes=FRAME, coder=coder
        )
        assert reader.read1() == PROSE.encode()[:FRAME]
        with pytest.raises(OutputLimitError):
            reader.read1()


def test_the_embedded_model() -> None:
    text = ("The house stood on a hill, and the road to it was long and quiet. " * 40).encode()
    text += PROSE.encode()
    model = pgolf_codec.load_model()
    on_torch = pgolf_codec.devices.frame_coder("torch-cpu")
    here, there = (
        stream.compress(text, model=model, streams=60, coder=coder)
        for coder in (ONE_BY_ONE, on_torch)
    )
    assert here == there
    assert pgolf_codec.decompress(here, device="torch-cpu") == text
    assert pgolf_codec.decompress(there) == text


def test_devices_that_are_not_there() -> None:
    assert pgolf_codec.compress(b"x", device="cpu") == pgolf_codec.compress(b"x")
    for name in ("gpu", "cuda:x", "", "meta"):
        with pytest.raises(DeviceError, match=repr(name)):
            pgolf_codec.compress(b"x", device=name)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda"):
            pgolf_codec.compress(b"x", device="cuda")
    with pytest.raises(DeviceError, match="99"):
        pgolf_codec.decompress(b"", device="cuda:99")


def test_the_verbs(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    from pathlib import Path

    from pgolf_codec.cli import main

    text = Path(str(tmp_path)) / "text"
    text.write_bytes(b"a few words, and nothing else")
    assert main(["compress", "-q", "--device", "torch-cpu", str(text)]) == 0
    assert main(["test", "-q", "--device", "torch-cpu", f"{text}.pgz"]) == 0
    assert main(["decompress", "-q", "--device", "torch-cpu", "-f", f"{text}.pgz"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["test", "-q", "--device", "cuda:99", f"{text}.pgz"]) == 1
    assert "cuda:99" in capsys.readouterr().err


def test_schedule() -> None:
    """Nothing overlaps, rounds are of equal size, the longest stream sets the length."""
    rng = np.random.default_rng(7)
    for sizes, most in (([5, 1, 1, 1, 1, 1], 16), (rng.integers(1, 90, 100).tolist(), 30), ([], 4)):
        schedule = Schedule.of(sizes, most)
        assert schedule.n_lanes <= most
        taken = np.zeros((schedule.n_lanes, schedule.n_steps), int)
        for size, lane, start in zip(sizes, schedule.lane, schedule.start, strict=True):
            taken[lane, start : start + size] += 1
        assert taken.max(initial=0) <= 1
        assert taken.sum() == sum(sizes)
        assert schedule.restarts().sum() == len(sizes)
    assert Schedule.of([4] * 33, 32).n_lanes == 17
    assert Schedule.of([90, 1, 1, 1], 2).n_steps == 90


def test_without_torch() -> None:
    """Said in one line, by a device only."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pgolf_codec.cli import main\n"
        "sys.exit(main(['compress', '-q', '-o', '-', '--device', sys.argv[1], sys.argv[2]]))"
    )
    for device, status in (("cpu", 0), ("cuda", 1), ("torch-cpu", 1)):
        done = subprocess.run(
            [sys.executable, "-c", code, device, __file__], capture_output=True, check=False
        )
        assert done.returncode == status
        assert (b"pip install 'pgolf-codec[gpu]'" in done.stderr) == (status == 1)
        assert done.stderr.count(b"\n") == status
