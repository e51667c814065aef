"""Work beside the event loop: threads that block, and how their failure reads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from sm_serve.errors import StartupError, first_of

T = TypeVar("T")
SLICE = 64
"""Inputs of one request that are in the engine's hands at a time."""


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Runs a blocking function on a daemon thread, which cannot keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            setter(outcome)

    def work() -> None:
        setter: Callable[[Any], None] = future.set_result
        outcome: Any
        try:
            outcome = function(*args)
        except BaseException as error:
            setter, outcome = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the event loop ended before this thread
            loop.call_soon_threadsafe(settle, setter, outcome)

    threading.Thread(target=work, name="sm-serve-load", daemon=True).start()
    return await future


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all, in order; the first failure cancels the rest.

    Only SLICE of them are begun at a time: a list of thousands is worked off, not thrown at the
    engine.
    """
    numbered: Iterator[tuple[int, Coroutine[Any, Any, T]]] = enumerate(work)
    results: dict[int, T] = {}

    async def take() -> None:
        for index, coroutine in numbered:
            results[index] = await coroutine

    first = next(numbered, None)
    if first is None:
        return []
    second = next(numbered, None)
    if second is None:
        return [await first[1]]
    numbered = itertools.chain((first, second), numbered)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(SLICE):
                group.create_task(take())
    except ExceptionGroup as failures:
        raise first_of(failures) from None
    return [results[index] for index in range(len(results))]


def describe(error: BaseException) -> str:
    """An error in one line for the log."""
    if isinstance(error, StartupError):
        return str(error)
    return f"the model could not be loaded: {type(error).__name__}: {error}"
