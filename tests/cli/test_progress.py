"""The progress line: what it says, and when it says nothing."""

from __future__ import annotations

import io

import pytest

from pgolf_codec import progress
from pgolf_codec.progress import Progress, size


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_line() -> None:
    shown = Progress("text", 2_000_000, None)
    shown.update(500_000)
    assert shown.line(10.0) == "text   25% 500 kB of 2 MB, 50 kB/s, 0:30 left"


def test_line_of_a_pipe() -> None:
    shown = Progress("(stdin)", None, None)
    shown.update(500_000)
    assert shown.line(10.0) == "(stdin)  500 kB, 50 kB/s"


def test_terminal_is_drawn_on_and_left_clean(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress("text", 1000, terminal) as shown:
        clock[0] += 1
        shown.update(500)
        assert "50% 500 B of 1 kB, 500 B/s, 0:01 left" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_short_work_draws_nothing(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress("text", 1000, terminal) as shown:
        clock[0] += 0.3
        shown.update(1000)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_only_a_terminal_is_drawn_on(clock: list[float], stream: io.StringIO | None) -> None:
    with Progress("text", 1000, stream) as shown:
        clock[0] += 10
        shown.update(500)
    assert shown.n_done == 500
    assert stream is None or stream.getvalue() == ""


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1234, "1.23 kB"), (999_600, "1 MB")]
    + [(45_678_901, "45.7 MB"), (3e9, "3 GB"), (7e12, "7 TB")],
)
def test_size(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text
