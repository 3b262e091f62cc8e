"""The challenge's data sets from the hub: driven by their manifest, resumed, checked.

A file is downloaded into ``.NAME.ETAG.partial`` beside its place, from where an earlier
attempt stopped, and takes its name when its digest is the one that the hub stated before
(SHA-256 of large files, git's SHA-1 of small ones).  ``downloads.json`` remembers what
was checked: files that are there and unchanged are not asked for again, so a command
that was completed once also works offline.

Data sets of several repositories may share a folder: each one's manifest is kept in
``manifests``, and ``manifest.json`` has the data sets and tokenizers of all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf_codec.errors import ConfigError, CorruptError, DownloadError, MissingPackageError
from pgolf_codec.files import replacing
from pgolf_codec.lm.data.manifest import (
    NAME,
    SPLITS,
    DatasetEntry,
    dataset_entry,
    join_manifests,
    read_manifest,
)
from pgolf_codec.lm.data.shards import open_shard, shard_name
from pgolf_codec.lm.data.variants import HubSource

STEM = "fineweb"
_RECORD = "downloads.json"
_ATTEMPTS = 4
"""At one file, each from where the last one stopped; the library may have its own."""


Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """A repository of data sets at one revision, and the folder that its files go to."""

    source: HubSource
    folder: Path
    revision: str = "main"
    endpoint: str | None = None
    """None is the library's own choice: ``HF_ENDPOINT``, or the public hub."""
    report: Report = lambda line: None

    @property
    def own_manifest(self) -> Path:
        """The repository's manifest as it is."""
        return self.folder / "manifests" / f"{self.source.repository.replace('/', '--')}.json"

    def key(self, name: str) -> str:
        """What ``downloads.json`` calls a file."""
        return f"{self.source.repository}@{self.revision}/{self.source.prefix}/{name}"


def download_variant(hub: Hub, train_shards: int) -> Path:
    """The validation split, ``train_shards`` shards to train on, and the tokenizer.

    Returns the folder of the data set, ``FOLDER/datasets/NAME``.  Raises
    :class:`DownloadError`, :class:`MissingPackageError`, :class:`ConfigError` for more
    shards than there are, and :class:`CorruptError` for shards or manifests that are none.
    """
    if train_shards < 0:
        raise ConfigError(f"there are no {train_shards} shards to train on")
    manifest = hub.folder / NAME
    join_manifests(manifest, fetch(hub, NAME, hub.own_manifest))
    entry = dataset_entry(manifest, hub.source.dataset)
    if train_shards > entry.n_shards["train"]:
        raise ConfigError(
            f"{entry.name} has {entry.n_shards['train']} shards to train on, not {train_shards}"
        )
    wanted = {"val": entry.n_shards["val"], "train": train_shards}
    tokenizer_files = _tokenizer_files(manifest, entry)
    for name in tokenizer_files:
        fetch(hub, name)
    if not tokenizer_files:
        hub.report(f"{manifest}: names no tokenizer, without which bytes can't be told")
    for split in SPLITS:
        for index in range(wanted[split]):
            name = shard_name(STEM, split, index)
            open_shard(fetch(hub, f"datasets/{entry.name}/{name}"))
    return entry.folder


def fetch(hub: Hub, name: str, path: Path | None = None) -> Path:
    """One file of the repository, below its prefix, as ``path`` or ``FOLDER/NAME``.

    It is left alone if it was checked before and has not changed since.  Raises
    :class:`DownloadError` with the file, or :class:`MissingPackageError`.
    """
    path = path or hub.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    record = _read_record(hub.folder / _RECORD)
    checked = record.get(hub.key(name))
    if checked is not None and checked.get("state") == _state(path):
        return path
    remote = f"{hub.source.prefix}/{name}" if hub.source.prefix else name
    with _named(hub, remote):
        digest, n_bytes = _download(hub, remote, path)
    record[hub.key(name)] = {"etag": digest, "state": _state(path)}
    with replacing(hub.folder / _RECORD, overwrite=True) as file:
        file.write(json.dumps(record, indent=1, sort_keys=True).encode())
    hub.report(f"{name}: {n_bytes:,} bytes, checked")
    return path


def _download(hub: Hub, remote: str, path: Path) -> tuple[str, int]:
    """Get one file, resumed, and check it; returns the digest that holds, and its size."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(
        hub.source.repository,
        remote,
        repo_type="dataset",
        revision=hub.revision,
        endpoint=hub.endpoint,
    )
    facts = get_hf_file_metadata(url)
    if facts.etag is None or facts.size is None:
        raise DownloadError(f"{url}: the hub states no size or no digest")
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", facts.etag):
        raise DownloadError(f"{url}: {facts.etag!r} is not a digest")
    if _state(path) is not None and _digest(path, facts.etag) == facts.etag:
        return facts.etag, facts.size
    partial = path.with_name(f".{path.name}.{facts.etag[:16]}.partial")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue(url, partial, facts.size)
            break
        except errors.HfHubHTTPError:  # an answer, and no lost connection
            raise
        except (errors.HTTPError, OSError):
            if attempt == _ATTEMPTS:
                raise
    if _digest(partial, facts.etag) != facts.etag:
        partial.unlink()
        raise DownloadError(f"{url}: these are not the bytes whose digest the hub states")
    os.replace(partial, path)
    return facts.etag, facts.size


def _continue(url: str, partial: Path, n_bytes: int) -> None:
    """Append what is missing of ``n_bytes``; all anew if the file has become too long."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with partial.open("ab") as file:
        if file.tell() > n_bytes:  # of a server that ignored the range
            file.truncate(0)
        http_get(
            url,
            file,
            resume_size=file.seek(0, os.SEEK_END),
            headers=build_hf_headers(),
            expected_size=n_bytes,
            displayed_filename=partial.name.split(".")[1],
        )
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _named(hub: Hub, remote: str) -> Iterator[None]:
    """Turn what the library raises into :class:`DownloadError`, said in our terms."""
    try:
        from huggingface_hub import errors
    except ImportError:
        raise MissingPackageError(
            "downloads need huggingface_hub: pip install 'pgolf-codec[data]'"
        ) from None
    what = f"{hub.source.repository}: {remote}"
    try:
        yield
    except errors.EntryNotFoundError:
        raise DownloadError(f"{what}: the repository has no such file") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(f"{what}: no such repository, or a private one") from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{what}: the repository has no revision {hub.revision!r}") from None
    except errors.OfflineModeIsEnabled:
        raise DownloadError(f"{what}: not here, and HF_HUB_OFFLINE forbids to get it") from None
    except errors.HFValidationError as error:
        raise DownloadError(f"{what}: {error}") from None
    except (errors.HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"{what}: can't be had ({reason}); what came is kept, and the same command goes on"
        ) from None


def _tokenizer_files(manifest: Path, entry: DatasetEntry) -> list[str]:
    """The tokenizer's files as the manifest names them, below the prefix."""
    values = read_manifest(manifest)
    name = next(d["tokenizer_name"] for d in values["datasets"] if d["name"] == entry.name)
    tokenizers = {item["name"]: item for item in values["tokenizers"]}
    tokenizer: dict[str, Any] = tokenizers.get(name, {})
    files = [tokenizer[key] for key in ("model_path", "vocab_path", "path") if tokenizer.get(key)]
    for file in files:
        if not isinstance(file, str) or Path(file).is_absolute() or ".." in Path(file).parts:
            raise CorruptError(f"{manifest}: {file!r} is not a file of the repository")
    return files


def _digest(path: Path, like: str) -> str:
    """SHA-256 of a file, or git's SHA-1 of a blob if ``like`` is one, in hex."""
    digest: Any = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


def _state(path: Path) -> list[int] | None:
    """Size and time of a file; None if it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_record(path: Path) -> dict[str, Any]:
    """What was checked before; nothing if the record can't be read."""
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
