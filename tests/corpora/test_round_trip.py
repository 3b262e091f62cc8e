"""Every validation file beside the checkout comes back from the embedded model's archive.

Of files that the model codes, two pieces are taken, since it is slow; with
``PGOLF_WHOLE_FILES=1`` all of everything.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pgolf_codec

FOLDER = Path(__file__).parents[3] / "shared" / "corpora" / "val"
FILES = sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []
PIECE_BYTES = 9_000

pytestmark = pytest.mark.skipif(not FILES, reason="the corpora are not beside the checkout")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_comes_back(path: Path) -> None:
    data = path.read_bytes()
    pieces = [data]
    if not os.environ.get("PGOLF_WHOLE_FILES"):
        middle = len(data) // 2 + 1  # within a character or a line, as it happens
        pieces = [data[:PIECE_BYTES], data[middle : middle + PIECE_BYTES]]
    for piece in pieces:
        archive = pgolf_codec.compress(piece)
        assert len(archive) <= len(piece) * 1.001 + 100
        assert pgolf_codec.decompress(archive, max_output_bytes=len(piece)) == piece


def test_score_on_english() -> None:
    """The embedded model's figure on a part of the held-out text, file bytes and all."""
    if not (FOLDER / "fineweb_cc2013.txt").exists():
        pytest.skip("the text is not there")
    text = (FOLDER / "fineweb_cc2013.txt").read_bytes()[:100_000]
    assert 8 * len(pgolf_codec.compress(text)) / len(text) < 1.75
