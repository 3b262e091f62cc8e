"""Every example of the API's docstrings and of the README does what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import pgolf_codec
from pgolf_codec.errors import PgolfError

ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def has_default_model() -> bool:
    try:
        pgolf_codec.load_model()
    except (ImportError, PgolfError):
        return False
    return True


@pytest.fixture
def _default_model(request: pytest.FixtureRequest) -> None:
    """The default model; where the tree has none yet, a stand-in."""
    if not has_default_model():
        request.getfixturevalue("stand_in_models")


@pytest.mark.usefixtures("_default_model")
def test_docstrings() -> None:
    done = doctest.testmod(pgolf_codec, optionflags=FLAGS)
    assert done.failed == 0
    assert done.attempted > 10


@pytest.mark.usefixtures("_default_model")
def test_readme() -> None:
    done = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=FLAGS)
    assert done.failed == 0
    assert done.attempted >= 5
