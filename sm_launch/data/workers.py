"""Ordered, bounded map over processes: few chunks in memory, whatever the size of the file."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL_BYTES = 32 * 2**20
"""Below this size the start of processes costs more than they save."""
_IN_FLIGHT_PER_WORKER = 3


class Workers:
    """Runs a function over items, in order, in this process or in several.

    Args:
        count: processes; 1 works in this one.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._collects = True

    def __enter__(self) -> Workers:
        # Chunks are many small objects without cycles: looking for some takes a third of the time.
        self._collects = gc.isenabled()
        gc.disable()
        if self.count > 1:
            # Not fork: this process may have threads (a progress bar) that hold locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=gc.disable)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._collects:
            gc.enable()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items; the function must be importable."""
        if self._pool is None:
            yield from map(function, items)
            return
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) >= self.count * _IN_FLIGHT_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def choose(asked: int | None, input_bytes: int) -> int:
    """How many processes to clean with."""
    if asked is not None:
        return asked
    return 1 if input_bytes < SMALL_BYTES else len(os.sched_getaffinity(0))
