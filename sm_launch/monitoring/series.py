"""An endpoint's metrics over time, wherever they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sm_launch.job.monitoring import Monitoring
from sm_launch.monitoring.endpoint_metrics import BY_KEY, METRICS, Metric

Points = list[tuple[datetime, float]]
# So many looks are kept of a local endpoint.
KEPT_POINTS = 2000


@dataclass
class VariantSeries:
    """The points of every metric of a variant, oldest first; without a value there is no point.

    Attributes:
        variant: its name.
        points: metric key to points.
    """

    variant: str
    points: dict[str, Points] = field(default_factory=dict)

    def add(self, when: datetime, values: Mapping[str, float]) -> None:
        """Append one look."""
        for key, value in values.items():
            if math.isfinite(value):
                self.points.setdefault(key, []).append((when, value))
                del self.points[key][:-KEPT_POINTS]

    def rows(self) -> list[tuple[Metric, Points]]:
        """The metrics that have points, in the order of the table."""
        return [
            (metric, self.points[metric.key]) for metric in METRICS if metric.key in self.points
        ]

    def summary(self) -> dict[str, dict[str, float]]:
        """Metric key to last value, mean and maximum; of counts the sum."""
        totals = {}
        for metric, points in self.rows():
            values = [value for _, value in points]
            totals[metric.key] = {
                "last": values[-1],
                "mean": sum(values) / len(values),
                "max": max(values),
            }
            if metric.statistic == "Sum":
                totals[metric.key]["sum"] = sum(values)
        return totals


class Source(Protocol):
    """Where metrics come from."""

    def look(self) -> list[VariantSeries]:
        """Everything known by now, a series for each variant and component."""


def problems(series: VariantSeries, limits: Monitoring) -> list[str]:
    """What is beyond job.yaml's limits over the whole window, in words."""
    messages, totals = [], series.summary()
    calls = totals.get("invocations", {}).get("sum", 0.0)
    failed = totals.get("errors_5xx", {}).get("sum", 0.0)
    if calls and 100 * failed / calls > limits.error_percent:
        messages.append(
            f"{100 * failed / calls:.1f} % of the requests were answered with 5xx "
            f"(limit {limits.error_percent:g} %)"
        )
    most = dict.fromkeys(("memory", "gpu_memory", "disk"), limits.memory_percent)
    for key, limit in {"model_p99": limits.latency_p99_ms, **most}.items():
        values = [value for _, value in series.points.get(key, [])]
        above = sum(value > limit for value in values)
        if above:
            metric = BY_KEY[key]
            messages.append(
                f"{metric.label} was above {limit:g} {metric.unit} at {above} of {len(values)} "
                f"points: {max(values):.0f} {metric.unit} at most, {values[-1]:.0f} at the end"
            )
    return messages
