"""A browser where one is installed, and a page of each kind."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


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
