"""Errors, as other processes hear of them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgolf_codec import errors
from pgolf_codec.errors import PgolfError


def tree(root: type[PgolfError] = PgolfError) -> Iterator[type[PgolfError]]:
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


ARGUMENTS = {
    errors.RefusedError: (Path("here"), "exists already"),
    errors.VerificationError: ("does not hold: sha256", {"bpb": 1.0}),  # pickled as a receipt is
}
SAID = {
    errors.RefusedError: "here: exists already",
    errors.VerificationError: "does not hold: sha256",
}


@pytest.mark.parametrize("kind", sorted(set(tree()), key=lambda kind: kind.__name__))
def test_an_error_may_be_sent(kind: type[PgolfError]) -> None:
    """Under torchrun the failure of one rank is told to all of them."""
    error = kind(*ARGUMENTS.get(kind, ("what is wrong",)))
    told = pickle.loads(pickle.dumps(error))
    assert type(told) is kind
    assert str(told) == str(error) == SAID.get(kind, "what is wrong")
    assert vars(told) == vars(error)
