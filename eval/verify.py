"""The referee: a size counts when another process returns the bytes from what lies on disk.

Encode; write archive and artifact into an empty folder; start a Python process that
is told of these two files only; compare what it decoded with what went in; check
every number of the receipt that can be checked.

As a program it is the verb ``verify``, by all ranks of ``torchrun`` where there are some.
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
from typing import Any, BinaryIO, Protocol

import pgolf_codec
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.container import FORMAT_VERSION
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.stream import Progress, compress_stream
from pgolf_codec.errors import VerificationError
from pgolf_codec.eval import decoder
from pgolf_codec.eval.bpb import Sizes
from pgolf_codec.eval.receipt import CLAIMS, Receipt

ARCHIVE, ARTIFACT = "text.pgz", "model.pglm"
"""All that the folder of the other process holds."""

LUCK_BITS = 64
"""A stream ends at the last byte that its decoder can't guess, so a lucky one takes a
little less than its entropy; never by more than this over a whole archive."""

Text = str | os.PathLike[str] | bytes | bytearray | memoryview
"""A path, or the bytes themselves."""


class ArtifactModel(Model, Protocol):
    """A model that can hand out the file it came from."""

    @property
    def blob(self) -> bytes:
        """All bytes of the artifact."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """What went in, and what the encoder says of the archive that it wrote."""

    sha256: str
    n_bytes: int
    sizes: Sizes
    """As the encoder counted them."""
    disk_bytes: int
    """The archive's size as the file system tells it."""
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
    adapt: bool = True,
) -> Receipt:
    """See :func:`pgolf_codec.verify`."""
    if model is None or isinstance(model, str | os.PathLike):
        model = pgolf_codec.load_model(model)
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-") as name:
        folder = Path(name)
        (folder / ARTIFACT).write_bytes(model.blob)
        writing = adapted(model) if adapt else model
        encoded = encode(text, folder / ARCHIVE, writing, threads, progress)
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
    threads: int | None = None,
    progress: Progress | None = None,
) -> Encoded:
    """Write ``archive``, and take the digest of the input on its way."""
    with _opened(text) as source, archive.open("wb") as sink:
        hashing = _Hashing(source)
        start = time.perf_counter()
        stats = compress_stream(hashing, sink, model=model, threads=threads, progress=progress)
        seconds = time.perf_counter() - start
    return Encoded(
        sha256=hashing.digest.hexdigest(),
        n_bytes=hashing.n_bytes,
        sizes=Sizes.of(stats),
        disk_bytes=archive.stat().st_size,
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
    sizes = encoded.sizes
    claims = {
        "decoder_finished": not decoded.error,
        "digest_matches": decoded.sha256 == encoded.sha256,
        "size_matches": decoded.n_bytes == encoded.n_bytes == sizes.raw_bytes,
        "model_matches": decoded.model_fingerprint == fingerprint,
        "file_size_is_on_disk": sizes.file_bytes == encoded.disk_bytes,
        "coded_covers_entropy": sizes.entropy_bits <= sizes.coded_bits + LUCK_BITS,
        "file_covers_coded": sizes.coded_bits <= 8 * encoded.disk_bytes,
    }
    assert claims.keys() == CLAIMS.keys()
    return claims


def settle(encoded: Encoded, decoded: Decoded, model: ArtifactModel) -> Receipt:
    """Facts and claims into one receipt."""
    fingerprint = model.predictor.fingerprint.hex()
    claims = check(encoded, decoded, fingerprint)
    return Receipt(
        model_name=model.name,
        model_fingerprint=fingerprint,
        model_bytes=model.n_bytes,
        versions=versions(model),
        **measured(encoded, decoded, claims),
    )


def measured(encoded: Encoded, decoded: Decoded, claims: Mapping[str, bool]) -> dict[str, Any]:
    """What every receipt has, whoever the model is: fields of ``Receipt``, by their names."""
    sizes = encoded.sizes
    return {
        "input_sha256": encoded.sha256,
        "input_bytes": encoded.n_bytes,
        "entropy_bits": sizes.entropy_bits,
        "coded_bits": sizes.coded_bits,
        "file_bytes": sizes.file_bytes,
        "bpb_entropy": sizes.bpb_entropy,
        "bpb_coded": sizes.bpb_coded,
        "bpb_file": sizes.bpb_file,
        "decoder_sha256": decoded.sha256,
        "decoder_error": decoded.error,
        "encode_seconds": encoded.seconds,
        "decode_seconds": decoded.seconds,
        "verified": all(claims.values()),
        "claims": claims,
    }


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


if __name__ == "__main__":  # torchrun --nproc_per_node=N -m pgolf_codec.eval.verify ...
    from pgolf_codec.cli import main

    sys.exit(main(["verify", *sys.argv[1:]]))
