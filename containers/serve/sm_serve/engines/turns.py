"""Whose turn it is: what one request asks many times over must not hold the others up.

An owner is a request as its client sees it, however many inputs, lines or prompts it has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass

OWNER: ContextVar[int] = ContextVar("owner", default=0)
"""The request that this task works for; 0 where nobody has said."""
EXTRA_SHARE = 0.75
"""Of an engine's places: as much as the second and further inputs of all owners may hold."""


@dataclass(eq=False, slots=True)
class _Waiting:
    owner: int
    cost: int
    future: asyncio.Future[None]


class Turns:
    """An owner's first input passes at once. All others share `capacity`, and take turns.

    Of those that wait, one of the owner with the least in work goes next. So a request of one input
    finds its place kept, and lists share what is left alike.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._running: Counter[int] = Counter()
        self._extra = 0
        self._waiting: dict[int, deque[_Waiting]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, cost: int = 1) -> AsyncIterator[None]:
        """Waits until the task's owner may go on, and holds its place inside."""
        owner = OWNER.get()
        first = owner == 0 or not self._running[owner]
        if first:
            self._running[owner] += 1
        else:
            await self._wait(_Waiting(owner, cost, asyncio.get_running_loop().create_future()))
        try:
            yield
        finally:
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
            if not first:
                self._extra -= cost
            self._admit()

    async def _wait(self, item: _Waiting) -> None:
        self._waiting.setdefault(item.owner, deque()).append(item)
        self._admit()
        try:
            await item.future
        except asyncio.CancelledError:
            if item.future.cancelled():
                self._forget(item)
            else:  # it was let in at the same moment
                self._running[item.owner] -= 1
                self._extra -= item.cost
                self._admit()
            raise

    def _forget(self, item: _Waiting) -> None:
        queue = self._waiting.get(item.owner, deque())
        if item in queue:
            queue.remove(item)
        if not queue:
            self._waiting.pop(item.owner, None)

    def _admit(self) -> None:
        while self._waiting:
            owner = min(self._waiting, key=self._running.__getitem__)
            item = self._waiting[owner][0]
            if item.future.done():  # cancelled, and its task has not run since
                self._forget(item)
                continue
            if self._running[owner] and self._extra + item.cost > self._capacity:
                return
            self._forget(item)
            self._running[owner] += 1
            self._extra += item.cost
            item.future.set_result(None)
