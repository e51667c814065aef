"""Latency percentiles, and the measurement of single requests one after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sm_launch.evaluation.client import Sender
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.result import LatencyStats
from sm_launch.evaluation.task import Task


@dataclass(frozen=True)
class LatencyPlan:
    """How latency is measured: `warmup` unmeasured requests, then at most `requests` of one row.

    The measurement ends early after `budget_s` seconds, so that a slow model does not make an
    evaluation long. `requests=0` skips it.
    """

    warmup: int = 3
    requests: int = 100
    budget_s: float = 10.0


def latency_stats(
    samples_s: Sequence[float], *, retries: int = 0, keep_samples: bool = False
) -> LatencyStats | None:
    """Statistics of latencies given in seconds; None when there are none."""
    if not samples_s:
        return None
    ordered = sorted(1000 * sample for sample in samples_s)
    return LatencyStats(
        count=len(ordered),
        mean_ms=math.fsum(ordered) / len(ordered),
        min_ms=ordered[0],
        max_ms=ordered[-1],
        p50_ms=percentile(ordered, 50),
        p90_ms=percentile(ordered, 90),
        p95_ms=percentile(ordered, 95),
        p99_ms=percentile(ordered, 99),
        samples_ms=tuple(1000 * sample for sample in samples_s) if keep_samples else (),
        retries=retries,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of sorted values, linear between neighbours (numpy's default method)."""
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def spread(examples: Sequence[Example], most: int) -> list[Example]:
    """At most so many of the examples, evenly spread over all."""
    wanted = min(most, len(examples))
    return [examples[i * len(examples) // wanted] for i in range(wanted)]


def measure_latency(
    sender: Sender, task: Task, examples: Sequence[Example], plan: LatencyPlan
) -> LatencyStats | None:
    """Latency of single-row requests at concurrency 1; requests that fail are not counted.

    The rows are taken evenly spread over all, so that sorted files do not bias the lengths.
    """
    if not examples or plan.requests < 1:
        return None
    for example in examples[: plan.warmup]:
        if sender.send(task.encode([example])).gave_up:
            return None  # the main pass will say why
    chosen = spread(examples, plan.requests)
    begin = sender.clock()
    samples, retries = [], 0
    for example in chosen:
        sent = sender.send(task.encode([example]))
        if sent.reply is not None and sent.reply.status == 200:
            samples.append(sent.latency_s)
            retries += sent.retries
        if sender.clock() - begin > plan.budget_s:
            break
    return latency_stats(samples, retries=retries, keep_samples=True)
