"""Work beside the event loop: threads that block, and how their failure reads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sm_serve.errors import StartupError

T = TypeVar("T")


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


def describe(error: BaseException) -> str:
    """An error in one line for the log."""
    if isinstance(error, StartupError):
        return str(error)
    return f"the model could not be loaded: {type(error).__name__}: {error}"
