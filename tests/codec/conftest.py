"""A model without weights, and small archives made with it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for fake.py

from fake import WORDS, FakeModel


@pytest.fixture(scope="session")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="session")
def english() -> bytes:
    """Words at random: the fake model beats zstd here."""
    words = [word.encode() for word in WORDS if len(word) > 1] + [b" a", b"\n"]
    return b"".join(random.Random(1).choices(words, k=2000))


@pytest.fixture(scope="session")
def mixed(english: bytes) -> bytes:
    """With frames of 1 KiB: model, zstd and stored frames, the last one short."""
    noise = random.Random(2).randbytes(1024)
    return english[:1024] + b"0123456789" * 102 + b"abcd" + noise + english[1024:1700]
