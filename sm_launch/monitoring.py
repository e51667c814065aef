"""An endpoint's metrics over time: from CloudWatch, or from the servers on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sm_launch.aws_clients import make_client
from sm_launch.endpoint_metrics import BY_KEY, METRICS, Metric, component_queries, queries
from sm_launch.monitoring_config import Monitoring
from sm_launch.sessions.protocol import Session

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
        found = {}
        for metric, points in self.rows():
            values = [value for _, value in points]
            found[metric.key] = {
                "last": values[-1],
                "mean": sum(values) / len(values),
                "max": max(values),
            }
            if metric.statistic == "Sum":
                found[metric.key]["sum"] = sum(values)
        return found


class Source(Protocol):
    """Where metrics come from."""

    def look(self) -> list[VariantSeries]:
        """Everything known by now, a series for each variant and component."""


class CloudWatchSource:
    """What CloudWatch holds of an endpoint; new points come a minute or two late.

    Args:
        endpoint: its name.
        variants: names of its variants.
        components: names of its inference components; each is a series of its own.
        since: how far back to look.
        period: seconds that a point stands for.
        region: None takes what the AWS configuration says.
        clients: makes a client of an AWS service.
    """

    def __init__(
        self,
        endpoint: str,
        variants: list[str],
        *,
        since: timedelta,
        period: int,
        components: Sequence[str] = (),
        region: str | None = None,
        clients: Callable[[str, str | None], Any] = make_client,
    ) -> None:
        self._since = since
        self._queries = {each: queries(endpoint, each, period) for each in variants}
        self._queries |= {
            f"component {each}": component_queries(each, period) for each in components
        }
        self._client = clients("cloudwatch", region)

    def look(self) -> list[VariantSeries]:
        end = datetime.now(UTC)
        return [self._read(name, end) for name in self._queries]

    def _read(self, name: str, end: datetime) -> VariantSeries:
        series = VariantSeries(name)
        pages = self._client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=self._queries[name],
            StartTime=end - self._since,
            EndTime=end,
            ScanBy="TimestampAscending",
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                scale = BY_KEY[result["Id"]].scale
                pairs = sorted(zip(result["Timestamps"], result["Values"], strict=True))
                found = [(when, scale * value) for when, value in pairs]
                if found:
                    series.points.setdefault(result["Id"], []).extend(found)
        return series


def open_source(
    session: Session,
    endpoint: str,
    *,
    on_aws: bool,
    since: timedelta,
    period: int,
    region: str | None,
) -> Source:
    """The source that fits the target.

    Args:
        session: where the endpoint runs.
        endpoint: its name.
        on_aws: CloudWatch knows it.
        since: how far back to look on CloudWatch.
        period: seconds that a point of CloudWatch stands for.
        region: of CloudWatch.
    """
    described = session.describe_endpoint(EndpointName=endpoint)
    variants = [each["VariantName"] for each in described.get("ProductionVariants", [])]
    if on_aws:
        return CloudWatchSource(
            endpoint,
            variants,
            since=since,
            period=period,
            components=_components(session, described),
            region=region,
        )
    from sm_launch.local_metrics import LocalSource

    return LocalSource(session, endpoint, variants)


def _components(session: Session, described: dict[str, Any]) -> list[str]:
    """The inference components of an endpoint whose variants have no model of their own."""
    from sm_launch.components import list_names

    config = session.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    if all("ModelName" in variant for variant in config["ProductionVariants"]):
        return []
    return list_names(session, described["EndpointName"])


def problems(series: VariantSeries, limits: Monitoring) -> list[str]:
    """What is beyond job.yaml's limits over the whole window, in words."""
    found, totals = [], series.summary()
    calls = totals.get("invocations", {}).get("sum", 0.0)
    failed = totals.get("errors_5xx", {}).get("sum", 0.0)
    if calls and 100 * failed / calls > limits.error_percent:
        found.append(
            f"{100 * failed / calls:.1f} % of the requests were answered with 5xx "
            f"(limit {limits.error_percent:g} %)"
        )
    p99 = totals.get("model_p99", {}).get("last", 0.0)
    if p99 > limits.latency_p99_ms:
        found.append(f"model latency p99 is {p99:.0f} ms (limit {limits.latency_p99_ms:g} ms)")
    for key in ("memory", "gpu_memory", "disk"):
        last = totals.get(key, {}).get("last", 0.0)
        if last > limits.memory_percent:
            label = BY_KEY[key].label
            found.append(f"{label} is at {last:.0f} % (limit {limits.memory_percent:g} %)")
    return found
