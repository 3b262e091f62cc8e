"""The ``.pglm``: round trips, and every way in which a file can lie."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import reference_coders

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import (
    CorruptError,
    FormatError,
    NotAnArchiveError,
    TruncatedError,
    UnsupportedVersionError,
)
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant import artifact as module
from pgolf_codec.quant import coders, histogram
from pgolf_codec.quant.artifact import dump_artifact, load_artifact, save_artifact


def test_round_trip(artifact: bytes, weights: IntegerWeights, tokenizer: Tokenizer) -> None:
    model = load_artifact(artifact)
    found = model.artifact
    assert found.weights.config == weights.config
    assert set(found.weights.tensors) == set(weights.tensors)
    for name, tensor in weights.tensors.items():
        assert found.weights.tensors[name].dtype == tensor.dtype
        assert np.array_equal(found.weights.tensors[name], tensor), name
    assert model.tokenizer.table == tokenizer.table
    assert (model.name, model.bpb, model.n_bytes) == ("tiny", 2.5, len(artifact))
    assert model.n_parameters == weights.n_params
    assert model.fingerprint == model.predictor.fingerprint == artifact[-32:]
    assert model.fingerprint == hashlib.sha256(artifact[:-32]).digest()
    assert sum(found.coded_sizes.values()) < len(artifact)


def test_same_arguments_same_bytes(
    artifact: bytes, weights: IntegerWeights, tokenizer: Tokenizer
) -> None:
    again = IntegerWeights(weights.config, dict(reversed(copy.deepcopy(weights.tensors).items())))
    assert dump_artifact(again, tokenizer, name="tiny", bpb=2.5) == artifact
    loaded = load_artifact(artifact).artifact
    assert dump_artifact(loaded.weights, loaded.tokenizer, name="tiny", bpb=2.5) == artifact
    assert dump_artifact(weights, tokenizer, name="tiny")[-32:] != artifact[-32:]


def test_files(
    tmp_path: Path, artifact: bytes, weights: IntegerWeights, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "tiny.pglm"
    path.write_bytes(b"what was there before")
    save_artifact(path, weights, tokenizer, name="tiny", bpb=2.5)
    assert path.read_bytes() == artifact
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.pglm"]
    assert load_artifact(path).fingerprint == artifact[-32:]


def test_the_documents_reader(artifact: bytes, weights: IntegerWeights) -> None:
    """docs/NUMERICS.md, as tests/lm/reference.py has it."""
    model = reference.Model(artifact)
    assert {coding for coding, _ in model.sections.values()} == {"raw", "ans"}
    for name, tensor in weights.tensors.items():
        found = np.array(model.tensors[name], np.float64)
        assert np.array_equal(found.reshape(-1), tensor.reshape(-1).astype(np.float64)), name


CODERS = ["auto", "raw", "trellis", "cm", "ans-scale", "zlib"]


@pytest.mark.parametrize("coder", CODERS)
def test_any_coder(
    coder: str, artifact: bytes, weights: IntegerWeights, tokenizer: Tokenizer
) -> None:
    blob = dump_artifact(weights, tokenizer, name="tiny", bpb=2.5, coder=coder)
    assert dump_artifact(weights, tokenizer, name="tiny", bpb=2.5, coder=coder) == blob
    found = load_artifact(blob).artifact
    for name, tensor in weights.tensors.items():
        assert found.weights.tensors[name].dtype == tensor.dtype
        assert np.array_equal(found.weights.tensors[name], tensor), name
    plain = set(found.codings.values()) <= {"raw", "ans"}
    assert struct.unpack_from("<H", blob, 8) == ((1,) if plain else (2,))
    assert plain == (coder == "raw")
    if coder != "raw":
        assert coder == "auto" or coder in found.codings.values()
        assert len(blob) < len(dump_artifact(weights, tokenizer, name="tiny", coder="raw"))
    if coder == "auto":
        assert len(blob) < len(artifact)


def test_coders_read_what_their_documents_readers_read(
    weights: IntegerWeights, tokenizer: Tokenizer
) -> None:
    """A section is a coder's payload, nothing else."""
    for coder in ("trellis", "cm"):
        blob = dump_artifact(weights, tokenizer, name="tiny", coder=coder)
        coding, payload = sections_of(blob)["blocks.0.up.q"]
        assert coding == coder
        tensor = weights.tensors["blocks.0.up.q"]
        head = coders.encode(tensor, coder)[: -len(payload)]
        assert reference_coders.decode(head + payload) == (
            tensor.shape, tensor.reshape(-1).tolist()
        )  # fmt: skip


def sections_of(blob: bytes) -> dict[str, tuple[str, bytes]]:
    size = struct.unpack_from("<I", blob, 12)[0]
    at, found = 16 + size + 4, {}
    for name, coding, n_bytes, _ in json.loads(blob[16 : 16 + size])["sections"]:
        found[name] = (coding, blob[at : at + n_bytes])
        at += n_bytes
    return found


def test_version_1_has_two_codings(weights: IntegerWeights, tokenizer: Tokenizer) -> None:
    blob = dump_artifact(weights, tokenizer, name="tiny", coder="trellis")
    old = blob[:8] + b"\1" + blob[9:]
    refused(forged(old), "coding 'trellis' is unknown")


@pytest.mark.parametrize("coder", ["trellis", "cm", "ans-scale", "brotli", "zstd"])
def test_payloads_that_lie(coder: str, weights: IntegerWeights, tokenizer: Tokenizer) -> None:
    """Damaged, cut, of other integers, of other shapes: an error or the wrong weights."""
    if coder == "brotli":
        pytest.importorskip("brotli")
    blob = dump_artifact(weights, tokenizer, name="tiny", coder=coder)
    payload = sections_of(blob)["blocks.0.up.q"][1]
    for wrong in (payload[:-9], payload[:1], b""):
        refused(forged(blob, payloads={"blocks.0.up.q": wrong}, coding=coder), "blocks.0.up.q")
    tensor = weights.tensors["blocks.0.up.q"].astype(np.int32)
    for values, message in (
        (tensor * 50, "does not have|-128"), (tensor[:-1], "."), (tensor[:, :-2], ".")
    ):  # fmt: skip
        wrong = coders.find_coder(coder).encode(np.ascontiguousarray(values))
        refused(forged(blob, payloads={"blocks.0.up.q": wrong}, coding=coder), message)
    rng = random.Random(3)
    for _ in range(30):
        broken = bytearray(payload)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        lie = forged(blob, payloads={"blocks.0.up.q": bytes(broken)}, coding=coder)
        with contextlib.suppress(FormatError):
            load_artifact(lie)


def test_few_bytes_for_many_weights(artifact: bytes) -> None:
    """What a trellis stream can't hold is refused before there is memory for it."""
    lie = forged(artifact, payloads={"bigram.q": bytes([0]) + bytes(9)}, coding="trellis")
    lie = lie[:8] + b"\2" + lie[9:]
    refused(forged(lie, config(bigram_buckets=1 << 20)), "too few")


def test_every_flip(smallest_artifact: bytes) -> None:
    load_artifact(smallest_artifact)
    for bit in range(8 * len(smallest_artifact)):
        damaged = bytearray(smallest_artifact)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            load_artifact(bytes(damaged))


def test_every_truncation(smallest_artifact: bytes) -> None:
    for size in range(1, len(smallest_artifact)):
        with pytest.raises(TruncatedError):
            load_artifact(smallest_artifact[:size])
    with pytest.raises(NotAnArchiveError):
        load_artifact(b"")


def test_a_tail(smallest_artifact: bytes) -> None:
    for tail in (b"\0", smallest_artifact):
        with pytest.raises(CorruptError, match="bytes too many"):
            load_artifact(smallest_artifact + tail)


@pytest.mark.parametrize("data", [b"PK\3\4", b"\x89PNG\r\n\x1a\n", b"\x89pgz\1" + bytes(100)])
def test_other_files(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError):
        load_artifact(data)


def test_no_pickle(artifact: bytes, weights: IntegerWeights) -> None:
    with pytest.raises(NotAnArchiveError):
        load_artifact(pickle.dumps(weights.tensors))
    code = (
        "import sys, pathlib, pickle\n"
        "def refuse(*a, **k): raise SystemExit('pickle was used')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = refuse\n"
        "from pgolf_codec.quant.artifact import load_artifact\n"
        "load_artifact(sys.stdin.buffer.read())\n"
        "assert 'torch' not in sys.modules\n"
        "print('loaded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=artifact, capture_output=True, check=False
    )
    assert done.stdout == b"loaded\n", done.stderr.decode()


@pytest.mark.parametrize(("at", "message"), [(8, "format version 7"), (10, "numerics version 7")])
def test_other_versions(artifact: bytes, at: int, message: str) -> None:
    """Named before anything else is looked at."""
    blob = artifact[:at] + b"\7\0" + artifact[at + 2 :]
    with pytest.raises(UnsupportedVersionError, match=message):
        load_artifact(blob)


def test_loading_takes_little_memory(artifact: bytes) -> None:
    load_artifact(artifact)
    tracemalloc.start()
    try:
        load_artifact(artifact)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(artifact)
    finally:
        tracemalloc.stop()


# Lies: every checksum is right, only the claims are not.

Head = dict[str, Any]


def forged(
    artifact: bytes,
    edit: Callable[[Head], Any] = lambda head: head,
    payloads: dict[str, bytes] | None = None,
    coding: str | None = None,
) -> bytes:
    """``artifact`` with another head or other sections, and sums to match."""
    size = struct.unpack_from("<I", artifact, 12)[0]
    head, at = json.loads(artifact[16 : 16 + size]), 16 + size + 4
    body = b""
    for section in head["sections"]:
        payload = artifact[at : at + section[2]]
        at += section[2]
        if payloads and section[0] in payloads:
            payload = payloads[section[0]]
            section[1:] = [coding or section[1], len(payload), zlib.crc32(payload)]
        body += payload
    edited = edit(head)
    data = edited if isinstance(edited, bytes) else json.dumps(edited).encode()
    blob = artifact[:12] + struct.pack("<I", len(data)) + data
    blob += struct.pack("<I", zlib.crc32(blob)) + body
    return blob + hashlib.sha256(blob).digest()


def section(index: int, value: object) -> Callable[[Head], Head]:
    """The field ``index`` of the section of the embedding."""

    def edit(head: Head) -> Head:
        head["sections"][1][index] = value
        return head

    return edit


def config(**changes: object) -> Callable[[Head], Head]:
    return lambda head: head | {"config": head["config"] | changes}


def sections(change: Callable[[list[Any]], list[Any]]) -> Callable[[Head], Head]:
    return lambda head: head | {"sections": change(head["sections"])}


LIES: dict[str, tuple[Callable[[Head], Any], str]] = {
    "not JSON": (lambda head: b"{", "head"),
    "not UTF-8": (lambda head: b'{"name": "\xff"}', "head"),
    "deep JSON": (lambda head: b"[" * 100_000, "head"),
    "a list": (lambda head: [head], "head"),
    "a number": (lambda head: 7, "head"),
    "no config": (lambda head: {k: v for k, v in head.items() if k != "config"}, "config"),
    "config is a list": (lambda head: head | {"config": []}, "head"),
    "config is a list of names": (lambda head: head | {"config": ["d_model"]}, "head"),
    "config is null": (lambda head: head | {"config": None}, "head"),
    "unknown key": (config(depth=3), "unknown key 'depth'"),
    "softcap NaN": (config(softcap=float("nan")), "softcap"),
    "softcap huge": (config(softcap=10**400), "head"),
    "bpb huge": (lambda head: head | {"bpb": 10**400}, "head"),
    "infinite size": (section(2, float("inf")), "head"),
    "negative size": (section(2, -1), "negative"),
    "huge size": (section(2, 1 << 70), "bytes of"),
    "4 GB": (section(2, 1 << 32), "bytes of"),
    "a size too small": (section(2, 1), "too many"),
    "unknown section": (section(0, "bias"), "sections"),
    "a section of another model": (section(0, "blocks.7.wo.q"), "sections"),
    "unhashable name": (section(0, ["embedding.q"]), "sections"),
    "unknown coding": (section(1, "zip"), "coding 'zip'"),
    "a section twice": (sections(lambda s: [*s, ["smear", "raw", 0, 0]]), "sections"),
    "a section missing": (sections(lambda s: [*s[:2], *s[3:]]), "bytes too many"),
    "no sections": (sections(lambda s: []), "too many"),
    "sections swapped": (sections(lambda s: [s[0], s[2], s[1], *s[3:]]), "damaged"),
    "other vocabulary": (config(vocab_size=392), "vocabulary"),
    "largest vocabulary": (config(vocab_size=65536), "vocabulary"),
    "other width": (config(d_model=26), "bytes"),
    "larger pair table": (config(bigram_buckets=1 << 20), "bytes|ANS"),
    "largest pair table": (config(bigram_buckets=1 << 20, bigram_dim=4096), "larger than"),
    "largest everything": (
        config(d_model=4096, d_hidden=8192, n_layers=64, windows=[8192] * 64), "sections"
    ),
    "wide layers": (config(d_hidden=8192), "ANS|bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_lies(artifact: bytes, name: str) -> None:
    edit, message = LIES[name]
    refused(forged(artifact, edit), message)


def refused(blob: bytes, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message):
            load_artifact(blob)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_an_honest_forgery_loads(artifact: bytes) -> None:
    assert forged(artifact, lambda head: json.dumps(head, separators=(",", ":")).encode()) == (
        artifact
    )
    assert load_artifact(forged(artifact)).name == "tiny"


def test_head_size(artifact: bytes) -> None:
    for size in (1 << 20, (1 << 20) + 1, 0xFFFFFFFF):
        with pytest.raises(TruncatedError, match="head"):
            load_artifact(artifact[:12] + struct.pack("<I", size) + artifact[16:])


NAN, INFINITE = np.array([np.nan], "<f2").tobytes(), np.array([np.inf], "<f2").tobytes()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("embedding.s", lambda raw: NAN + raw[2:], "not finite"),
        ("blocks.0.mix", lambda raw: raw[:-2] + INFINITE, "not finite"),
        ("smear", lambda raw: raw[:-1], "47 bytes"),
        ("smear", lambda raw: raw + b"\0\0", "50 bytes"),
        ("smear", lambda raw: b"", "0 bytes"),
        ("residual_frac", lambda raw: struct.pack("<i", 17), "residual_frac"),
        ("blocks.0.gain", lambda raw: raw[:-4], "8 bytes"),
        ("tokenizer", lambda raw: raw[:-1], "tokenizer"),
        ("tokenizer", lambda raw: b"", "tokenizer"),
    ],
)
def test_sections_that_lie(
    artifact: bytes, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    _, payload = reference.Model(artifact).sections[name]
    refused(forged(artifact, payloads={name: change(payload)}), message)


def test_weights_of_minus_128(artifact: bytes, weights: IntegerWeights) -> None:
    q = weights.tensors["embedding.q"].copy()
    q[3, 4] = -128
    for coding, payload in (("raw", q.tobytes()), ("ans", histogram.encode(q.reshape(-1)))):
        blob = forged(artifact, payloads={"embedding.q": payload}, coding=coding)
        refused(blob, "-128")


def test_ans_is_for_int8_only(artifact: bytes) -> None:
    payload = histogram.encode(np.arange(24).astype(np.int8))
    refused(forged(artifact, payloads={"smear": payload}, coding="ans"), "coding 'ans'")


def test_scales_beyond_64_bits(artifact: bytes, weights: IntegerWeights) -> None:
    """Finite, but a product with them might not fit: refused before the first use."""
    s = weights.tensors["blocks.0.qkv.s"].copy()
    s[7] = 1.0
    blob = forged(artifact, payloads={"blocks.0.qkv.s": s.astype("<f2").tobytes()})
    with pytest.raises(CorruptError, match="too large"):
        load_artifact(blob).predictor.session(1)


def test_items_in_all(artifact: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 1000)
    refused(artifact, "larger than")
