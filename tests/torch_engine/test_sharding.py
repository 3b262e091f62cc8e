"""Frames dealt to several processes make the files of one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny_model import PROSE

from pgolf_codec.cli import main
from pgolf_codec.codec import stream
from pgolf_codec.codec.batch import Job, compress_files, decode_share
from pgolf_codec.codec.frame_coder import ONE_BY_ONE, OneByOne
from pgolf_codec.codec.sharding import OneRank, ShardedCoder, together
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import CorruptError, RefusedError
from pgolf_codec.eval.batch import verify_files
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant.artifact import LoadedModel, dump_artifact, load_artifact

FRAME = 1024
RANKS = Path(__file__).with_name("ranks.py")


class ThreadRanks:
    """A job whose ranks are threads."""

    def __init__(self, rank: int, size: int, shared: dict[str, Any]) -> None:
        self.rank, self.size, self._shared = rank, size, shared

    def all_gather(self, mine: Any) -> list[Any]:
        self._shared["table"][self.rank] = pickle.dumps(mine)  # as torch does
        self._shared["barrier"].wait(60)
        found = [pickle.loads(one) for one in self._shared["table"]]
        self._shared["barrier"].wait(60)
        return found


def on_ranks(size: int, work: Any) -> list[Any]:
    """What ``work(ranks)`` returns or raises on each of ``size`` ranks."""
    shared = {"table": [None] * size, "barrier": threading.Barrier(size)}
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadRanks(rank, size, shared))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Counting(OneByOne):
    """Knows how many frames it was given."""

    n_frames = 0

    def encode(self, raws: Any, model: Any, **options: Any) -> Any:
        self.n_frames += len(raws)
        return super().encode(raws, model, **options)

    def decode(self, coded: Any, **options: Any) -> Any:
        self.n_frames += len(coded)
        return super().decode(coded, **options)


@pytest.fixture(scope="session")
def model(tiny: IntegerWeights, tokenizer: Tokenizer) -> LoadedModel:
    return load_artifact(dump_artifact(tiny, tokenizer, name="tiny"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents of several frames, of one, of none; one in a folder of its own."""
    text = PROSE.encode() * 3
    sizes = {"a": 3 * FRAME + 100, "b": 10, "c": 0, "d/a": FRAME, "e": 500}
    for name, size in sizes.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text[size : 2 * size])
    return tmp_path / "in"


def test_every_rank_does_its_share(model: LoadedModel) -> None:
    data = PROSE.encode()[: 5 * FRAME]
    expected = stream.compress(data, model=model, frame_bytes=FRAME)
    n_frames = -(-len(data) // FRAME)

    def work(ranks: ThreadRanks) -> Any:
        one = Counting()
        coder = ShardedCoder(one, ranks)
        blob = stream.compress(data, model=model, frame_bytes=FRAME, coder=coder)
        return blob, stream.decompress(blob, model=model, coder=coder), one.n_frames

    found = on_ranks(3, work)
    assert [blob for blob, _, _ in found] == [expected] * 3
    assert [raw for _, raw, _ in found] == [data] * 3
    assert sum(n for _, _, n in found) == 2 * n_frames
    assert all(n > 0 for _, _, n in found[: min(3, n_frames)])


@pytest.mark.parametrize(
    "error",
    [CorruptError("rank 1 says so"), RefusedError("rank 1", "says so"), OSError(28, "full")],
)
def test_the_failure_of_one_is_the_failure_of_all(error: Exception) -> None:
    def work(ranks: ThreadRanks) -> Any:
        def fail() -> int:
            if ranks.rank == 1:
                raise error
            return ranks.rank

        return together(ranks, fail)

    found = on_ranks(3, work)
    assert [(type(one), str(one)) for one in found] == [(type(error), str(error))] * 3


def test_a_batch_writes_what_each_file_has_by_itself(
    model: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    sources = sorted(path for path in folder.rglob("*") if path.is_file())
    jobs = [Job(path, tmp_path / f"{i}.pgz") for i, path in enumerate(sources)]
    done = list(compress_files(
        jobs, model=model, coder=ONE_BY_ONE, threads=1, frame_bytes=FRAME
    ))  # fmt: skip
    for one in done:
        assert one.job.target is not None
        archive = one.job.target.read_bytes()
        raw = one.job.source.read_bytes()
        assert archive == stream.compress(raw, model=model, frame_bytes=FRAME)
        assert one.stats.file_bytes == len(archive)
    found: dict[tuple[int, int], bytes] = {}
    shares: list[list[tuple[int, int]]] = [[], []]
    for rank in range(2):
        for archive, frame, raw in decode_share(
            [tmp_path / f"{i}.pgz" for i in range(len(jobs))],
            model=model, coder=ONE_BY_ONE, threads=1, rank=rank, size=2,
        ):  # fmt: skip
            assert (archive, frame) not in found
            found[archive, frame] = raw
            shares[rank].append((archive, frame))
    assert shares == [sorted(found)[0::2], sorted(found)[1::2]]  # frames are dealt, not files
    for i, path in enumerate(sources):
        raw = path.read_bytes()
        n = -(-len(raw) // FRAME)
        assert b"".join(found.pop((i, frame)) for frame in range(n)) == raw
    assert not found


def test_an_error_leaves_no_file(model: LoadedModel, folder: Path, tmp_path: Path) -> None:
    jobs = [Job(folder / "a", tmp_path / "1.pgz"), Job(folder / "none", tmp_path / "2.pgz")]
    jobs.append(Job(folder / "b", tmp_path / "3.pgz"))
    with pytest.raises(FileNotFoundError):
        list(compress_files(jobs, model=model, coder=ONE_BY_ONE, threads=1))
    assert sorted(tmp_path.glob("*.pgz")) in ([], [tmp_path / "1.pgz"])
    assert not [path for path in tmp_path.iterdir() if path.suffix not in ("", ".pgz")]


def test_an_archive_that_is_there_stays(model: LoadedModel, folder: Path, tmp_path: Path) -> None:
    """Also one that came about after the first look."""
    target = tmp_path / "b.pgz"
    target.write_bytes(b"mine")
    jobs = [Job(folder / "b", target)]
    with pytest.raises(RefusedError, match="already exists"):
        list(compress_files(jobs, model=model, coder=ONE_BY_ONE, threads=1))
    assert target.read_bytes() == b"mine"
    list(compress_files(jobs, model=model, coder=ONE_BY_ONE, threads=1, overwrite=True))
    assert stream.decompress(target.read_bytes(), model=model) == (folder / "b").read_bytes()


def test_a_full_disk_is_named(model: LoadedModel, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "full.pgz"
    target.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as error:
        list(compress_files([Job(folder / "b", target)], model=model, coder=ONE_BY_ONE,
                            threads=1, overwrite=True))  # fmt: skip
    assert error.value.filename == str(target)


def test_a_batch_is_verified_and_a_liar_is_found(
    model: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sorted(path for path in folder.rglob("*") if path.is_file())

    def receipts() -> list[Any]:
        return verify_files(sources, model=model, coder=ONE_BY_ONE, ranks=OneRank(), threads=1)

    assert [receipt.verified for receipt in receipts()] == [True] * 5
    assert [Path(receipt.file) for receipt in receipts()] == sources
    encode = OneByOne.encode

    def lying(self: OneByOne, raws: Any, *arguments: Any, **options: Any) -> Any:
        return encode(self, [raw[:-1] + b"!" for raw in raws], *arguments, **options)

    monkeypatch.setattr(OneByOne, "encode", lying)
    with pytest.raises(Exception, match="decoding process ended"):  # checks of raw bytes
        receipts()


def test_two_ranks_of_torchrun(model: LoadedModel, folder: Path, tmp_path: Path) -> None:
    """The real thing on gloo: torch on both ranks, against one process of numba."""
    artifact = tmp_path / "tiny.pglm"
    artifact.write_bytes(model.blob)
    options = ["--no-adapt", "--streams", "60", "-m", str(artifact), str(folder)]
    assert main(["compress-all", "-q", *options, "-o", str(tmp_path / "one")]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         str(RANKS), str(tmp_path / "two"), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.pgz")
        }
        for name in ("one", "two")
    )
    assert len(one) == 5
    assert one == two
    receipts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [receipt["verified"] for receipt in receipts] == [True] * 5


def test_what_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "e.pgz").write_bytes(b"mine")
    for paths, why in (
        ([folder], "exists already"),
        ([tmp_path / "none"], "neither"),
        ([folder / "a", folder / "d", "-o", tmp_path / "out"], "twice"),
    ):
        assert main(["compress-all", "-q", *map(str, paths)]) == 1
        assert why in capsys.readouterr().err
    assert (folder / "e.pgz").read_bytes() == b"mine"
    assert sorted(path.name for path in folder.rglob("*.pgz")) == ["e.pgz"]
