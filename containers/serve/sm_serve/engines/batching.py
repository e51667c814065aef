"""Dynamic batching: concurrent requests share forward passes on one worker thread.

While one batch runs, newcomers queue up and form the next, so a lone client waits for nobody and
many clients get large batches. With a delay, a worker whose last batch was shared waits a bounded
moment for as many; on a CPU that costs more than the larger batch saves. The oldest item is
always in the next batch; its company are the waiting items nearest to it in length, so that little
is computed on padding and nothing starves. A batch is answered by one adapter or by none.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sm_serve.engines.protocol import ADAPTER
from sm_serve.errors import EngineError, NotReady, ServeError

logger = logging.getLogger(__name__)

Encoded = TypeVar("Encoded")
MAX_CONSECUTIVE_FAILURES = 3
LENGTH_SLACK = 16


class _Call:
    """The items of one request and the future that gets their results."""

    __slots__ = ("future", "loop", "remaining", "results")

    def __init__(self, size: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.results: list[Any] = [None] * size
        self.remaining = size


_Arrival = tuple[_Call, Sequence[Any], Mapping[str, Any]]


@dataclass(slots=True, order=True)
class _Item(Generic[Encoded]):
    adapter: str
    length: int
    order: int
    encoded: Encoded = field(compare=False)
    call: _Call = field(compare=False)
    index: int = field(compare=False)
    taken: bool = field(compare=False, default=False)


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


class Batcher(Generic[Encoded]):
    """Runs `forward` on batches of what `prepare` made of the inputs, on a thread of its own.

    `prepare` turns inputs into encoded items and says how long each is; it may raise ServeError
    for a bad one, which fails the call that brought it only. `mark` tells an encoded item whose
    adapter is to answer, "" for none. `forward` returns one result an item.
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[Any], Mapping[str, Any]], list[tuple[int, Encoded]]],
        forward: Callable[[list[Encoded]], list[Any]],
        limits: BatchLimits,
        name: str = "batcher",
        mark: Callable[[Encoded, str], None] = lambda encoded, adapter: None,
    ) -> None:
        self._prepare = prepare
        self._forward = forward
        self._limits = limits
        self._mark = mark
        self._arrivals: deque[_Arrival] = deque()
        self._wake = threading.Condition()
        self._by_length: list[_Item[Encoded]] = []
        self._by_age: deque[_Item[Encoded]] = deque()
        self._order = 0
        self._last_batch = 0
        self._busy_since: float | None = None
        self._failures = 0
        self._broken: str | None = None
        self._closed = False
        self._batches = 0
        self._items = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Results of the inputs in order; cancelling drops what has not started."""
        if not inputs:
            return []
        reason = self.health()
        if reason is not None:
            raise NotReady(f"the model does not answer: {reason}")
        call = _Call(len(inputs))
        with self._wake:
            self._arrivals.append((call, inputs, parameters))
            self._wake.notify()
        return await call.future

    def health(self) -> str | None:
        """None when the worker runs and its current batch is not older than the stall limit."""
        if self._broken is not None:
            return self._broken
        if self._closed or not self._thread.is_alive():
            return "the engine's worker thread is not running"
        since = self._busy_since
        if since is not None and time.monotonic() - since > self._limits.stall:
            return f"the engine has been busy with one batch for over {self._limits.stall:g} s"
        return None

    def stats(self) -> dict[str, float]:
        """Waiting items, and the running totals of batches and items."""
        return {
            "queue_items": len(self._by_length) + sum(len(a[1]) for a in list(self._arrivals)),
            "batches_total": self._batches,
            "batch_items_total": self._items,
            "last_batch_size": self._last_batch,
        }

    def close(self) -> None:
        """Ends the thread; calls still waiting get NotReady."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            while self._collect():
                batch = self._choose()
                if batch:
                    self._execute(batch)
        except BaseException as error:
            # A worker that dies silently would leave /ping lying and clients hanging.
            logger.exception("the engine's worker thread died")
            self._broken = f"the worker thread died ({type(error).__name__})"
        finally:
            self._fail_waiting()

    def _collect(self) -> bool:
        """Waits for work and encodes it; False when closed."""
        with self._wake:
            while not self._arrivals and not self._by_length and not self._closed:
                self._wake.wait()
            if self._closed:
                return False
            waiting = len(self._arrivals) + len(self._by_length)
            # Under load the clients that were just answered are about to come back.
            if self._limits.delay and waiting < min(self._last_batch, self._limits.items):
                self._wait_for_company(min(self._last_batch, self._limits.items))
            arrivals = list(self._arrivals)
            self._arrivals.clear()
        self._busy_since = time.monotonic()
        self._encode(arrivals)
        self._busy_since = None
        return True

    def _wait_for_company(self, expected: int) -> None:
        deadline = time.monotonic() + self._limits.delay
        while len(self._arrivals) + len(self._by_length) < expected and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0 or not self._wake.wait(left):
                return

    def _encode(self, arrivals: list[_Arrival]) -> None:
        """Queues the items of new calls; those with the same parameters are prepared in one go."""
        waiting = [arrival for arrival in arrivals if not arrival[0].future.cancelled()]
        for _, group in itertools.groupby(waiting, key=lambda each: {**each[2], ADAPTER: None}):
            calls = list(group)
            try:
                self._queue(calls)
            except Exception as error:
                if len(calls) == 1:
                    self._refuse(calls[0][0], error)
                    continue
                # One of them is bad: each alone, so that the others get their answers.
                for call in calls:
                    self._encode([call])

    def _queue(self, calls: list[_Arrival]) -> None:
        inputs = [item for _, items, _ in calls for item in items]
        encoded = iter(self._prepare(inputs, calls[0][2]))
        for call, items, parameters in calls:
            adapter = parameters.get(ADAPTER) or ""
            for index, (length, value) in enumerate(itertools.islice(encoded, len(items))):
                self._order += 1
                self._mark(value, adapter)
                item = _Item(adapter, length, self._order, value, call, index)
                bisect.insort(self._by_length, item)
                self._by_age.append(item)

    def _refuse(self, call: _Call, error: Exception) -> None:
        if not isinstance(error, ServeError):
            logger.error("could not encode a request", exc_info=error)
            error = EngineError(f"encoding failed ({type(error).__name__})")
        self._finish([(call, error)])

    def _choose(self) -> list[_Item[Encoded]]:
        """The oldest waiting item and its neighbours in length, removed from the queues."""
        while self._by_age and (self._by_age[0].taken or self._by_age[0].call.future.done()):
            self._discard(self._by_age.popleft())
        if not self._by_age:
            return []
        low, high = self._company(bisect.bisect_left(self._by_length, self._by_age[0]))
        batch = self._by_length[low:high]
        del self._by_length[low:high]
        for item in batch:
            item.taken = True
        return [item for item in batch if not item.call.future.done()]

    def _company(self, position: int) -> tuple[int, int]:
        """The range of waiting items around one that make a batch with it: the nearest in length
        first."""
        queue = self._by_length
        low, high = position, position + 1
        length = tokens = queue[position].length
        while high - low < self._limits.items:
            options = []
            if high < len(queue) and self._fits(low, high, tokens + queue[high].length):
                options.append((queue[high].length - length, high))
            if low > 0 and self._fits(low - 1, high - 1, tokens + queue[low - 1].length):
                options.append((length - queue[low - 1].length, low - 1))
            if not options:
                break
            _, chosen = min(options, key=lambda option: option[0])
            tokens += queue[chosen].length
            low, high = min(low, chosen), max(high, chosen + 1)
        return low, high

    def _fits(self, first: int, last: int, tokens: int) -> bool:
        """Whether items from the first to the last, with so many tokens, may be a batch."""
        if self._by_length[first].adapter != self._by_length[last].adapter:
            return False
        if not self._limits.padded:
            return tokens <= self._limits.tokens
        shortest, longest = self._by_length[first].length, self._by_length[last].length
        return longest * (last + 1 - first) <= self._limits.tokens and longest <= shortest + max(
            LENGTH_SLACK, shortest // 2
        )

    def _discard(self, item: _Item[Encoded]) -> None:
        if not item.taken:
            position = bisect.bisect_left(self._by_length, item)
            del self._by_length[position]
            item.taken = True

    def _execute(self, batch: list[_Item[Encoded]]) -> None:
        self._busy_since = time.monotonic()
        try:
            results = self._forward([item.encoded for item in batch])
        except Exception as error:
            self._recover(batch, error)
            return
        finally:
            self._busy_since = None
        self._failures = 0
        self._batches += 1
        self._items += len(batch)
        self._last_batch = len(batch)
        done: list[tuple[_Call, Any]] = []
        for item, result in zip(batch, results, strict=True):
            call = item.call
            call.results[item.index] = result
            call.remaining -= 1
            if call.remaining == 0:
                done.append((call, call.results))
        self._finish(done)

    def _recover(self, batch: list[_Item[Encoded]], error: Exception) -> None:
        """Halves a failed batch (too little memory, one poisonous item), fails a lone item."""
        logger.error("a batch of %d failed: %s", len(batch), error, exc_info=error)
        if len(batch) > 1:
            middle = len(batch) // 2
            self._execute(batch[:middle])
            self._execute(batch[middle:])
            return
        self._failures += 1
        if self._failures >= MAX_CONSECUTIVE_FAILURES:
            self._broken = f"{self._failures} batches failed in a row ({type(error).__name__})"
        failure = EngineError(f"the model failed on this input ({type(error).__name__})")
        self._finish([(batch[0].call, failure)])

    def _fail_waiting(self) -> None:
        with self._wake:
            self._closed = True
            calls = {id(item.call): item.call for item in self._by_length}
            calls.update({id(arrival[0]): arrival[0] for arrival in self._arrivals})
            self._arrivals.clear()
        error = NotReady(self._broken or "the server is stopping")
        self._finish([(call, error) for call in calls.values()])

    @staticmethod
    def _finish(done: list[tuple[_Call, Any]]) -> None:
        """Hands outcomes to their event loops, one hop for each loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Call, Any]]] = {}
        for entry in done:
            by_loop.setdefault(entry[0].loop, []).append(entry)
        for loop, entries in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, entries)
            except RuntimeError:  # the loop is closed: nobody waits any more
                logger.debug("an answer came after its event loop had closed")


def _settle(entries: list[tuple[_Call, Any]]) -> None:
    for call, outcome in entries:
        if call.future.done():
            continue
        if isinstance(outcome, Exception):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)
