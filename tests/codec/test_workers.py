"""Threads end together, with the first error or all results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pgolf_codec.codec import workers


def test_results_keep_their_order() -> None:
    second_first = threading.Event()

    def one(_: workers.Tick) -> int:
        assert second_first.wait(60)
        return 1

    def two(_: workers.Tick) -> int:
        second_first.set()
        return 2

    assert workers.run([one, two], threads=2) == [1, 2]


def test_an_error_stops_the_others() -> None:
    ended = threading.Event()

    def endless(tick: workers.Tick) -> None:
        try:
            while True:
                tick(1)
        finally:
            ended.set()

    def broken(_: workers.Tick) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        workers.run([endless, broken, endless], threads=3)
    assert ended.is_set()


def test_a_thread_takes_the_next_job() -> None:
    running, most = set[int](), []

    def job(i: int) -> Callable[[workers.Tick], int]:
        def start(tick: workers.Tick) -> int:
            running.add(i)
            most.append(len(running))
            time.sleep(0.01)  # so long that others would begin
            tick(1)
            running.remove(i)
            return i

        return start

    assert workers.run([job(i) for i in range(20)], threads=2) == list(range(20))
    assert max(most) <= 2


def test_after_an_error_no_job_begins() -> None:
    begun = []

    def broken(_: workers.Tick) -> None:
        raise ZeroDivisionError

    def later(_: workers.Tick) -> None:
        begun.append(1)
        time.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        workers.run([broken] + [later] * 1000, threads=1)
    assert len(begun) < 1000


def test_progress_is_the_sum_and_in_the_callers_thread() -> None:
    seen: list[tuple[int, int]] = []

    def job(tick: workers.Tick) -> None:
        for _ in range(100):
            tick(3)

    workers.run([job, job], lambda done: seen.append((done, threading.get_ident())), threads=2)
    assert seen[-1] == (600, threading.get_ident())
    assert {thread for _, thread in seen} == {threading.get_ident()}


def test_at_least_one_thread() -> None:
    assert workers.default_threads() >= 1
