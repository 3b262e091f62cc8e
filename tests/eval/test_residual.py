"""What lossy tokens lose comes back, in few bytes; orders come back as well."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.errors import CorruptError
from pgolf_codec.eval import permutation, residual

few = st.lists(st.sampled_from([b"a", b"b", b" ", b"\n", b"the mill"]), max_size=40).map(b"".join)


@given(st.lists(st.tuples(few, few), min_size=1, max_size=4))
def test_any_pair_of_texts(pairs: list[tuple[bytes, bytes]]) -> None:
    raw, decoded = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert residual.decode(residual.encode(raw, decoded), decoded) == raw


@given(few)
def test_folded_blanks(raw: bytes) -> None:
    decoded = b" ".join(raw.split())
    assert residual.decode(residual.encode([raw], [decoded]), [decoded]) == [raw]


def test_nothing_lost_nothing_paid() -> None:
    assert residual.encode([b"abc", b""], [b"abc", b""]) == b""


def test_line_ends_cost_little() -> None:
    """A line end behind every full stop, folded into a blank: nearly no information."""
    raw = b"It was a mill.\nIt stood there.\nIt was old.\n" * 200
    lost = residual.encode([raw], [raw.replace(b"\n", b" ")])
    assert len(lost) < 120
    chance = np.random.default_rng(1)
    blanks = chance.choice([b" ", b"\n"], 3000)
    raw = b"".join(b"word" + blank for blank in blanks)
    lost = residual.encode([raw], [raw.replace(b"\n", b" ")])
    assert 3000 / 8 <= len(lost) < 1.2 * 3000 / 8  # one bit each can't be saved


def test_damage_is_an_error_or_other_bytes() -> None:
    raw, decoded = [b"the mill\nthe  mill, and " * 9], [b"the mill the mill, and " * 9]
    lost = residual.encode(raw, decoded)
    n_errors = 0
    for at in range(len(lost)):
        damaged = lost[:at] + bytes([lost[at] ^ 0x40]) + lost[at + 1 :]
        try:
            assert residual.decode(damaged, decoded) != raw
        except CorruptError:
            n_errors += 1
    assert n_errors > len(lost) // 2
    with pytest.raises(CorruptError):
        residual.decode(lost[:-9], decoded)
    with pytest.raises(CorruptError):
        residual.decode(lost + b"more of it", decoded)


@given(st.integers(0, 60).flatmap(lambda n: st.permutations(range(n))))
def test_orders(order: list[int]) -> None:
    data = permutation.encode(order)
    assert permutation.decode(data, len(order)) == order
    assert len(data) <= math.lgamma(len(order) + 1) / math.log(256) + 1


def test_size_of_the_order_of_the_challenge() -> None:
    assert permutation.n_bytes(50000) == 88545
    with pytest.raises(CorruptError):
        permutation.decode(b"\xff", 5)
    with pytest.raises(CorruptError):
        permutation.decode(b"\xff\xff", 5)
