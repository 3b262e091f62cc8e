"""What vectors and tiles read starts on a line of the cache: else it is slow, and nothing tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pgolf_codec
from pgolf_codec.codec.adaptation import new_state
from pgolf_codec.codec.memory import LINE, aligned, empty, zeros
from pgolf_codec.lm.integers.engine import make_buffers, make_params, make_state


def arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from arrays(item)


@pytest.mark.parametrize("make", [empty, zeros])
@pytest.mark.parametrize("shape", [0, 3, (5, 7), (0, 4), (2, 3, 129)])
def test_new_arrays(make: Any, shape: Any) -> None:
    for _ in range(8):  # numpy's would be on a line by chance, one time in four
        made = make(shape, np.int16)
        assert made.size == 0 or made.ctypes.data % LINE == 0
        assert made.shape == np.empty(shape).shape
        assert made.flags.c_contiguous
        assert made.flags.writeable


def test_copies_keep_values_and_whether_they_may_be_written() -> None:
    room = zeros(100, np.uint8)
    beside = room[16:48].view(np.int32)
    beside[:] = range(8)
    beside.setflags(write=False)
    copy = aligned(beside)
    assert copy.ctypes.data % LINE == 0
    assert copy.tolist() == list(range(8))
    assert not copy.flags.writeable
    assert aligned(room) is room


def test_all_that_the_engine_reads() -> None:
    weights = pgolf_codec.load_model("nano").artifact.weights
    c = weights.config
    made = (aligned(make_params(weights)), make_state(c, 3), make_buffers(c, 32))
    assert [a.shape for a in arrays(made) if a.size and a.ctypes.data % LINE] == []
    stage = new_state(np.ones(c.vocab_size, np.int32), 3)
    for array in (stage.bias, stage.shares, stage.rows, stage.places, stage.weights):
        assert array.ctypes.data % LINE == 0
