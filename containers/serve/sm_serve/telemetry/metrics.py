"""Counters and histograms of the front, in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

PREFIX = "sm_serve_"
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts observations in seconds below each bound."""

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Adds one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        """The histogram in text format."""
        total = 0
        lines = [f"# TYPE {name} histogram"]
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self.sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """What the front counts. Only the event loop writes here, so there are no locks.

    Of the requests in flight, `receiving` are those whose body has not arrived yet.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.latency = Histogram()
        self.first_byte = Histogram()
        self.in_flight = 0
        self.receiving = 0
        self.disconnects = 0

    def finished(self, route: str, status: int, seconds: float) -> None:
        """A request ended with this status."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.latency.observe(seconds)

    def render(self, ready: bool, engine: Mapping[str, float]) -> str:
        """Everything in Prometheus' text format, the engine's own gauges included."""
        lines = [f"# TYPE {PREFIX}requests_total counter"]
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'{PREFIX}requests_total{{route="{route}",status="{status}"}} {count}')
        lines += self.latency.lines(f"{PREFIX}request_seconds")
        lines += self.first_byte.lines(f"{PREFIX}time_to_first_byte_seconds")
        gauges = {
            "in_flight": self.in_flight,
            "receiving": self.receiving,
            "ready": int(ready),
            **engine,
        }
        for name, value in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE {PREFIX}{name} {kind}", f"{PREFIX}{name} {value:g}"]
        lines += [
            f"# TYPE {PREFIX}disconnects_total counter",
            f"{PREFIX}disconnects_total {self.disconnects}",
        ]
        return "\n".join(lines) + "\n"
