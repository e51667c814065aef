"""Metrics of an endpoint on this machine: the server's own /metrics, and its processes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.monitoring.series import VariantSeries
from sm_launch.sessions.protocol import LocalSession

TIMEOUT_SECONDS = 5.0
_REQUESTS = re.compile(r'sm_serve_requests_total\{route="([^"]*)",status="(\d+)"\} (\S+)')
_BUCKET = re.compile(r'sm_serve_request_seconds_bucket\{le="([^"]*)"\} (\S+)')
# What is no request of a user.
_OWN_ROUTES = frozenset({"/ping", "/metrics", "/execution-parameters"})


@dataclass(frozen=True)
class Counters:
    """What a server has counted since its start.

    Attributes:
        requests: HTTP status to answers.
        buckets: upper bound in seconds to answers that took no longer.
    """

    requests: dict[int, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)

    def since(self, before: Counters) -> Counters:
        """What came after an earlier look; a server that began anew counts from its start."""
        if sum(before.requests.values()) > sum(self.requests.values()):
            return self
        return Counters(_difference(self.requests, before.requests),
                        _difference(self.buckets, before.buckets))  # fmt: skip

    def values(self) -> dict[str, float]:
        """As metrics of the monitor."""
        values = {
            "invocations": sum(self.requests.values()),
            "errors_4xx": sum(n for status, n in self.requests.items() if 400 <= status < 500),
            "errors_5xx": sum(n for status, n in self.requests.items() if status >= 500),
        }
        for share in (50, 90, 99):
            seconds = quantile(self.buckets, share / 100)
            if seconds is not None:
                values[f"model_p{share}"] = 1000 * seconds
        return values


def parse(text: str) -> Counters:
    """The counters in the text of /metrics."""
    requests: dict[int, float] = {}
    for route, status, count in _REQUESTS.findall(text):
        if route not in _OWN_ROUTES:
            requests[int(status)] = requests.get(int(status), 0.0) + float(count)
    buckets = {float(bound): float(count) for bound, count in _BUCKET.findall(text)}
    return Counters(requests, buckets)


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """A quantile of a cumulative histogram, interpolated inside its bucket as Prometheus does.

    Returns:
        Seconds; the highest finite bound where the quantile lies above it, None without answers.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return low
            inside = buckets[bound] - below
            return low + (bound - low) * ((wanted - below) / inside if inside else 1.0)
        low, below = bound, buckets[bound]
    return low


class LocalSource:
    """Looks at the servers of an endpoint; a point is what happened since the last look.

    Args:
        session: of processes or of Docker on this machine.
        endpoint: its name.
        variants: names of its variants.
    """

    def __init__(self, session: LocalSession, endpoint: str, variants: list[str]) -> None:
        self._session = session
        self._endpoint = endpoint
        self._series = {variant: VariantSeries(variant) for variant in variants}
        self._before: dict[str, Counters] = {}
        self._looked: datetime | None = None
        self._processes: dict[int, Any] = {}

    def look(self) -> list[VariantSeries]:
        now, machine = datetime.now(UTC), self._machine()
        for variant, series in self._series.items():
            seen = self._counters(variant)
            values = seen.since(self._before.get(variant, Counters())).values()
            self._before[variant] = seen
            series.add(now, {**values, **self._rates(values, now), **machine})
        self._looked = now
        return list(self._series.values())

    def _rates(self, values: Mapping[str, float], now: datetime) -> dict[str, float]:
        """What CloudWatch's metric math makes of the counts; the first look has no beginning."""
        calls = values["invocations"]
        rates = {"error_rate": 100 * values["errors_5xx"] / calls if calls else 0.0}
        if self._looked is not None and now > self._looked:
            rates["throughput"] = calls / (now - self._looked).total_seconds()
        return rates

    def _counters(self, variant: str) -> Counters:
        import httpx

        url = f"{self._session.endpoint_url(self._endpoint, variant)}/metrics"
        try:
            answer = httpx.get(url, timeout=TIMEOUT_SECONDS)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise LaunchError(
                f"the server of variant {variant} has no metrics: {error}",
                fix=f"`sm-launch logs {self._endpoint}` shows what it says",
            ) from error
        return parse(answer.text)

    def _machine(self) -> dict[str, float]:
        """CPU and memory of the endpoint's processes, as shares of this machine; GPU as a whole."""
        import psutil

        living = set(self._session.endpoint_processes(self._endpoint))
        self._processes = {pid: live for pid, live in self._processes.items() if pid in living}
        # The CPU's share is that since the last look: there is none at the first.
        values = {"cpu": 0.0, "memory": 0.0} if self._processes else {"memory": 0.0}
        for pid in living:
            try:
                process = self._processes.setdefault(pid, psutil.Process(pid))
                share = process.cpu_percent() / (psutil.cpu_count() or 1)
                values["memory"] += process.memory_percent()
            except psutil.Error:  # it has just ended
                continue
            if "cpu" in values:
                values["cpu"] += share
        return {**values, **_gpu()}


def _gpu() -> dict[str, float]:
    if shutil.which("nvidia-smi") is None:
        return {}
    wanted = "utilization.gpu,memory.used,memory.total"
    command = ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader,nounits"]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS
        )
        rows = [[float(cell) for cell in row.split(",")] for row in finished.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    if not rows:
        return {}
    used, total = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return {"gpu": sum(row[0] for row in rows) / len(rows), "gpu_memory": 100 * used / total}


def _difference(after: Mapping[Any, float], before: Mapping[Any, float]) -> dict[Any, float]:
    return {key: value - before.get(key, 0.0) for key, value in after.items()}
