"""A browser where one is installed, and a page of each kind."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _walk(n_words: int) -> bytes:
    """Words whose letters each follow from the one before: the stand-in model sees that, zstd
    does not; and now and then what is markup, or no ASCII."""
    chance, letters = random.Random(1), "mouseply"
    words, at = [], 0
    for n in range(n_words):
        word = ""
        for _ in range(12):
            at = (at + chance.choice((1, 2, 5))) % len(letters)
            word += letters[at]
        rare = n % 25 == 24
        words.append(word + (" — <b>&\n" if rare else " "))
    return "".join(words).encode()


@pytest.fixture(scope="session")
def prose() -> bytes:
    """Some 4 kB that the stand-in model codes."""
    return _walk(300)


def _load() -> ModuleType:
    path = Path(__file__).with_name("browser.py")
    spec = importlib.util.spec_from_file_location("_report_browser", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["_report_browser"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A ``Browser``; its tests are skipped where there is none."""
    module = _load()
    if module.COMMAND is None:
        pytest.skip("no chromium is installed")
    with module.Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found
