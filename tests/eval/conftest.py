"""A zoo of predictors, and a quick way to ask them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from pgolf_codec.eval import audit, foreign, tasks
from pgolf_codec.eval.foreign import Text
from pgolf_codec.eval.subject import Subject, load

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))  # for tiny_model.py

ZOO = Path(__file__).with_name("zoo")
DOCUMENTS = [
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "There was a king with a large jaw and a queen with a plain face.\nThere were  two of them.",
    "She said that the boats had come in the night, and that it was a road to the sea.",
    "A mill stood where the river bends.",
]


class Here:
    """A :class:`Host` without a process of its own: the same tasks, in a moment."""

    def __init__(self, spec: str, limits: object = None, *, hidden: object = ()) -> None:
        sys.modules.pop("parts", None)
        factory, source = load(spec)
        self.subject = Subject(factory)
        self.about = {"isolation": "none", "source": str(source)} | tasks.describe(self.subject)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def ask(self, task: str, progress: object = None, **values: Any) -> dict[str, Any]:
        if task == "files":
            return {"files": []}
        return tasks.TASKS[task](self.subject, lambda n_done: None, **values)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors run in this process."""
    monkeypatch.setattr(audit, "Host", Here)
    monkeypatch.setattr(foreign, "Host", Here)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.syspath_prepend(str(ZOO))


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """``ask(spec, task, ...)`` of a predictor in this process."""
    return lambda spec, task, **values: Here(spec).ask(task, **values)


@pytest.fixture
def text() -> Text:
    return Text(tuple(document.encode() for document in DOCUMENTS))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The same documents as a file."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in DOCUMENTS))
    return path


@pytest.fixture
def zoo() -> Path:
    return ZOO
