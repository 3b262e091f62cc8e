"""The search against curves, stops and lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.errors import BudgetError
from pgolf_codec.quant.budget import Bill, file_bytes, fit
from pgolf_codec.quant.coders.trellis import encode
from pgolf_codec.quant.moments import Moments
from pgolf_codec.quant.quantizers import Waterfilled, curvatures


def curve(octaves: float, n: int, bits: float, bend: float) -> int:
    """Bytes of n weights: linear in octaves while there are bits, then ever slower."""
    left = bits - octaves
    return int(n / 8 * np.log1p(np.exp(left * bend)) / bend) + 1000


@given(
    st.integers(50_000, 50_000_000),
    st.floats(0.5, 7.0),
    st.floats(1.0, 4.0),
    st.floats(0.5, 7.0),
)
def test_it_lands_under_the_cap(n: int, bits: float, bend: float, wanted: float) -> None:
    cap = int(n / 8 * wanted) + 1000

    def weigh(octaves: float) -> int:
        return curve(octaves, n, bits, bend)

    found = fit(weigh, cap, bytes_per_octave=n / 8)
    assert 0.999 * cap <= found.n_bytes <= cap
    assert found.n_bytes == weigh(found.octaves)
    assert len(found.tries) <= 12
    assert fit(weigh, cap, bytes_per_octave=n / 8) == found


def test_few_tries_where_the_guess_is_good() -> None:
    found = fit(lambda x: int(2e6 - 6e5 * x), 1_600_000, bytes_per_octave=6.25e5)
    assert len(found.tries) <= 3


def test_a_stopped_search_goes_on(tmp_path: Path) -> None:
    keep = tmp_path / "tries.json"
    asked: list[float] = []

    def weigh(octaves: float) -> int:
        asked.append(octaves)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return curve(octaves, 1_000_000, 4.0, 1.0)

    with pytest.raises(KeyboardInterrupt):
        fit(weigh, 200_000, bytes_per_octave=125_000, keep=keep, key="a")
    assert len(json.loads(keep.read_bytes())["weighed"]) == 2
    found = fit(weigh, 200_000, bytes_per_octave=125_000, keep=keep, key="a")
    assert len(set(asked)) == len(asked) - 1  # only the one that was stopped is asked again
    assert list(found.tries) == list(dict.fromkeys(asked))
    before = len(asked)
    fit(weigh, 200_000, bytes_per_octave=125_000, keep=keep, key="another")
    assert len(asked) > before
    keep.write_text("{")
    assert fit(weigh, 200_000, bytes_per_octave=125_000, keep=keep, key="a") == found


def test_what_can_not_land() -> None:
    with pytest.raises(BudgetError, match="none was under it"):
        fit(lambda x: 5000, 4000, bytes_per_octave=1000)
    with pytest.raises(BudgetError, match="largest under it has 3,000"):
        fit(lambda x: 5000 if x < 1 else 3000, 4000, bytes_per_octave=1000)


def test_a_real_matrix_lands(problem: tuple[np.ndarray, Moments]) -> None:
    w, moments = problem
    known = curvatures({"m": moments})

    def weigh(octaves: float) -> int:
        found = Waterfilled(known, 1e-8 * 4**octaves, 8)("m", w, "rows")
        return len(encode(found.values.astype(np.int8), 8)) + 2 * len(w)

    found = fit(weigh, 2000, bytes_per_octave=w.size / 8, within=0.01)
    assert 1980 <= found.n_bytes <= 2000


def test_bill(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_bytes(b"1234")
    (tmp_path / "package" / "notes.txt").write_bytes(b"12345678")
    (tmp_path / "script").write_bytes(b"12")
    assert file_bytes([tmp_path / "package", tmp_path / "script"]) == 6
    bill = Bill(100, code_bytes=20, tokenizer_bytes=3, decoder_bytes=4)
    assert (bill.challenge_bytes, bill.all_bytes) == (120, 127)
