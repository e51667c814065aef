"""Work on large inputs beside the event loop, which must go on answering /ping meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
LARGE = 20_000
"""Characters from which on a thread is worth its tenth of a millisecond."""


async def run(size: int, function: Callable[..., T], *args: Any) -> T:
    """What the function gives, by a thread where the input is large."""
    if size < LARGE:
        return function(*args)
    return await asyncio.to_thread(function, *args)


class SpareTokenizer:
    """A copy for such threads: a tokenizer keeps its options, and is no two threads' at once."""

    def __init__(self, tokenizer: Any) -> None:
        self._own = tokenizer
        self._copy: Any = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        """The copy, for one thread; made when it is first needed, as it may be large."""
        with self._lock:
            if self._copy is None:
                self._copy = copy.deepcopy(self._own)
            yield self._copy
