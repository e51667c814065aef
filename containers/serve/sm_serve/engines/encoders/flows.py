"""What waits for a batch: calls, the flows of their owners, and what makes a batch together."""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sm_serve.engines.turns import OWNER

Encoded = TypeVar("Encoded")
LENGTH_SLACK = 16


class Call:
    """The items of one request and the future that gets their results."""

    __slots__ = ("failed", "future", "loop", "owner", "remaining", "results")

    def __init__(self, size: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.results: list[Any] = [None] * size
        self.remaining = size
        self.owner: Any = OWNER.get() or self
        self.failed = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for its results any more."""
        return self.failed or self.future.done()


@dataclass(slots=True)
class Raw:
    """Inputs of a call that are not encoded yet: those from `start` on."""

    call: Call
    inputs: Sequence[Any]
    parameters: Mapping[str, Any]
    start: int = 0

    @property
    def size(self) -> int:
        """Inputs that are left."""
        return len(self.inputs) - self.start


@dataclass(slots=True, order=True)
class Item(Generic[Encoded]):
    """An encoded input; sorted by length."""

    length: int
    order: int
    encoded: Encoded = field(compare=False)
    call: Call = field(compare=False)
    index: int = field(compare=False)


class Flow(Generic[Encoded]):
    """What one owner has to do with one adapter: inputs, then encoded items by length."""

    __slots__ = ("adapter", "asked", "begun", "items", "order", "raw")

    def __init__(self, adapter: str, order: int, begun: int) -> None:
        self.adapter = adapter
        self.order = order
        self.begun = begun
        self.asked = 0
        self.raw: deque[Raw] = deque()
        self.items: list[Item[Encoded]] = []

    def add(self, raw: Raw) -> None:
        """Takes a call's inputs in."""
        self.raw.append(raw)
        self.asked += raw.size

    def forget(self) -> None:
        """Drops what nobody waits for."""
        self.items = [item for item in self.items if not item.call.over]
        self.raw = deque(raw for raw in self.raw if not raw.call.over)

    @property
    def work(self) -> int:
        """Inputs that wait."""
        return len(self.items) + sum(raw.size for raw in self.raw)

    def take(self, most: int) -> list[Raw]:
        """The next inputs to encode, at most so many."""
        taken: list[Raw] = []
        while self.raw and most > 0:
            raw = self.raw[0]
            count = min(raw.size, most)
            taken.append(
                Raw(raw.call, raw.inputs[raw.start : raw.start + count], raw.parameters, raw.start)
            )
            raw.start += count
            most -= count
            if not raw.size:
                self.raw.popleft()
        return taken


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Items and tokens in a forward pass, and the seconds a shared batch waits for more.

    Where batches are `padded`, a token of padding costs as much as any other.
    """

    items: int = 32
    tokens: int = 8192
    delay: float = 0.0
    stall: float = 60.0
    padded: bool = True


class Batch(Generic[Encoded]):
    """Items that go well together: the first one, and what is near to it in length."""

    def __init__(self, head: Item[Encoded], limits: BatchLimits) -> None:
        self.items = [head]
        self._limits = limits
        self._length = self._shortest = self._longest = self._tokens = head.length

    def add_round(self, flows: list[Flow[Encoded]]) -> list[Flow[Encoded]]:
        """Adds one item of each flow, the nearest ones first; gives the flows that had one."""
        nearest = []
        for flow in flows:
            place = self._nearest(flow)
            if place is not None:
                item = flow.items[place]
                nearest.append((abs(item.length - self._length), item.order, flow, item))
        added = []
        for _, _, flow, item in sorted(nearest, key=lambda each: each[:2]):
            if len(self.items) < self._limits.items and self._fits(item.length):
                del flow.items[bisect.bisect_left(flow.items, item)]
                self._add(item)
                added.append(flow)
        return added

    def _nearest(self, flow: Flow[Encoded]) -> int | None:
        """The place of the flow's item that is nearest in length and fits."""
        items = flow.items
        above = bisect.bisect_left(items, self._length, key=lambda item: item.length)
        options = [place for place in (above, above - 1) if 0 <= place < len(items)]
        options.sort(key=lambda place: abs(items[place].length - self._length))
        return next((place for place in options if self._fits(items[place].length)), None)

    def _fits(self, length: int) -> bool:
        if not self._limits.padded:
            return self._tokens + length <= self._limits.tokens
        shortest, longest = min(self._shortest, length), max(self._longest, length)
        return longest * (len(self.items) + 1) <= self._limits.tokens and longest <= (
            shortest + max(LENGTH_SLACK, shortest // 2)
        )

    def _add(self, item: Item[Encoded]) -> None:
        self.items.append(item)
        self._tokens += item.length
        self._shortest = min(self._shortest, item.length)
        self._longest = max(self._longest, item.length)
