"""One batch to the endpoint and back; and many batches at a time with bounded concurrency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from sm_launch.evaluation.client import Sender
from sm_launch.evaluation.examples import Example
from sm_launch.evaluation.result import Prediction, RowFailure
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.wire import MAX_PAYLOAD_BYTES, WireError, error_message


@dataclass
class Outcome:
    """What became of a batch: every example is in `predictions` or in `failures`."""

    predictions: list[Prediction] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    retries: int = 0

    def add(self, other: Outcome) -> None:
        self.predictions += other.predictions
        self.failures += other.failures
        self.latencies_s += other.latencies_s
        self.retries += other.retries


def answer_batch(sender: Sender, task: Task, batch: Sequence[Example]) -> Outcome:
    """Sends `batch`; when the endpoint refuses it, halves it to find the rows that are to blame."""
    body = task.encode(batch)
    if len(body) > MAX_PAYLOAD_BYTES:
        reason = f"the request has {len(body)} bytes, the limit is {MAX_PAYLOAD_BYTES}"
        return _halves(sender, task, batch) if len(batch) > 1 else _failed(batch, reason)
    sent = sender.send(body)
    outcome = Outcome(latencies_s=[sent.latency_s], retries=sent.retries)
    if sent.reply is None:
        outcome.add(_failed(batch, sent.problem))
    elif sent.reply.status == 200:
        outcome.add(_read(sent.reply.body, task, batch))
    elif sent.gave_up or len(batch) == 1:
        outcome.add(_failed(batch, error_message(sent.reply), sent.reply.status))
    else:
        outcome.add(_halves(sender, task, batch))
    return outcome


def _halves(sender: Sender, task: Task, batch: Sequence[Example]) -> Outcome:
    middle = len(batch) // 2
    outcome = answer_batch(sender, task, batch[:middle])
    outcome.add(answer_batch(sender, task, batch[middle:]))
    return outcome


def _read(body: bytes, task: Task, batch: Sequence[Example]) -> Outcome:
    try:
        return Outcome(task.decode(body, batch))
    except WireError as error:
        return _failed(batch, str(error), 200)


def _failed(batch: Sequence[Example], reason: str, status: int | None = None) -> Outcome:
    return Outcome(failures=[RowFailure(example.index, reason, status) for example in batch])


def answer_all(
    sender: Sender,
    task: Task,
    examples: Sequence[Example],
    *,
    batch_size: int,
    concurrency: int,
    on_done: Callable[[Outcome], None],
) -> None:
    """Sends all examples; `on_done` sees each batch's outcome, in the calling thread.

    At most `concurrency` requests are under way and as many again wait. An exception (of `on_done`,
    or Ctrl-C) stops what waits, and does not wait out the pauses between retries.
    """
    batches = iter(
        [examples[i : i + batch_size] for i in range(0, len(examples), batch_size)],
    )
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="evaluate")
    try:
        for future in _completed(pool, sender, task, batches, window=2 * concurrency):
            on_done(future.result())
    finally:
        sender.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _completed(
    pool: ThreadPoolExecutor,
    sender: Sender,
    task: Task,
    batches: Iterator[Sequence[Example]],
    window: int,
) -> Iterator[Future[Outcome]]:
    pending = {pool.submit(answer_batch, sender, task, batch) for batch in islice(batches, window)}
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        # What succeeded first: a failure among them ends the run, and must not take them along.
        for future in sorted(done, key=lambda future: future.exception() is not None):
            for batch in islice(batches, 1):
                pending.add(pool.submit(answer_batch, sender, task, batch))
            yield future
