"""An endpoint's metrics over time: from CloudWatch, or from the servers on this machine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.errors import QualityGateError
from sm_launch.hosting import components, endpoints
from sm_launch.job.monitoring import Monitoring
from sm_launch.monitoring import captured, local_metrics
from sm_launch.monitoring.drift import Drift
from sm_launch.monitoring.endpoint_metrics import BY_KEY, component_queries, queries
from sm_launch.monitoring.series import Source, VariantSeries, problems
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext


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
                points = [(when, scale * value) for when, value in pairs]
                if points:
                    series.points.setdefault(result["Id"], []).extend(points)
        return series


@dataclass(frozen=True)
class Monitored:
    """What was seen of an endpoint.

    Attributes:
        endpoint: its name.
        series: of each variant and component.
        drifts: comparisons of captured data with training; empty where not asked for.
        problems: what is beyond job.yaml's limits, in words.
        source: where the metrics come from, in words.
        limits: job.yaml's.
    """

    endpoint: str
    series: list[VariantSeries]
    drifts: list[Drift]
    problems: list[str]
    source: str
    limits: Monitoring

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "endpoint": self.endpoint,
            "variants": {each.variant: each.summary() for each in self.series},
            "drift": [drift.as_dict() for drift in self.drifts],
            "problems": self.problems,
        }

    def write(self, path: Path) -> None:
        """The HTML report."""
        from sm_launch.monitoring.report import write_monitoring

        write_monitoring(
            self.endpoint,
            self.series,
            self.drifts,
            self.problems,
            path,
            source=self.source,
            limits=self.limits,
        )

    def require_no_drift(self) -> None:
        """Raise QualityGateError where something drifted from the training set."""
        drifted = [drift.what for drift in self.drifts if drift.state == "drift"]
        if drifted:
            raise QualityGateError(f"the {' and the '.join(drifted)} drifted from the training set")


Looks = Iterator[list[VariantSeries]]


def last(name: str, looks: Looks) -> list[VariantSeries]:
    """What was seen at the end of the looks."""
    return deque(looks, maxlen=1)[0]


def monitor(
    context: JobContext,
    endpoint: str | None = None,
    *,
    since: timedelta = timedelta(hours=1),
    interval: float | None = None,
    duration: float | None = None,
    once: bool = False,
    drift: bool = False,
    show: Callable[[str, Looks], list[VariantSeries]] = last,
) -> Monitored:
    """Watch an endpoint: from CloudWatch, or from the servers on this machine.

    Args:
        context: where the endpoint is; its `monitoring` has the limits.
        endpoint: its name; default: job.yaml's.
        since: how far back to look on CloudWatch.
        interval: seconds between looks; default: 30 on SageMaker, 2 here.
        duration: seconds until the end; None goes on for ever.
        once: one look (two, a second apart, where shares of the CPU need them).
        drift: compare captured data with training too.
        show: gets the name and every look, and returns the last one.

    Raises:
        LaunchError: there is no such endpoint, or it cannot be watched.
        UserInputError: the endpoint captures no data to compare.
    """
    name = endpoints.require_meant(context, endpoint)
    # What is missing for it is missed now, and not after all the looking.
    drifts = captured.comparison(context, name) if drift else list[Drift]
    source = open_source(context, name, since)
    if once:
        interval = duration = 0.0 if context.on_aws else 1.0
    pause = interval or (30.0 if context.on_aws else 2.0)
    series = show(name, _looks(source, pause, duration))
    return Monitored(
        endpoint=name,
        series=series,
        drifts=drifts(),
        problems=[w for each in series for w in problems(each, context.config.monitoring)],
        source="CloudWatch" if context.on_aws else "the servers on this machine",
        limits=context.config.monitoring,
    )


def _looks(source: Source, pause: float, duration: float | None) -> Looks:
    ends = None if duration is None else time.monotonic() + duration
    while True:
        yield source.look()
        left = pause if ends is None else min(pause, ends - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def open_source(context: JobContext, endpoint: str, since: timedelta) -> Source:
    """The source that fits the target.

    Args:
        context: where the endpoint is.
        endpoint: its name.
        since: how far back to look on CloudWatch.
    """
    session = context.session
    described = session.describe_endpoint(EndpointName=endpoint)
    variants = [each["VariantName"] for each in described.get("ProductionVariants", [])]
    if session.local:
        return local_metrics.LocalSource(session.local, endpoint, variants)
    return CloudWatchSource(
        endpoint,
        variants,
        since=since,
        period=context.config.monitoring.period_seconds,
        components=_components(session, described),
        region=context.region,
    )


def _components(session: Session, described: dict[str, Any]) -> list[str]:
    """The inference components of an endpoint whose variants have no model of their own."""
    config = session.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    if all("ModelName" in variant for variant in config["ProductionVariants"]):
        return []
    return components.list_names(session, described["EndpointName"])
