"""Verification: it holds for what is right, and each of its claims can fail."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pgolf_codec
from pgolf_codec.errors import CorruptError, VerificationError
from pgolf_codec.eval import bpb, decoder, verify
from pgolf_codec.eval.receipt import CLAIMS, Receipt, read_receipt

TEXT = b"It was the best of times, it was the worst of times, it was the age of wisdom."

ENCODED = verify.Encoded("5a", 100, bpb.Sizes(100, 790.5, 800, 130), 130, 1.0)
DECODED = verify.Decoded("5a", 100, "f1", 1.0)


def other(value: Any, **changes: Any) -> Any:
    return dataclasses.replace(value, **changes)


def test_check_holds() -> None:
    claims = verify.check(ENCODED, DECODED, "f1")
    assert claims == dict.fromkeys(CLAIMS, True)


@pytest.mark.parametrize(
    ("encoded", "decoded", "failed"),
    [
        (ENCODED, other(DECODED, error="exit status 1: no"), "decoder_finished"),
        (ENCODED, other(DECODED, sha256="5b"), "digest_matches"),
        (ENCODED, other(DECODED, n_bytes=99), "size_matches"),
        (other(ENCODED, sizes=other(ENCODED.sizes, raw_bytes=99)), DECODED, "size_matches"),
        (ENCODED, other(DECODED, model_fingerprint="f2"), "model_matches"),
        (other(ENCODED, disk_bytes=131), DECODED, "file_size_is_on_disk"),
        (
            other(ENCODED, sizes=other(ENCODED.sizes, entropy_bits=800 + verify.LUCK_BITS + 0.5)),
            DECODED,
            "coded_covers_entropy",
        ),
        (
            other(ENCODED, sizes=other(ENCODED.sizes, coded_bits=8 * 130 + 1)),
            DECODED,
            "file_covers_coded",
        ),
    ],
)
def test_each_claim_can_fail(encoded: Any, decoded: Any, failed: str) -> None:
    claims = verify.check(encoded, decoded, "f1")
    assert [name for name, holds in claims.items() if not holds] == [failed]


@pytest.mark.parametrize("as_path", [True, False])
def test_receipt_of_a_text(stand_in_models: ModuleType, tmp_path: Path, as_path: bool) -> None:
    (tmp_path / "text").write_bytes(TEXT)
    receipt = pgolf_codec.verify(str(tmp_path / "text") if as_path else TEXT)
    digest = hashlib.sha256(TEXT).hexdigest()
    assert receipt.verified
    assert receipt.claims == dict.fromkeys(CLAIMS, True)
    assert receipt.input_sha256 == receipt.decoder_sha256 == digest
    assert receipt.input_bytes == len(TEXT)
    assert receipt.file_bytes == len(pgolf_codec.compress(TEXT))
    assert receipt.entropy_bits <= receipt.coded_bits <= 8 * receipt.file_bytes
    assert receipt.bpb_file == 8 * receipt.file_bytes / len(TEXT)
    assert receipt.model_fingerprint == hashlib.sha256(stand_in_models.SEED).hexdigest()
    assert receipt.versions["pgolf_codec"] == pgolf_codec.__version__
    assert {"format", "numerics", "python", "numpy", "numba", "platform"} <= {*receipt.versions}
    assert Receipt.from_json(receipt.to_json()) == receipt == read_receipt(receipt.to_json())


def test_empty_text(stand_in_models: ModuleType) -> None:
    receipt = pgolf_codec.verify(b"")
    assert receipt.verified
    assert receipt.bpb_file is receipt.bpb_coded is receipt.bpb_entropy is None
    assert json.loads(receipt.to_json())["bpb_file"] is None


Damage = Callable[[Path], None]


def flip(folder: Path) -> None:
    path = folder / verify.ARCHIVE
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def cut(folder: Path) -> None:
    path = folder / verify.ARCHIVE
    path.write_bytes(path.read_bytes()[:-5])


def swap_model(folder: Path) -> None:
    (folder / verify.ARTIFACT).write_bytes(b"another model")


def lose_archive(folder: Path) -> None:
    (folder / verify.ARCHIVE).unlink()


@pytest.mark.parametrize("damage", [flip, cut, swap_model, lose_archive])
def test_tampering_between_the_processes(
    stand_in_models: ModuleType, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    decode = verify.decode_elsewhere

    def tamper(folder: Path, threads: int | None) -> verify.Decoded:
        damage(folder)
        return decode(folder, threads)

    monkeypatch.setattr(verify, "decode_elsewhere", tamper)
    with pytest.raises(VerificationError, match="decoder_finished") as caught:
        pgolf_codec.verify(TEXT, adapt=False)  # a frame for which the model is wanted
    receipt = caught.value.receipt
    assert not receipt.verified
    assert receipt.decoder_error.startswith("exit status 1: ")
    assert {"decoder_finished", "digest_matches"} <= {*receipt.failed}
    assert "NOT VERIFIED" in receipt.describe()


@pytest.mark.parametrize(
    ("lie", "failed"),
    [
        ("sha256='0' * 64", "digest_matches"),
        ("n_bytes=1", "size_matches"),
        ("model_fingerprint='0' * 64", "model_matches"),
    ],
)
def test_decoder_that_tells_something_else(
    stand_in_models: ModuleType, monkeypatch: pytest.MonkeyPatch, lie: str, failed: str
) -> None:
    boot = f"""
import json
dump = json.dump
json.dump = lambda report, file: dump(report | dict({lie}), file)
"""
    monkeypatch.setattr(decoder, "BOOT", boot + decoder.BOOT)
    with pytest.raises(VerificationError) as caught:
        pgolf_codec.verify(TEXT)
    assert caught.value.receipt.failed == (failed,)


def test_decoder_that_talks_nonsense(
    stand_in_models: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "BOOT", "print('all is well')")
    with pytest.raises(VerificationError) as caught:
        pgolf_codec.verify(TEXT)
    assert "decoder_finished" in caught.value.receipt.failed


def test_other_process_sees_two_files_and_no_text(
    stand_in_models: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text, seen = tmp_path / "secret-name", tmp_path / "seen"
    text.write_bytes(TEXT)
    spy = "import json, os, sys\n"
    spy += f"open({str(seen)!r}, 'w').write(json.dumps([os.listdir(), sys.argv]))\n"
    monkeypatch.setattr(decoder, "BOOT", spy + decoder.BOOT)
    assert pgolf_codec.verify(text).verified
    folder, arguments = json.loads(seen.read_text())
    assert {*folder} == {verify.ARCHIVE, verify.ARTIFACT}
    assert not [word for word in arguments if "secret-name" in word]


def receipt() -> Receipt:
    """A small true one."""

    class Model:
        name, n_bytes, blob = "small", 7, b"order-1"

        class predictor:
            fingerprint, numerics_version = bytes.fromhex("f1"), 1

    return verify.settle(ENCODED, DECODED, Model())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"file_bytes": "130"}, "file_bytes is not of type int"),
        ({"file_bytes": True}, "file_bytes is not of type int"),
        ({"verified": 1}, "verified is not of type bool"),
        ({"claims": []}, "claims is not of type"),
        ({"more": 1}, "unknown key 'more'"),
        ({"file_bytes": None}, "file_bytes is not of type int"),
    ],
)
def test_json_that_is_no_receipt(change: dict[str, Any], why: str) -> None:
    values = json.loads(receipt().to_json())
    with pytest.raises(CorruptError, match=why):
        Receipt.from_json(json.dumps(values | change))


@pytest.mark.parametrize("text", ["", "[]", "{", "7", "{}"])
def test_text_that_is_no_receipt(text: str) -> None:
    with pytest.raises(CorruptError, match="receipt: "):
        Receipt.from_json(text)


def test_describe_tells_all_sizes() -> None:
    said = receipt().describe()
    for word in ("98.8 bytes", "100.0 bytes", "130 bytes, 10.4000 bpb", "fingerprint f1"):
        assert word in said
    assert said.endswith("\nverified\n")
