"""Streams of a frame are dealt to threads as the model likes them; the bytes are the same."""

from __future__ import annotations

from typing import Any

import pytest
from fake import FakeModel, Order1Predictor

from pgolf_codec.codec import model_frame
from pgolf_codec.codec.adaptation import adapted

TEXT = b"the hand and the tan hat at the end of the land " * 40


@pytest.mark.parametrize("adapts", [False, True])
@pytest.mark.parametrize(("alone", "sizes"), [(False, [3, 3]), (True, [1] * 6)])
def test_lanes_of_a_session(alone: bool, sizes: list[int], adapts: bool) -> None:
    asked: list[int] = []

    class Predictor(Order1Predictor):
        encodes_alone = alone

        def session(self, n_streams: int) -> Any:
            asked.append(n_streams)
            return super().session(n_streams)

    class Model(FakeModel):
        @property
        def predictor(self) -> Any:
            base = super().predictor
            return Predictor(base.n_symbols, base.fingerprint)

    plain, model = FakeModel(), adapted(Model()) if adapts else Model()
    ids = plain.tokenizer.encode(TEXT)
    payload = model_frame.encode(ids, model.predictor, streams=6, threads=2)
    assert asked == sizes
    same = (adapted(plain) if adapts else plain).predictor
    assert payload == model_frame.encode(ids, same, streams=6, threads=1)
    assert model_frame.decode(payload.data, len(TEXT), model, threads=2) == TEXT
    assert asked[len(sizes) :] == [3, 3]
