"""Downloads of the challenge's data, from a hub on loopback that can misbehave."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_stand_in import Repository, serving

from pgolf_codec.errors import ConfigError, CorruptError, DownloadError, FormatError
from pgolf_codec.lm.data.dataset import open_dataset
from pgolf_codec.lm.data.hub import Hub, download_variant
from pgolf_codec.lm.data.shards import TokenStream, open_shard, shard_header, split_paths
from pgolf_codec.lm.data.variants import HubSource

pytest.importorskip("huggingface_hub")

NAME = "fineweb10B_sp1024"
TRAIN = f"datasets/datasets/{NAME}/fineweb_train_00000"
MANIFEST: dict[str, Any] = {
    "version": "10B",
    "tokenizers": [{"name": "sp_bpe_1024", "model_path": "tokenizers/fineweb_1024_bpe.model"}],
    "datasets": [
        {"name": "other", "tokenizer_name": "sp_bpe_1024", "stats": {}},
        {
            "name": NAME,
            "tokenizer_name": "sp_bpe_1024",
            "stats": {"files_train": 4, "files_val": 1},
        },
    ],
}
MANIFEST_STATS = MANIFEST["datasets"][1]["stats"]


def shard(n_tokens: int, first: int = 0) -> bytes:
    return shard_header(n_tokens) + np.arange(first, first + n_tokens).astype("<u2").tobytes()


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Four training shards are promised, three are there."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 12)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    files = {
        "datasets/manifest.json": json.dumps(MANIFEST).encode(),
        "datasets/tokenizers/fineweb_1024_bpe.model": b"a model",
        f"datasets/datasets/{NAME}/fineweb_val_000000.bin": shard(500),
    }
    files |= {f"{TRAIN}{i}.bin": shard(20000, first=i) for i in range(3)}
    with serving(Repository("some/where", files, small={"datasets/manifest.json"})) as repository:
        yield repository


def hub(repository: Repository, folder: Path, **changes: Any) -> Hub:
    source = HubSource("some/where", NAME)
    return Hub(**{"source": source, "folder": folder, "endpoint": repository.endpoint, **changes})


def test_a_download(repository: Repository, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = download_variant(hub(repository, tmp_path, report=lines.append), 2)
    assert folder == tmp_path / "datasets" / NAME
    assert (tmp_path / "tokenizers/fineweb_1024_bpe.model").read_bytes() == b"a model"
    assert len(TokenStream(split_paths(folder, "train"))) == 40000
    assert open_shard(folder / "fineweb_train_000001.bin")[0] == 1
    assert len(lines) == 5
    assert not list(tmp_path.rglob("*.partial"))


def test_what_was_checked_is_not_asked_for_again(repository: Repository, tmp_path: Path) -> None:
    folder = download_variant(hub(repository, tmp_path), 1)
    repository.requests.clear()
    download_variant(hub(repository, tmp_path), 1)
    assert repository.requests == []
    download_variant(hub(repository, tmp_path), 2)
    assert {name for _, name, _ in repository.requests} == {f"{TRAIN}1.bin"}
    # A file that has changed since is compared, and had again.
    damaged = folder / "fineweb_train_000000.bin"
    damaged.write_bytes(shard(20000, first=9))
    download_variant(hub(repository, tmp_path), 1)
    assert damaged.read_bytes() == repository.files[f"{TRAIN}0.bin"]


def test_data_sets_of_two_repositories_share_a_folder(
    repository: Repository, tmp_path: Path
) -> None:
    """As those of 1,024 and of 4,096 symbols do, which other people publish."""
    one = download_variant(hub(repository, tmp_path), 1)
    assert (tmp_path / "manifest.json").read_bytes() == repository.files["datasets/manifest.json"]
    name = "fineweb10B_sp4096"
    manifest = {
        "tokenizers": [{"name": "four", "model_path": "tokenizers/four.model"}],
        "datasets": [{"name": name, "tokenizer_name": "four", "stats": MANIFEST_STATS}],
    }
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "tokenizers/four.model": b"another model",
        f"datasets/{name}/fineweb_val_000000.bin": shard(300),
        f"datasets/{name}/fineweb_train_000000.bin": shard(700),
    }
    with serving(Repository("else/where", files)) as second:
        source = HubSource("else/where", name, prefix="")
        other = Hub(source=source, folder=tmp_path, endpoint=second.endpoint)
        two = download_variant(other, 1)
        for folder, n_tokens, model in ((one, 20000, b"a model"), (two, 700, b"another model")):
            data = open_dataset(folder)
            assert len(data.train) == n_tokens
            assert data.tokenizer_file is not None
            assert data.tokenizer_file.read_bytes() == model
        repository.requests.clear()
        second.requests.clear()
        download_variant(hub(repository, tmp_path), 1)
        download_variant(other, 1)
        assert repository.requests == second.requests == []


def test_files_from_elsewhere_are_checked_not_downloaded(
    repository: Repository, tmp_path: Path
) -> None:
    folder = download_variant(hub(repository, tmp_path), 0)
    (folder / "fineweb_train_000000.bin").write_bytes(repository.files[f"{TRAIN}0.bin"])
    download_variant(hub(repository, tmp_path), 1)
    assert repository.gets(f"{TRAIN}0.bin") == []


def test_a_lost_connection_is_resumed(repository: Repository, tmp_path: Path) -> None:
    repository.break_off[f"{TRAIN}0.bin"] = [12345, 20000]
    folder = download_variant(hub(repository, tmp_path), 1)
    assert (folder / "fineweb_train_000000.bin").read_bytes() == repository.files[f"{TRAIN}0.bin"]
    first, *rest = repository.gets(f"{TRAIN}0.bin")
    assert first is None
    starts = [int((wanted or "").removeprefix("bytes=").split("-")[0]) for wanted in rest]
    assert len(starts) == 2
    assert 8192 <= starts[0] <= 12345
    assert 20000 <= starts[1] <= 32345


@pytest.mark.parametrize("no_ranges", [False, True])
def test_an_attempt_that_failed_is_continued_by_the_next(
    repository: Repository, tmp_path: Path, no_ranges: bool
) -> None:
    repository.break_off[f"{TRAIN}0.bin"] = [10000] + [0] * 60
    with pytest.raises(DownloadError, match=r"fineweb_train_000000\.bin: can't be had"):
        download_variant(hub(repository, tmp_path), 1)
    (partial,) = tmp_path.rglob("*.partial")
    there = partial.stat().st_size
    assert 8192 <= there <= 10000
    assert repository.files[f"{TRAIN}0.bin"].startswith(partial.read_bytes())
    repository.break_off.clear()
    repository.requests.clear()
    repository.no_ranges = no_ranges
    folder = download_variant(hub(repository, tmp_path), 1)
    ranges = repository.gets(f"{TRAIN}0.bin")
    assert (ranges[0] or "").startswith(f"bytes={there}-")
    assert len(ranges) == 1 or no_ranges
    assert (folder / "fineweb_train_000000.bin").read_bytes() == repository.files[f"{TRAIN}0.bin"]


def test_a_partial_file_that_is_too_long_is_begun_anew(
    repository: Repository, tmp_path: Path
) -> None:
    """What is left where a server ignored the range, and sent all once more."""
    name = f"{TRAIN}0.bin"
    place = tmp_path / "datasets" / NAME / "fineweb_train_000000.bin"
    place.parent.mkdir(parents=True)
    partial = place.with_name(f".{place.name}.{repository.etag(name)[:16]}.partial")
    partial.write_bytes(repository.files[name] + b"more")
    download_variant(hub(repository, tmp_path), 1)
    assert place.read_bytes() == repository.files[name]
    assert repository.gets(name) == [None]


@pytest.mark.parametrize("name", [f"{TRAIN}0.bin", "datasets/manifest.json"])
def test_other_bytes_than_promised(repository: Repository, tmp_path: Path, name: str) -> None:
    data = repository.files[name]
    repository.other_bytes[name] = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
    with pytest.raises(DownloadError, match="not the bytes whose digest"):
        download_variant(hub(repository, tmp_path), 1)
    assert not list(tmp_path.rglob("*.partial"))
    assert not (tmp_path / name.removeprefix("datasets/")).exists()


def test_a_shard_that_is_short_but_has_its_digest(repository: Repository, tmp_path: Path) -> None:
    repository.files[f"{TRAIN}0.bin"] = shard(20000)[:-2]
    with pytest.raises(FormatError, match=r"fineweb_train_000000\.bin: 41022 bytes of 41024"):
        download_variant(hub(repository, tmp_path), 1)


def test_missing_files_and_too_many_shards(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no -1 shards"):
        download_variant(hub(repository, tmp_path / "none"), -1)
    assert not (tmp_path / "none").exists()  # nothing was asked for
    with pytest.raises(DownloadError, match=r"fineweb_train_000003\.bin: .* no such file"):
        download_variant(hub(repository, tmp_path), 4)
    with pytest.raises(ConfigError, match="has 4 shards to train on, not 5"):
        download_variant(hub(repository, tmp_path), 5)
    with pytest.raises(
        ConfigError, match="no data set 'nothing'; known are fineweb10B_sp1024, other"
    ):
        download_variant(hub(repository, tmp_path, source=HubSource("some/where", "nothing")), 1)
    with pytest.raises(DownloadError, match="Repo id must be"):
        download_variant(hub(repository, tmp_path / "b", source=HubSource("a///b", NAME)), 1)
    elsewhere = HubSource("no/where", NAME)
    with pytest.raises(DownloadError, match="no such repository"):
        download_variant(hub(repository, tmp_path / "a", source=elsewhere), 1)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_a_manifest_that_leads_out_of_the_folder(
    repository: Repository, tmp_path: Path, path: str
) -> None:
    tokenizers = [{"name": "sp_bpe_1024", "model_path": path}]
    repository.files["datasets/manifest.json"] = json.dumps(
        {**MANIFEST, "tokenizers": tokenizers}
    ).encode()
    with pytest.raises(CorruptError):
        download_variant(hub(repository, tmp_path / "data"), 1)


@pytest.mark.parametrize("n", [-1, float("inf"), "two"])
def test_a_manifest_with_an_impossible_number_of_shards(
    repository: Repository, tmp_path: Path, n: Any
) -> None:
    entry = {**MANIFEST["datasets"][1], "stats": {"files_train": 4, "files_val": n}}
    repository.files["datasets/manifest.json"] = json.dumps(
        {**MANIFEST, "datasets": [entry]}
    ).encode()
    with pytest.raises(CorruptError, match="not a manifest of token shards"):
        download_variant(hub(repository, tmp_path), 1)


def test_a_manifest_that_names_no_tokenizer(repository: Repository, tmp_path: Path) -> None:
    repository.files["datasets/manifest.json"] = json.dumps({**MANIFEST, "tokenizers": []}).encode()
    lines: list[str] = []
    download_variant(hub(repository, tmp_path, report=lines.append), 1)
    assert any("names no tokenizer" in line for line in lines)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        repository = Repository("some/where", {})
        repository.endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DownloadError, match=r"datasets/manifest\.json: can't be had"):
            download_variant(hub(repository, tmp_path), 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"manifest\.json"):
        download_variant(hub(repository, tmp_path), 1)


def test_the_verb_takes_the_hub_from_the_environment(
    repository: Repository, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pgolf_codec", "data", "fineweb", "--variant", "sp1024"]
    command += ["-o", str(tmp_path), "--repository", "some/where", "--train-shards"]
    environment = {**os.environ, "HF_ENDPOINT": repository.endpoint, "NO_PROXY": "127.0.0.1"}

    def run(n_shards: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(n_shards)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = run(1)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'datasets' / NAME}\n"), done.stderr
    refused = run(9)
    assert refused.returncode == 1
    assert "has 4 shards to train on, not 9" in refused.stderr
