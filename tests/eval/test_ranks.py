"""Verification by several processes: the receipt of one, but for the seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgolf_codec.errors import PredictorError
from pgolf_codec.eval.foreign import BUNDLE_DOCUMENTS, Text, verify_predictor
from pgolf_codec.eval.receipt import PredictorReceipt

N_DOCUMENTS = 3 * BUNDLE_DOCUMENTS + 5


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.jsonl"
    texts = (f"It was the {n}th of the boats that had come." for n in range(N_DOCUMENTS))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def receipt_of(folder: Path, arguments: list[str], *launcher: str) -> dict[str, Any]:
    path = folder / "receipt.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "pgolf_codec.eval.verify", "-q", "--json", str(path)]
        + arguments,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    receipt = PredictorReceipt.from_json(path.read_text())
    assert receipt.verified
    values: dict[str, Any] = json.loads(receipt.to_json())
    return values


def test_two_ranks_give_the_receipt_of_one(many: Path, zoo: Path) -> None:
    pytest.importorskip("torch.distributed")
    arguments = ["--predictor", f"{zoo / 'honest.py'}:StartsAnew", "--documents", str(many)]
    alone = receipt_of(many.parent, arguments)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    together = receipt_of(many.parent, arguments, *launcher)
    assert alone["n_documents"] == N_DOCUMENTS
    for receipt in (alone, together):
        assert receipt.pop("encode_seconds") > 0
        assert receipt.pop("decode_seconds") > 0
    assert together == alone


class Second:
    """The second of two ranks, whose fellow has failed or not come yet."""

    rank, size = 1, 2

    def all_gather(self, mine: Any) -> list[Any]:
        return [mine]


@pytest.mark.usefixtures("here")
def test_contexts_across_documents_are_not_dealt(zoo: Path, text: Text) -> None:
    with pytest.raises(PredictorError, match="contexts cross documents"):
        verify_predictor(f"{zoo / 'honest.py'}:BackOff", text, ranks=Second())


@pytest.mark.usefixtures("here")
def test_bundles_do_not_depend_on_the_ranks() -> None:
    text = Text(tuple(b"%d" % n for n in range(N_DOCUMENTS)))
    bundles = text.bundles(independent=True)
    assert [len(bundle.documents) for bundle in bundles] == [64, 64, 64, 5]
    assert b"".join(bundle.data for bundle in bundles) == text.data
    assert [bundle.documents for bundle in text.bundles(independent=False)] == [text.documents]
    assert len(Text(()).bundles(independent=True)) == 1
