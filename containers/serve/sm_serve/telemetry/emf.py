"""CloudWatch metrics as log lines, in the embedded metric format.

CloudWatch Logs turns such lines into metrics by itself, so the container needs no permissions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sm_serve.telemetry.metrics import Metrics

NAMESPACE = "SmServe"
UNITS = {
    "Latency": "Milliseconds",
    "TimeToFirstByte": "Milliseconds",
    "TokensPerSecond": "Count/Second",
}
GAUGES = {"queue_items": "QueueItems", "active_generations": "ActiveGenerations"}


class Publisher:
    """Makes a line of what happened since the last one."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._last: dict[str, float] = {}
        self._since: float | None = None

    def line(self, now: float, engine: Mapping[str, float]) -> str:
        """One JSON line; `now` is in seconds since the epoch."""
        values = self._values(now, engine)
        names = [{"Name": name, "Unit": UNITS.get(name, "Count")} for name in values]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Model"]], "Metrics": names}
        aws = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": aws, "Model": self._model, **values})

    def _values(self, now: float, engine: Mapping[str, float]) -> dict[str, float]:
        metrics = self._metrics
        requests = metrics.requests.items()
        count = self._change("requests", sum(number for _, number in requests))
        errors = sum(number for (_, status), number in requests if status >= 500)
        values: dict[str, float] = {
            "Requests": count,
            "Errors": self._change("errors", errors),
            "Disconnects": self._change("disconnects", metrics.disconnects),
            "InFlight": metrics.in_flight,
        }
        latency = self._change("latency", metrics.latency.sum)
        first = self._change("first", metrics.first_byte.sum)
        answered = self._change("answered", sum(metrics.first_byte.counts))
        if count:
            values["Latency"] = round(1000 * latency / count, 3)
        if answered:
            values["TimeToFirstByte"] = round(1000 * first / answered, 3)
        batches = self._change("batches", engine.get("batches_total", 0))
        items = self._change("items", engine.get("batch_items_total", 0))
        if batches and items:
            values["BatchSize"] = round(items / batches, 2)
        if "generated_tokens_total" in engine:
            tokens = self._change("tokens", engine["generated_tokens_total"])
            if self._since is not None and now > self._since:
                values["TokensPerSecond"] = round(tokens / (now - self._since), 2)
        self._since = now
        return values | {new: engine[old] for old, new in GAUGES.items() if old in engine}

    def _change(self, name: str, total: float) -> float:
        """How much a running total has grown since the last line."""
        change = total - self._last.get(name, 0)
        self._last[name] = total
        return change
