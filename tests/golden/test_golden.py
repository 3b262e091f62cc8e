"""Files that were written once are read for ever, or refused by name.

A failure here means that the format or the probabilities have changed: raise the
version and add a folder (``make.py``), don't change what is pinned.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import zstandard
from environments import LENGTH, N_STREAMS, digest
from tiny_model import prose_ids, tiny_tokenizer, tiny_weights

from pgolf_codec.codec.inspection import inspect
from pgolf_codec.codec.stream import compress, decompress
from pgolf_codec.errors import FormatError, UnsupportedVersionError, WrongModelError
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.quant.artifact import FORMAT_VERSION, LoadedModel, dump_artifact, load_artifact

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("v*/pinned.json"))
NEWEST = FOLDERS[-1]
DOCUMENT = (HERE.parents[1] / "docs" / "FORMAT.md").read_text(encoding="utf-8")


def pinned(folder: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((folder / "pinned.json").read_text(encoding="utf-8"))
    return contents


ARCHIVES = [(folder, name) for folder in FOLDERS for name in pinned(folder)["archives"]]


@pytest.fixture(scope="module")
def models() -> dict[Path, LoadedModel]:
    return {folder: load_artifact(folder / "tiny.pglm") for folder in FOLDERS}


@pytest.mark.parametrize(("folder", "name"), ARCHIVES, ids=lambda part: getattr(part, "name", part))
def test_archives(folder: Path, name: str, models: dict[Path, LoadedModel]) -> None:
    expected = pinned(folder)["archives"][name]
    blob = (folder / f"{name}.pgz").read_bytes()
    assert hashlib.sha256(blob).hexdigest() == expected["sha256"]
    assert [f.method.name.lower() for f in inspect(blob).members[0].frames] == expected["methods"]
    for threads in (1, 2):
        raw = decompress(blob, model=models[folder], threads=threads)
        assert len(raw) == expected["raw_bytes"]
        assert hashlib.sha256(raw).hexdigest() == expected["raw_sha256"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_artifacts(folder: Path, models: dict[Path, LoadedModel]) -> None:
    expected, model = pinned(folder), models[folder]
    assert hashlib.sha256(model.blob).hexdigest() == expected["artifact_sha256"]
    ids = prose_ids(model.tokenizer, N_STREAMS, LENGTH)
    found = digest(*model.predictor.session(N_STREAMS).intervals(ids))
    assert found == expected["intervals_sha256"]


def test_every_case_is_there() -> None:
    cases = pinned(NEWEST)["archives"]
    assert {"empty", "one_byte", "prose", "unicode", "crlf", "not_utf8"} < set(cases)
    methods = {method for case in cases.values() for method in case["methods"]}
    assert methods == {"stored", "zstd", "model", "adapted"}
    files = {path.stem for path in NEWEST.glob("*.pgz")}
    assert files == set(cases)


def test_the_newest_folder_is_of_todays_versions() -> None:
    expected = pinned(NEWEST)
    assert expected["artifact_format"] == FORMAT_VERSION
    assert expected["numerics"] == NUMERICS_VERSION


def test_the_newest_model_is_the_tiny_one(models: dict[Path, LoadedModel]) -> None:
    """As tests/lm/tiny_model.py builds it; zstd may pack its tokenizer otherwise."""
    tokenizer = tiny_tokenizer()
    found, expected = models[NEWEST].artifact, tiny_weights(tokenizer)
    assert found.tokenizer.table == tokenizer.table
    assert found.weights.config == expected.config
    for name, tensor in expected.tensors.items():
        assert np.array_equal(found.weights.tensors[name], tensor), name


@pytest.mark.parametrize("name", ["empty", "one_byte", "not_utf8", "crlf", "adapted"])
def test_a_strangers_decoder(name: str) -> None:
    """docs/FORMAT.md and docs/NUMERICS.md alone: none of the package's code."""
    document: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(block, document)
    artifact = (NEWEST / "tiny.pglm").read_bytes()
    model, blob = reference.Model(artifact), (NEWEST / f"{name}.pgz").read_bytes()
    assert blob[7:15] == model.fingerprint[:8]
    raw, end = document["read_archive"](
        blob, 0, tokens(model), lambda: reference.Stream(model), zstandard.decompress
    )
    assert end == len(blob)
    assert hashlib.sha256(raw).hexdigest() == pinned(NEWEST)["archives"][name]["raw_sha256"]


def tokens(model: reference.Model) -> list[bytes]:
    """The bytes of each token, by the last section of docs/FORMAT.md."""
    data = zstandard.decompress(model.sections["tokenizer"][1])
    n = int.from_bytes(data[2:4], "little") + 1
    sizes, at, table = data[5 + n : 5 + 2 * n], 5 + 2 * n, []
    for size in sizes:
        table.append(data[at : at + size])
        at += size
    return table


def with_header(blob: bytes, at: int, value: int) -> bytes:
    """One byte of the header changed, and its check to match."""
    header = blob[:at] + bytes([value]) + blob[at + 1 : 15]
    return header + zlib.crc32(header).to_bytes(4, "little") + blob[19:]


@pytest.mark.parametrize("version", [0, 7, 255])
def test_other_versions_are_refused_by_name(version: int, models: dict[Path, LoadedModel]) -> None:
    blob, model = (NEWEST / "prose.pgz").read_bytes(), models[NEWEST]
    with pytest.raises(UnsupportedVersionError, match=f"version {version}\\b"):
        decompress(with_header(blob, 4, version), model=model)
    with pytest.raises(UnsupportedVersionError, match=f"[Nn]umerics.* {version}\\b"):
        decompress(with_header(blob, 5, version), model=model)
    artifact = bytearray(model.blob)
    for at, message in ((8, f"format version {version}"), (10, f"numerics version {version}")):
        other = artifact.copy()
        other[at] = version
        with pytest.raises(UnsupportedVersionError, match=message):
            load_artifact(bytes(other))


def test_numerics_1_is_refused_by_name(models: dict[Path, LoadedModel]) -> None:
    """Nobody has its engine any more: v1 has a model and an archive of it."""
    with pytest.raises(UnsupportedVersionError, match="numerics version 1"):
        load_artifact(HERE / "v1" / "tiny.pglm")
    with pytest.raises(UnsupportedVersionError, match="numerics version 1"):
        decompress((HERE / "v1" / "prose.pgz").read_bytes(), model=models[NEWEST])


def test_another_model_is_refused(models: dict[Path, LoadedModel]) -> None:
    """One weight of 20 thousand is other."""
    found = models[NEWEST].artifact
    tensors = {name: tensor.copy() for name, tensor in found.weights.tensors.items()}
    tensors["blocks.2.up.q"][3, 3] ^= 1
    weights = type(found.weights)(found.weights.config, tensors)
    other = load_artifact(dump_artifact(weights, found.tokenizer, name="tiny"))
    with pytest.raises(WrongModelError):
        decompress((NEWEST / "prose.pgz").read_bytes(), model=other)


def test_every_flip(models: dict[Path, LoadedModel]) -> None:
    blob, model = (NEWEST / "crlf.pgz").read_bytes(), models[NEWEST]
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decompress(bytes(damaged), model=model, threads=1)


def test_threads_do_not_show(models: dict[Path, LoadedModel]) -> None:
    raw = decompress((NEWEST / "prose.pgz").read_bytes(), model=models[NEWEST])
    archives = {
        compress(raw * 3, model=models[NEWEST], streams=5, threads=threads) for threads in (1, 2, 3)
    }
    assert len(archives) == 1
    assert decompress(archives.pop(), model=models[NEWEST], threads=2) == raw * 3
