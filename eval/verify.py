"""The referee: a size counts when another process returns the bytes from what lies on disk.

Encode; write archive and artifact into an empty folder; start a Python process that
is told of these two files only; compare what it decoded with what went in; check
every number of the receipt that can be checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pgolf_codec
from pgolf_codec.errors import VerificationError
from pgolf_codec.eval.decoder import BOOT
from pgolf_codec.eval.receipt import Receipt
from pgolf_codec.quant.artifact import LoadedModel

ARCHIVE, ARTIFACT = "text.pgz", "model.pglm"
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder says of the archive that it wrote."""

    sha256: str
    n_bytes: int
    """Of the input."""
    entropy_bits: float
    coded_bits: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the other process says, or why it failed."""

    sha256: str
    n_bytes: int
    model_fingerprint: str
    seconds: float
    error: str = ""


def verify(
    text: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    model: LoadedModel | str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Receipt:
    """See :func:`pgolf_codec.verify`."""
    if model is None or isinstance(model, str | os.PathLike):
        model = pgolf_codec.load_model(model)
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-verify-") as name:
        folder = Path(name)
        (folder / ARTIFACT).write_bytes(model.artifact)
        encoded = encode(text, folder / ARCHIVE, model, threads)
        file_bytes = (folder / ARCHIVE).stat().st_size
        decoded = decode_elsewhere(folder, threads)
        claims = check(encoded, decoded, model, file_bytes, folder / ARCHIVE)
    receipt = _receipt(encoded, decoded, model, file_bytes, claims)
    if not receipt.verified:
        raise VerificationError(f"not verified: {', '.join(receipt.failed)}", receipt)
    return receipt
