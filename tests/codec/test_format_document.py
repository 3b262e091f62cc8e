"""docs/FORMAT.md: its code reads real archives, its example is what we write."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from fake import FakeModel, Order1Session, small_tokenizer
from numpy.typing import NDArray

from pgolf_codec.codec.frequencies import interval
from pgolf_codec.codec.stream import compress, decompress
from pgolf_codec.codec.tokenizer import Tokenizer

DOCUMENT = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The names that its code blocks define, run one after another."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(block, names)
    return names


class OneLane:
    """A session of one stream with plain numbers, as the document has it."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def weights(self, token: int | None) -> list[int]:
        previous = None if token is None else np.array([token], np.int32)
        weights: list[int] = self._session.weights(previous)[0].tolist()
        return weights


def read_all(
    document: dict[str, Any], blob: bytes, table: tuple[bytes, ...], session: Callable[[], OneLane]
) -> bytes:
    out, at = b"", 0
    while at < len(blob):
        part, at = document["read_archive"](blob, at, table, session, _unzstd)
        out += part
    return out


def _unzstd(payload: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(payload, max_output_size=1 << 20)


@pytest.mark.parametrize("streams", [1, 4])
def test_the_reader_of_the_document(
    document: dict[str, Any], model: FakeModel, mixed: bytes, streams: int
) -> None:
    options = {"model": model, "streams": streams, "frame_bytes": 1024}
    blob = compress(mixed, **options) + compress(b"", **options) + compress(b"the", **options)
    session = lambda: OneLane(Order1Session(1, model.tokenizer.n_symbols))  # noqa: E731
    assert read_all(document, blob, model.tokenizer.table, session) == mixed + b"the"


class MostlyA:
    """The model of the example: weight 1000 for the letter a, 1 for all else."""

    def __init__(self, n_streams: int) -> None:
        self._weights = np.ones((n_streams, 258), np.uint32)
        self._weights[:, 2 + ord("a")] = 1000

    def intervals(self, ids: NDArray[np.int32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        found = np.array([[interval(self._weights[0], i) for i in run] for run in ids], np.uint32)
        return found[:, :, 0], found[:, :, 1]

    def weights(self, previous: NDArray[np.int32] | None) -> NDArray[np.uint32]:
        return self._weights


@dataclass(frozen=True)
class MostlyAModel:
    """Tokenizer, predictor and model in one."""

    name: str = "example"
    n_bytes: int = 0
    n_symbols: int = 258
    numerics_version: int = 0
    fingerprint: bytes = hashlib.sha256(b"example").digest()
    tokenizer: Tokenizer = field(default_factory=lambda: small_tokenizer([]))

    @property
    def predictor(self) -> MostlyAModel:
        return self

    def session(self, n_streams: int) -> MostlyA:
        return MostlyA(n_streams)


def test_the_example(document: dict[str, Any]) -> None:
    (block,) = re.findall(r"```hex\n(.*?)```", DOCUMENT, re.DOTALL)
    # Bytes stand in front, up to three blanks; the digest's line is full.
    lines = [re.match(r"((?:[0-9a-f]{2} {0,2})+)(?:  |$)", line) for line in block.splitlines()]
    blob = bytes.fromhex("".join(line[1] for line in lines if line))
    example = MostlyAModel()
    raw = b"aaaaaaaaaaaabaaa"
    assert f"`{raw.decode()}`" in DOCUMENT
    assert f"an archive of {len(blob)} bytes" in DOCUMENT
    assert compress(raw, model=example, streams=2) == blob
    assert decompress(blob, model=example) == raw
    assert read_all(document, blob, example.tokenizer.table, lambda: OneLane(MostlyA(1))) == raw


def test_sizes_that_the_document_names(model: FakeModel) -> None:
    empty = len(compress(b"", model=model))
    assert f"at most {empty} bytes and 15 more for each frame" in DOCUMENT
    noise = np.random.default_rng(1).bytes(5 * 1024)
    assert len(compress(noise, model=model, frame_bytes=1024)) <= len(noise) + empty + 5 * 15
