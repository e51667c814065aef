"""One batch to the endpoint and back; and many batches at a time with bounded concurrency.

Nothing is measured here: answers are kept as they came, so that the time is the server's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from sm_launch.evaluation.client import Sender, Sent
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.result import Prediction, RowFailure
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.wire import MAX_PAYLOAD_BYTES, WireError, error_message

_AHEAD = 8
"""Batches that wait, for each request under way: reading answers must not keep requests waiting."""


@dataclass
class Replies:
    """What became of a batch: every example is in `answers` or in `failures`."""

    answers: list[tuple[Example, Any]] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    """The requests, without their bodies."""

    @property
    def retries(self) -> int:
        return sum(sent.retries for sent in self.sent)

    def add(self, other: Replies) -> None:
        self.answers += other.answers
        self.failures += other.failures
        self.sent += other.sent


@dataclass
class Outcome:
    """Rows that were answered, and those that were not."""

    predictions: list[Prediction] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)
    retries: int = 0

    def add(self, other: Outcome) -> None:
        self.predictions += other.predictions
        self.failures += other.failures
        self.retries += other.retries


def answer_batch(sender: Sender, task: Task, batch: Sequence[Example]) -> Replies:
    """Sends `batch`; when the endpoint refuses it, or answers it with something else than an
    answer a row, halves it to find the rows that are to blame."""
    body = task.encode(batch)
    if len(body) > MAX_PAYLOAD_BYTES:
        reason = f"the request has {len(body)} bytes, the limit is {MAX_PAYLOAD_BYTES}"
        return _halves(sender, task, batch) if len(batch) > 1 else _failed(batch, reason)
    sent = sender.send(body)
    replies = Replies(sent=[_without_body(sent)])
    if sent.reply is None:
        replies.add(_failed(batch, sent.problem))
    elif sent.reply.status == 200:
        try:
            answers = task.answers(sent.reply.body, len(batch))
        except WireError as error:
            once = len(batch) == 1
            replies.add(_failed(batch, str(error), 200) if once else _halves(sender, task, batch))
        else:
            replies.answers = list(zip(batch, answers, strict=True))
    elif sent.gave_up or len(batch) == 1:
        replies.add(_failed(batch, error_message(sent.reply), sent.reply.status))
    else:
        replies.add(_halves(sender, task, batch))
    return replies


def _halves(sender: Sender, task: Task, batch: Sequence[Example]) -> Replies:
    middle = len(batch) // 2
    replies = answer_batch(sender, task, batch[:middle])
    replies.add(answer_batch(sender, task, batch[middle:]))
    return replies


def _without_body(sent: Sent) -> Sent:
    reply = sent.reply and replace(sent.reply, body=b"")
    return replace(sent, reply=reply)


def _failed(batch: Sequence[Example], reason: str, status: int | None = None) -> Replies:
    return Replies(failures=[RowFailure(example.index, reason, status) for example in batch])


def read_answers(task: Task, replies: Replies) -> Outcome:
    """The answers as predictions that are not scored yet; one that cannot be read fails its row."""
    outcome = read_pairs(task, replies.answers, status=200)
    outcome.failures += replies.failures
    outcome.retries = replies.retries
    return outcome


def read_pairs(
    task: Task, answers: Iterable[tuple[Example, Any]], status: int | None = None
) -> Outcome:
    """See `read_answers`; `status` is that of the replies which the answers came in."""
    outcome = Outcome()
    for example, answer in answers:
        try:
            outcome.predictions.append(task.read(example, answer))
        except WireError as error:
            reason = error_of(answer) or str(error)
            outcome.failures.append(RowFailure(example.index, reason, status))
    return outcome


def error_of(answer: Any) -> str:
    """What an error that a server wrote in place of an answer says; empty for anything else."""
    if isinstance(answer, list) and len(answer) == 1:
        return error_of(answer[0])
    if not isinstance(answer, Mapping) or not answer.get("error"):
        return ""
    error = answer["error"]
    return str(error.get("message", error) if isinstance(error, Mapping) else error)


def answer_all(
    sender: Sender,
    task: Task,
    examples: Sequence[Example],
    *,
    batch_size: int,
    concurrency: int,
    on_done: Callable[[Replies], None],
) -> None:
    """Sends all examples; `on_done` sees what became of each batch, in the calling thread.

    At most `concurrency` requests are under way. An exception (of `on_done`, or Ctrl-C) stops what
    waits, and does not wait out the pauses between retries.
    """
    batches = iter(
        [examples[i : i + batch_size] for i in range(0, len(examples), batch_size)],
    )
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="evaluate")
    try:
        for future in _completed(pool, sender, task, batches, window=_AHEAD * concurrency):
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
) -> Iterator[Future[Replies]]:
    pending = {pool.submit(answer_batch, sender, task, batch) for batch in islice(batches, window)}
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        # What succeeded first: a failure among them ends the run, and must not take them along.
        for future in sorted(done, key=lambda future: future.exception() is not None):
            for batch in islice(batches, 1):
                pending.add(pool.submit(answer_batch, sender, task, batch))
            yield future
