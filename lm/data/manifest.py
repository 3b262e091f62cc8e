"""What a data set says of itself: ``manifest.json``, and the check that it needs.

The layout is that of the challenge's exports, so that one reader serves both::

    ROOT/manifest.json
    ROOT/tokenizers/*.model
    ROOT/datasets/NAME/STEM_{train,val}_000000.bin ...
    ROOT/datasets/NAME/documents_{train,val}.bin      ours: a hash a document

What is ours is in the keys "shards" and "documents" of a data set, and in "sources".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import ConfigError, CorruptError, OverlapError
from pgolf_codec.files import replacing

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("val", "train")

NAME = "manifest.json"
HASH_BYTES = 16
_BLOCK = 1 << 20


def document_hash(document: bytes) -> bytes:
    """16 bytes: SHA-256, cut, of the text with every run of ASCII white space as one blank.

    White space at the ends does not count either, so that a document is known again
    whichever way it was joined to others.
    """
    return hashlib.sha256(fold(document)).digest()[:HASH_BYTES]


def fold(text: bytes) -> bytes:
    """Every run of ASCII white space as one blank, none at the ends."""
    return b" ".join(text.split())


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard of a data set."""

    name: str
    n_tokens: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetEntry:
    """One data set of a manifest; what a foreign manifest does not state is empty or None."""

    root: Path
    name: str
    tokenizer_file: Path | None
    case_operators: int
    """Version of the operators that its text is written with; 0: none."""
    n_shards: dict[Split, int]
    shards: dict[Split, tuple[ShardEntry, ...]]
    document_files: dict[Split, Path]
    """Files of :data:`HASH_BYTES` a document, in the order of the documents."""

    @property
    def folder(self) -> Path:
        return self.root / "datasets" / self.name


def find_manifest(folder: Path) -> Path | None:
    """The manifest that speaks of the data set in ``folder``; None if there is none."""
    candidates = (folder / NAME, folder.parent.parent / NAME)
    return next((path for path in candidates if path.is_file()), None)


def read_manifest(path: Path) -> dict[str, Any]:
    """The JSON object; raises :class:`CorruptError` if it is none."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise CorruptError(f"{path}: not a JSON object")
    return values


def join_manifests(path: Path, newer: Path) -> None:
    """Add what the manifest ``newer`` has to that at ``path``, whose other data sets and
    tokenizers stay; without such a one it is copied.

    Raises :class:`CorruptError` if ``newer`` is not of this form.
    """
    ours, theirs = {}, read_manifest(newer)
    with contextlib.suppress(FileNotFoundError, CorruptError):
        ours = read_manifest(path)
    try:
        joined = {**ours, **theirs} | {
            key: _by_name(ours.get(key, ()), theirs[key]) for key in ("datasets", "tokenizers")
        }
    except (KeyError, TypeError) as error:
        raise CorruptError(f"{newer}: not a manifest of token shards: {error!r}") from None
    if joined == ours:
        return
    with replacing(path, overwrite=True) as file:
        whole = json.dumps(joined, indent=1).encode() + b"\n"
        file.write(whole if joined != theirs else newer.read_bytes())


def _by_name(older: Any, newer: Any) -> list[Any]:
    names = {item["name"] for item in newer}
    return [*newer, *(item for item in older if item["name"] not in names)]


def dataset_entry(path: Path, name: str | None = None) -> DatasetEntry:
    """The data set ``name`` of the manifest at ``path``, or its only one.

    Raises :class:`ConfigError` if it is not there, :class:`CorruptError` if the
    manifest is not of this form.
    """
    values = read_manifest(path)
    try:
        entries = {str(entry["name"]): entry for entry in values["datasets"]}
        if name is None and len(entries) == 1:
            (name,) = entries
        if name is None or name not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise ConfigError(f"{path}: no data set {name!r}; known are {known}")
        return _entry(path.parent, name, entries[name], values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ConfigError | CorruptError):
            raise
        raise CorruptError(f"{path}: not a manifest of token shards: {error!r}") from None


def check_no_overlap(path: Path, name: str | None = None) -> int | None:
    """The number of training documents, none of which is a validation document.

    None if the manifest states no hashes, so that nothing could be compared.  Raises
    :class:`OverlapError` for documents in both, :class:`CorruptError` if the hashes
    are not those that the manifest states.
    """
    entry = dataset_entry(path, name)
    if set(entry.document_files) != set(SPLITS):
        return None
    val = read_hashes(entry.document_files["val"])
    train = read_hashes(entry.document_files["train"])
    shared = overlap(train, val)
    if shared.size:
        raise OverlapError(
            f"{path}: {shared.size} of {len(train)} training documents of {entry.name} are "
            f"validation documents, the first is number {shared[0]}; a score on them says nothing"
        )
    return len(train)


def check_shards(path: Path, name: str | None = None) -> int:
    """Bytes of the shards whose SHA-256 the manifest states, all of which hold.

    Raises :class:`CorruptError`, with the shard, if one does not.
    """
    entry = dataset_entry(path, name)
    n_bytes = 0
    for shard in (shard for shards in entry.shards.values() for shard in shards):
        file = _inside(entry.folder, shard.name)
        if not file.is_file() or file_sha256(file) != shard.sha256:
            raise CorruptError(f"{file}: missing, or not the shard of the manifest")
        n_bytes += file.stat().st_size
    return n_bytes


def overlap(train: NDArray[np.uint64], val: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Indexes of the training hashes (n, 2) that are among the validation hashes (m, 2)."""
    keys = np.unique(val[:, 0])
    known = {row.tobytes() for row in val}
    found: list[int] = []
    for start in range(0, len(train) if keys.size else 0, _BLOCK):
        block = train[start : start + _BLOCK]
        at = np.searchsorted(keys, block[:, 0])
        alike = np.flatnonzero(keys[np.minimum(at, keys.size - 1)] == block[:, 0])
        found += [start + i for i in alike.tolist() if block[i].tobytes() in known]
    return np.array(found, np.int64)


def read_hashes(path: Path) -> NDArray[np.uint64]:
    """(n, 2) uint64, a hash a row; raises :class:`CorruptError` for a size that is no multiple."""
    data = path.read_bytes()
    if len(data) % HASH_BYTES:
        raise CorruptError(f"{path}: {len(data)} bytes are not a multiple of {HASH_BYTES}")
    return np.frombuffer(data, "<u8").reshape(-1, 2)


def file_sha256(path: Path) -> str:
    """In hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(root: Path, name: str, entry: dict[str, Any], values: dict[str, Any]) -> DatasetEntry:
    _inside(root / "datasets", name)
    tokenizers = {item["name"]: item for item in values["tokenizers"]}
    tokenizer = tokenizers.get(entry["tokenizer_name"], {})
    model = tokenizer.get("model_path")
    documents = entry.get("documents", {})
    files: dict[Split, Path] = {}
    for split in SPLITS:
        if split in documents:
            files[split] = _inside(root / "datasets" / name, documents[split]["name"])
            if not files[split].is_file() or (
                file_sha256(files[split]) != documents[split]["sha256"]
            ):
                raise CorruptError(f"{files[split]}: missing, or not that of the manifest")
    n_shards: dict[Split, int] = {split: int(entry["stats"][f"files_{split}"]) for split in SPLITS}
    if min(n_shards.values()) < 0:
        raise ValueError(f"{n_shards} shards")
    return DatasetEntry(
        root=root,
        name=name,
        tokenizer_file=None if model is None else _inside(root, model),
        case_operators=int(tokenizer.get("case_operators", 0)),
        n_shards=n_shards,
        shards={
            split: tuple(
                ShardEntry(str(s["name"]), int(s["n_tokens"]), str(s["sha256"]))
                for s in entry.get("shards", {}).get(split, ())
            )
            for split in SPLITS
        },
        document_files=files,
    )


def _inside(folder: Path, name: str) -> Path:
    """``folder / name``; raises :class:`CorruptError` if that leads out of the folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise CorruptError(f"manifest: {name!r} leads out of its folder")
    return folder / path
