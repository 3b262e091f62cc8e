"""The referee for many files, and for several processes under ``torchrun``.

Archives and artifact are written into an empty folder; every rank starts a fresh,
isolated Python process there, which decodes that rank's share of all frames and tells
their digests.  A file is verified when all of its frames have come back, and header,
index and digest of its archive are right.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pgolf_codec
from pgolf_codec.codec import batch
from pgolf_codec.codec.batch import Compressed, Job
from pgolf_codec.codec.frame_coder import FrameCoder
from pgolf_codec.codec.inspection import inspect
from pgolf_codec.codec.sharding import Ranks, together
from pgolf_codec.devices import adapting
from pgolf_codec.errors import FormatError, PgolfError
from pgolf_codec.eval.verify import ArtifactModel

ARTIFACT = "model.pglm"
BOOT = """\
import sys
sys.path.append(sys.argv[1])
from pgolf_codec.eval.batch import tell_share
tell_share(*sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class FileReceipt:
    """What is known of one file of a batch."""

    file: str
    sha256: str
    raw_bytes: int
    file_bytes: int
    bpb: float | None
    model_fingerprint: str
    verified: bool
    why: str
    """What does not hold."""


def verify_files(
    sources: Sequence[Path],
    *,
    model: ArtifactModel,
    coder: FrameCoder,
    ranks: Ranks,
    device: str | None = None,
    threads: int,
    streams: int | None = None,
    adapt: bool | None = None,
) -> list[FileReceipt]:
    """Compress ``sources``, decode them in other processes, compare: called by all ranks alike.

    ``coder`` codes the groups; ``device`` is where the other processes decode.  The
    folder for temporary files must be one that all ranks see.
    """
    with _folder(ranks) as folder:
        jobs = [
            Job(source, folder / f"{i}.pgz" if ranks.rank == 0 else None)
            for i, source in enumerate(sources)
        ]
        if ranks.rank == 0:
            (folder / ARTIFACT).write_bytes(model.blob)
        writing = adapting(model, device, adapt)
        compressed = list(batch.compress_files(
            jobs, model=writing, coder=coder, threads=threads, streams=streams
        ))  # fmt: skip
        ranks.all_gather(None)  # the archives are there
        share = (len(jobs), ranks.rank, ranks.size, device or "cpu", threads)
        shares = together(ranks, lambda: _decode_elsewhere(folder, share))
        decoded = {(archive, frame): digest for part in shares for archive, frame, digest in part}
        fingerprint = model.predictor.fingerprint.hex()
        receipts = together(ranks, lambda: [
            _settle(i, one, decoded, fingerprint, ranks) for i, one in enumerate(compressed)
        ])  # fmt: skip
        return receipts[0]


def tell_share(n_archives: str, rank: str, size: str, device: str, threads: str) -> None:
    """In the other process: a line of JSON for each frame of the share."""
    from pgolf_codec.devices import frame_coder
    from pgolf_codec.quant.artifact import load_artifact

    raws = batch.decode_share(
        [Path(f"{i}.pgz") for i in range(int(n_archives))],
        model=load_artifact(Path(ARTIFACT)),
        coder=frame_coder(device),
        threads=int(threads),
        rank=int(rank),
        size=int(size),
    )
    for archive, frame, raw in raws:
        print(json.dumps([archive, frame, batch.digest(raw)]), flush=True)


def _decode_elsewhere(folder: Path, share: tuple[int | str, ...]) -> list[tuple[int, int, str]]:
    """(archive, frame, digest) of the share, as a fresh interpreter tells."""
    package_folder = str(Path(pgolf_codec.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", BOOT, package_folder, *map(str, share)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise PgolfError(f"the decoding process ended with {done.returncode}: {last[0]}")
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def _settle(
    archive: int,
    one: Compressed,
    decoded: dict[tuple[int, int], str],
    fingerprint: str,
    ranks: Ranks,
) -> FileReceipt:
    """One file's receipt; only rank 0 has the archive to look at."""
    why = ""
    n_frames = len(one.frame_digests)
    if [decoded.get((archive, frame)) for frame in range(n_frames)] != one.frame_digests:
        why = "other bytes came back"
    elif one.job.target is not None:
        why = _misfit(one)
    stats = one.stats
    return FileReceipt(
        file=str(one.job.source),
        sha256=one.sha256,
        raw_bytes=stats.raw_bytes,
        file_bytes=stats.file_bytes,
        bpb=8 * stats.file_bytes / stats.raw_bytes if stats.raw_bytes else None,
        model_fingerprint=fingerprint,
        verified=not why,
        why=why,
    )


def _misfit(one: Compressed) -> str:
    """What header, index and footer of an archive say that is not so."""
    assert one.job.target is not None
    try:
        (member,) = inspect(one.job.target).members
    except FormatError as error:
        return str(error)
    if one.job.target.stat().st_size != one.stats.file_bytes:
        return "the file's size is not what was counted"
    if not one.sha256.startswith(member.digest.hex()):
        return "the archive's digest is not that of the file"
    return "" if len(member.frames) == len(one.frame_digests) else "frames are missing"


@contextmanager
def _folder(ranks: Ranks) -> Iterator[Path]:
    """An empty folder that rank 0 makes and removes."""
    if ranks.rank:
        yield Path(ranks.all_gather("")[0])
        ranks.all_gather(None)
        return
    with TemporaryDirectory(prefix="pgolf-codec-") as name:
        ranks.all_gather(name)
        yield Path(name)
        ranks.all_gather(None)  # nobody needs it any more
