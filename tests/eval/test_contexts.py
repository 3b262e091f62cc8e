"""Plans of windows: every position once, never from itself, the same however the text goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.eval.contexts import Window, by_document, rolling, rows, seen_from, sliding


def test_by_hand() -> None:
    assert rows(10, 4) == [Window(0, 0, 4), Window(4, 4, 8), Window(8, 8, 10)]
    assert sliding(10, 4, 2) == [
        Window(0, 0, 4),
        Window(2, 4, 6),
        Window(4, 6, 8),
        Window(6, 8, 10),
    ]
    assert sliding(9, 4, 3) == [Window(0, 0, 4), Window(3, 4, 7), Window(6, 7, 9)]
    assert rolling(5, 3) == [Window(0, 0, 3), Window(1, 3, 4), Window(2, 4, 5)]
    assert by_document([0, 3], 8, 4, 2) == [Window(0, 0, 3), Window(3, 3, 7), Window(5, 7, 8)]
    assert rows(0, 4) == []
    with pytest.raises(ValueError, match="stride of 5"):
        sliding(10, 4, 5)


shapes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(st.integers(0, 60), shapes)
def test_every_position_once_from_what_is_before(n: int, shape: tuple[int, int]) -> None:
    length, stride = shape
    plan = sliding(n, length, stride)
    assert [t for window in plan for t in range(window.first, window.end)] == list(range(n))
    for t, begin in enumerate(seen_from(plan)):
        assert 0 <= begin <= t < begin + length
        assert t - begin >= min(t, length - stride)


@given(st.integers(0, 60), st.integers(0, 30), shapes)
def test_what_follows_changes_nothing(n: int, more: int, shape: tuple[int, int]) -> None:
    """A decoder knows where a context begins without knowing how much is to come."""
    seen = list(seen_from(sliding(n + more, *shape)))
    assert list(seen_from(sliding(n, *shape))) == seen[:n]


@given(st.sets(st.integers(1, 59), max_size=6), shapes)
def test_documents_are_islands(cuts: set[int], shape: tuple[int, int]) -> None:
    starts = [0, *sorted(cuts)]
    seen = list(seen_from(by_document(starts, 60, *shape)))
    for t, begin in enumerate(seen):
        assert begin >= max(start for start in starts if start <= t)
