"""The referee: a size counts when another process returns the bytes from what lies on disk.

Encode; write archive and artifact into an empty folder; start a Python process that
is told of these two files only; compare what it decoded with what went in; check
every number of the receipt that can be checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Protocol

import pgolf_codec
from pgolf_codec.codec.container import FORMAT_VERSION, Method
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.stream import Progress, compress_stream
from pgolf_codec.errors import VerificationError
from pgolf_codec.eval import decoder
from pgolf_codec.eval.receipt import CLAIMS, Receipt

ARCHIVE, ARTIFACT = "text.pgz", "model.pglm"
"""All that the folder of the other process holds."""

Text = str | os.PathLike[str] | bytes | bytearray | memoryview
"""A path, or the bytes themselves."""


class ArtifactModel(Model, Protocol):
    """A model that can hand out the file it came from."""

    @property
    def artifact(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder says, and how large the file on disk is."""

    sha256: str
    """Of the input."""
    n_bytes: int
    """Of the input."""
    entropy_bits: float
    coded_bits: int
    claimed_file_bytes: int
    """What the encoder counted while it wrote."""
    file_bytes: int
    """What the file system says."""
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
    text: Text,
    *,
    model: ArtifactModel | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Receipt:
    """See :func:`pgolf_codec.verify`."""
    if model is None or isinstance(model, str | os.PathLike):
        model = pgolf_codec.load_model(model)
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-") as name:
        folder = Path(name)
        (folder / ARTIFACT).write_bytes(model.artifact)
        encoded = encode(text, folder / ARCHIVE, model, threads, progress)
        decoded = decode_elsewhere(folder, threads)
    receipt = settle(encoded, decoded, model)
    if not receipt.verified:
        why = f" ({receipt.decoder_error})" if receipt.decoder_error else ""
        raise VerificationError(f"does not hold: {', '.join(receipt.failed)}{why}", receipt)
    return receipt


def encode(
    text: Text,
    archive: Path,
    model: Model,
    threads: int | None,
    progress: Progress | None = None,
) -> Encoded:
    """Write ``archive``; bits of frames that the model does not code count in full in both sums."""
    with _opened(text) as source, archive.open("wb") as sink:
        hashing = _Hashing(source)
        start = time.perf_counter()
        stats = compress_stream(hashing, sink, model=model, threads=threads, progress=progress)
        seconds = time.perf_counter() - start
    other_bits = 8 * sum(stats.payload_bytes[method] for method in (Method.STORED, Method.ZSTD))
    return Encoded(
        sha256=hashing.digest.hexdigest(),
        n_bytes=hashing.n_bytes,
        entropy_bits=stats.entropy_bits + other_bits,
        coded_bits=stats.coded_bits + other_bits,
        claimed_file_bytes=stats.file_bytes,
        file_bytes=archive.stat().st_size,
        seconds=seconds,
    )


def decode_elsewhere(folder: Path, threads: int | None) -> Decoded:
    """Let a fresh, isolated interpreter decode ``folder``; it is told of nothing else."""
    package_folder = str(Path(pgolf_codec.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", decoder.BOOT, package_folder, ARCHIVE, ARTIFACT]
        + [str(threads or 0)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if done.returncode == 0:
            return Decoded(**json.loads(done.stdout))
    except (ValueError, TypeError):
        pass
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    return Decoded("", 0, "", 0.0, error=f"exit status {done.returncode}: {last[0]}")


def check(encoded: Encoded, decoded: Decoded, fingerprint: str) -> dict[str, bool]:
    """Every claim, by its name in :data:`CLAIMS`; each can fail by itself."""
    claims = {
        "decoder_finished": not decoded.error,
        "digest_matches": decoded.sha256 == encoded.sha256,
        "size_matches": decoded.n_bytes == encoded.n_bytes,
        "model_matches": decoded.model_fingerprint == fingerprint,
        "file_size_is_on_disk": encoded.claimed_file_bytes == encoded.file_bytes,
        "coded_covers_entropy": encoded.entropy_bits <= encoded.coded_bits,
        "file_covers_coded": encoded.coded_bits <= 8 * encoded.file_bytes,
    }
    assert claims.keys() == CLAIMS.keys()
    return claims


def settle(encoded: Encoded, decoded: Decoded, model: ArtifactModel) -> Receipt:
    """Facts and claims into one receipt."""
    # Not the fingerprint that the model says it has: that of the bytes that were handed over.
    fingerprint = hashlib.sha256(model.artifact).hexdigest()
    claims = check(encoded, decoded, fingerprint)

    def bpb(bits: float) -> float | None:
        return bits / encoded.n_bytes if encoded.n_bytes else None

    return Receipt(
        input_sha256=encoded.sha256,
        input_bytes=encoded.n_bytes,
        model_name=model.name,
        model_fingerprint=fingerprint,
        model_bytes=len(model.artifact),
        entropy_bits=encoded.entropy_bits,
        coded_bits=encoded.coded_bits,
        file_bytes=encoded.file_bytes,
        bpb_entropy=bpb(encoded.entropy_bits),
        bpb_coded=bpb(encoded.coded_bits),
        bpb_file=bpb(8 * encoded.file_bytes),
        decoder_sha256=decoded.sha256,
        decoder_error=decoded.error,
        versions=versions(model),
        encode_seconds=encoded.seconds,
        decode_seconds=decoded.seconds,
        verified=all(claims.values()),
        claims=claims,
    )


def versions(model: Model) -> Mapping[str, str | int]:
    """Of everything that the numbers could depend on, though they must not."""
    return {
        "pgolf_codec": pgolf_codec.__version__,
        "format": FORMAT_VERSION,
        "numerics": model.predictor.numerics_version,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "platform": platform.platform(),
    }


class _Hashing:
    """A file to read that takes the digest of what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.n_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        self.n_bytes += len(block)
        return block


@contextlib.contextmanager
def _opened(text: Text) -> Iterator[BinaryIO]:
    if isinstance(text, str | os.PathLike):
        with open(text, "rb") as file:
            yield file
    else:
        yield io.BytesIO(text)
