"""Dynamic batching: concurrent requests share forward passes on one worker thread.

While one batch runs, newcomers queue up and form the next, so a lone client waits for nobody and
many clients get large batches. With a delay, a worker whose last batch was shared waits a bounded
moment for as many; on a CPU that costs more than the larger batch saves.

Owners (requests as clients see them) take turns. A batch begins with the oldest input of the owner
that asked for the least, every second one with that of the owner that has not begun one for
longest: a lone input waits for one batch more than alone at most, and no list starves. Its company
are inputs near to it in length, of every owner one before any has two, so that little is computed
on padding. Inputs are tokenized a few batches ahead, never a whole list at once. A batch is
answered by one adapter or by none.
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
from typing import Any, Generic

from sm_serve.engines.encoders.flows import Batch, BatchLimits, Call, Encoded, Flow, Item, Raw
from sm_serve.engines.failures import MAX_CONSECUTIVE_FAILURES, engine_failure
from sm_serve.errors import BadInput, DeviceError, EngineError, NotReady, ServeError
from sm_serve.protocol import ADAPTER

logger = logging.getLogger(__name__)

AHEAD = 2
"""Batches of inputs that are encoded at once: what a newcomer may have to wait for."""


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
        self._arrivals: deque[Raw] = deque()
        self._wake = threading.Condition()
        self._flows: dict[tuple[Any, str], Flow[Encoded]] = {}
        self._order = 0
        self._turn = 0
        self._last_batch = 0
        self._busy_since: float | None = None
        self._failures = 0
        self._broken: str | None = None
        self._closed = False
        self._batches = 0
        self._items = 0
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Results of the inputs in order; cancelling drops what has not started."""
        if not inputs:
            return []
        reason = self.health()
        if reason is not None:
            raise NotReady(f"the model does not answer: {reason}")
        call = Call(len(inputs))
        with self._wake:
            self._arrivals.append(Raw(call, inputs, parameters))
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
            "queue_items": self._waiting,
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
        """Waits for work and encodes some of it; False when closed."""
        with self._wake:
            while not self._arrivals and not self._flows and not self._closed:
                self._wake.wait()
            if self._closed:
                return False
            # Under load the clients that were just answered are about to come back.
            expected = min(self._last_batch, self._limits.items)
            if self._limits.delay and self._known() < expected:
                self._wait_for_company(expected)
            arrivals = list(self._arrivals)
            self._arrivals.clear()
        self._busy_since = time.monotonic()
        self._turn += 1
        self._sort_in(arrivals)
        self._encode(self._next_inputs())
        self._waiting = sum(flow.work for flow in self._flows.values())
        self._busy_since = None
        return True

    def _known(self) -> int:
        return len(self._arrivals) + sum(len(flow.items) for flow in self._flows.values())

    def _wait_for_company(self, expected: int) -> None:
        deadline = time.monotonic() + self._limits.delay
        while self._known() < expected and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0 or not self._wake.wait(left):
                return

    def _sort_in(self, arrivals: list[Raw]) -> None:
        for raw in arrivals:
            adapter = raw.parameters.get(ADAPTER) or ""
            key = raw.call.owner, adapter
            if key not in self._flows:
                self._order += 1
                self._flows[key] = Flow(adapter, self._order, self._turn)
            self._flows[key].add(raw)
        for flow in self._flows.values():
            flow.forget()
        self._flows = {key: flow for key, flow in self._flows.items() if flow.raw or flow.items}

    def _rank(self, flow: Flow[Encoded]) -> tuple[int, int]:
        """Whose turn it is: the lowest goes first."""
        return (flow.asked if self._turn % 2 else flow.begun), flow.order

    def _next_inputs(self) -> list[Raw]:
        """What to encode now: up to a batch of each owner, two or so altogether."""
        inputs: list[Raw] = []
        left = AHEAD * self._limits.items
        for flow in sorted(self._flows.values(), key=self._rank):
            if left <= 0:
                break
            taken = flow.take(min(left, self._limits.items - len(flow.items)))
            left -= sum(len(raw.inputs) for raw in taken)
            inputs += taken
        return inputs

    def _encode(self, inputs: list[Raw]) -> None:
        """Queues items; inputs with the same parameters are prepared in one go."""
        waiting = [raw for raw in inputs if not raw.call.over]
        for _, group in itertools.groupby(
            waiting, key=lambda each: {**each.parameters, ADAPTER: 0}
        ):
            raws = list(group)
            try:
                self._queue(raws)
            except Exception as error:
                if len(raws) == 1:
                    self._refuse(raws[0], error)
                    continue
                # One of them is bad: each alone, so that the others get their answers.
                for raw in raws:
                    self._encode([raw])

    def _queue(self, raws: list[Raw]) -> None:
        inputs = [item for raw in raws for item in raw.inputs]
        encoded = iter(self._prepare(inputs, raws[0].parameters))
        for raw in raws:
            adapter = raw.parameters.get(ADAPTER) or ""
            flow = self._flows[raw.call.owner, adapter]
            for index, (length, value) in enumerate(itertools.islice(encoded, len(raw.inputs))):
                self._order += 1
                self._mark(value, adapter)
                item = Item(length, self._order, value, raw.call, raw.start + index)
                bisect.insort(flow.items, item)

    def _refuse(self, raw: Raw, error: Exception) -> None:
        if isinstance(error, BadInput):
            error = BadInput(error.index + raw.start, error.fault, code=error.code)
        if not isinstance(error, ServeError):
            logger.error("could not encode a request", exc_info=error)
            error = EngineError(f"encoding failed ({type(error).__name__})")
        self._finish([(raw.call, error)])

    def _choose(self) -> list[Item[Encoded]]:
        """The next batch, removed from the queues."""
        flows = [flow for flow in self._flows.values() if flow.items]
        if not flows:
            return []
        first = min(flows, key=self._rank)
        first.begun = self._turn
        head = min(first.items, key=lambda item: item.order)
        first.items.remove(head)
        batch = Batch(head, self._limits)
        flows = [flow for flow in flows if flow.adapter == first.adapter]
        while flows and len(batch.items) < self._limits.items:
            flows = batch.add_round(flows)
        return batch.items

    def _execute(self, batch: list[Item[Encoded]]) -> None:
        self._busy_since = time.monotonic()
        try:
            results = self._forward([item.encoded for item in batch])
        except ServeError as error:  # known, and no fault of the engine's
            self._finish([(item.call, error) for item in batch])
            return
        except Exception as error:
            self._recover(batch, error)
            return
        finally:
            self._busy_since = None
        self._failures = 0
        self._batches += 1
        self._items += len(batch)
        self._last_batch = len(batch)
        done: list[tuple[Call, Any]] = []
        for item, result in zip(batch, results, strict=True):
            call = item.call
            if call.failed:
                continue
            call.results[item.index] = result
            call.remaining -= 1
            if call.remaining == 0:
                done.append((call, call.results))
        self._finish(done)

    def _recover(self, batch: list[Item[Encoded]], error: Exception) -> None:
        """Halves a failed batch (too little memory, one poisonous item), fails a lone item."""
        logger.error("a batch of %d failed: %s", len(batch), error, exc_info=error)
        failure = engine_failure(error, "the model failed on this input")
        if isinstance(failure, DeviceError):
            self._broken = f"the device has failed ({type(error).__name__})"
            self._finish([(item.call, failure) for item in batch])
            return
        if len(batch) > 1:
            middle = len(batch) // 2
            self._execute(batch[:middle])
            self._execute(batch[middle:])
            return
        self._failures += 1
        if self._failures >= MAX_CONSECUTIVE_FAILURES:
            self._broken = f"{self._failures} batches failed in a row ({type(error).__name__})"
        self._finish([(batch[0].call, failure)])

    def _fail_waiting(self) -> None:
        with self._wake:
            self._closed = True
            flows = self._flows.values()
            raws = [*self._arrivals, *(raw for flow in flows for raw in flow.raw)]
            items = [item for flow in flows for item in flow.items]
            waiting = [*(raw.call for raw in raws), *(item.call for item in items)]
            calls = {id(call): call for call in waiting}
            self._arrivals.clear()
            self._flows.clear()
        error = NotReady(self._broken or "the server is stopping")
        self._finish([(call, error) for call in calls.values()])

    @staticmethod
    def _finish(done: list[tuple[Call, Any]]) -> None:
        """Hands outcomes to their event loops, one hop for each loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Call, Any]]] = {}
        for entry in done:
            entry[0].failed |= isinstance(entry[1], Exception)
            by_loop.setdefault(entry[0].loop, []).append(entry)
        for loop, entries in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, entries)
            except RuntimeError:  # the loop is closed: nobody waits any more
                logger.debug("an answer came after its event loop had closed")


def _settle(entries: list[tuple[Call, Any]]) -> None:
    for call, outcome in entries:
        if call.future.done():
            continue
        if isinstance(outcome, Exception):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)
