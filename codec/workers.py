"""Threads that share one job, with progress and Ctrl-C in the caller's thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

R = TypeVar("R")

Tick = Callable[[int], None]
"""A worker says how much more it has done; raises when the others have failed."""

POLL_SECONDS = 0.1


class _StoppedError(Exception):
    """Ends a worker whose result nobody waits for."""


def default_threads() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(
    jobs: Sequence[Callable[[Tick], R]],
    progress: Callable[[int], None] | None = None,
    *,
    threads: int,
) -> list[R]:
    """The results of ``jobs``; each thread takes the next of them when it has done one.

    ``progress`` gets the sum of all ticks now and then.  The first exception, also
    one that comes from outside (KeyboardInterrupt), stops all jobs at their next tick.
    """
    done = [0] * len(jobs)
    stopped = False

    def start(i: int) -> R:
        def tick(amount: int) -> None:
            done[i] += amount
            if stopped:
                raise _StoppedError

        return jobs[i](tick)

    with ThreadPoolExecutor(max(1, min(threads, len(jobs)))) as pool:
        futures = [pool.submit(start, i) for i in range(len(jobs))]
        try:
            while True:
                finished, running = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                if progress is not None:
                    progress(sum(done))
                if not running:
                    return [future.result() for future in futures]
        finally:
            stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
