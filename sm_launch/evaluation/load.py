"""How many requests a second an endpoint answers within a limit of its slowest hundredth.

So many clients ask at a time, each its next request when it has the answer to the last. Their
number is doubled until the 99th percentile is beyond the limit, or nothing is gained any more; then
the numbers between are halved.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sm_launch.evaluation.client import RetryPolicy, Sender, Sent
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.latency import latency_stats
from sm_launch.evaluation.result import LoadStep, LoadTest
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.wire import Invoke

_GAIN = 1.05
"""Twice the clients must bring so much more; else it is full, and they only wait longer."""
_FINE = 0.15
"""Numbers of clients nearer to each other than this share are not told apart."""
_PERCENTILE_OF = 100
"""Requests below which a 99th percentile is the slowest one's time."""
_LONGER = 4
"""So many times as long a step takes at most, to have that many."""

Measure = Callable[[int], LoadStep]


@dataclass(frozen=True)
class LoadPlan:
    """What is looked for.

    Attributes:
        p99_ms: the limit of the 99th percentile, in milliseconds, as a client sees it.
        most: clients at a time.
        seconds: each number of clients is measured for.
        invoke: sends a request once; None: what the rest of the evaluation sends by.
    """

    p99_ms: float = 1000.0
    most: int = 256
    seconds: float = 5.0
    invoke: Invoke | None = None


def search(measure: Measure, plan: LoadPlan) -> LoadTest:
    """Measure different numbers of clients; the best within the limit is the test's `best`."""
    steps: list[LoadStep] = []

    def bears(clients: int) -> bool:
        steps.append(measure(clients))
        return bool(LoadTest(plan.p99_ms, (steps[-1],)).best)

    good, bad = 0, plan.most + 1
    clients = 1
    while clients <= plan.most:
        if not bears(clients):
            bad = clients
            break
        full = len(steps) > 1 and steps[-1].requests_per_s < _GAIN * steps[-2].requests_per_s
        good = clients
        if full:
            break
        clients = min(2 * clients, plan.most) if clients < plan.most else plan.most + 1
    while good and bad <= plan.most and bad - good > max(1, _FINE * good):
        middle = (good + bad) // 2
        if bears(middle):
            good = middle
        else:
            bad = middle
    return LoadTest(plan.p99_ms, tuple(sorted(steps, key=lambda step: step.concurrency)))


def measure_with(
    sender: Sender, task: Task, examples: Sequence[Example], seconds: float
) -> Measure:
    """Measures by single-row requests of all examples in turn; the first fifth is not counted."""
    bodies = [task.encode([example]) for example in examples]

    def measure(clients: int) -> LoadStep:
        turns = itertools.cycle(bodies)
        lock = threading.Lock()
        begin = sender.clock()
        sent: list[Sent] = []

        def more() -> bool:
            passed = sender.clock() - begin
            return passed < seconds or (len(sent) < _PERCENTILE_OF and passed < _LONGER * seconds)

        def client() -> None:
            for body in _until(more, turns, lock):
                sent.append(sender.send(body))

        with ThreadPoolExecutor(clients) as pool:
            for each in [pool.submit(client) for _ in range(clients)]:
                each.result()
        return summary(clients, sent, begin + seconds / 5)

    return measure


def _until(
    more: Callable[[], bool], turns: Iterator[bytes], lock: threading.Lock
) -> Iterator[bytes]:
    while more():
        with lock:
            body = next(turns)
        yield body


def summary(clients: int, sent: Sequence[Sent], begin: float) -> LoadStep:
    """What requests came to that were sent after `begin`; all of them, where none was."""
    counted = [each for each in sent if each.begin_s >= begin] or list(sent)
    good = [each for each in counted if each.reply is not None and each.reply.status == 200]
    stats = latency_stats([each.latency_s for each in good])
    if stats is None:
        return LoadStep(clients, len(counted), 1.0 if counted else 0.0, 0.0, 0.0, 0.0)
    # To the last answer: those that are slower than the others would be left out else.
    took = max(each.end_s for each in counted) - min(each.begin_s for each in counted)
    return LoadStep(
        concurrency=clients,
        requests=len(counted),
        failed_share=1 - len(good) / len(counted),
        requests_per_s=len(good) / max(took, 1e-9),
        p50_ms=stats.p50_ms,
        p99_ms=stats.p99_ms,
    )


def load_test(sender: Sender, task: Task, examples: Sequence[Example], plan: LoadPlan) -> LoadTest:
    """`search` against an endpoint; a request that it turns away is not sent again."""
    once = replace(sender, invoke=plan.invoke or sender.invoke, policy=RetryPolicy(attempts=1))
    return search(measure_with(once, task, examples, plan.seconds), plan)
