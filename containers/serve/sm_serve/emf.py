"""CloudWatch metrics as log lines, in the embedded metric format.

CloudWatch Logs turns such lines into metrics by itself, so the container needs no permissions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sm_serve.metrics import Metrics

NAMESPACE = "SmServe"
UNITS = {"Requests": "Count", "Errors": "Count", "InFlight": "Count", "Latency": "Milliseconds"}


class Publisher:
    """Makes a line of what happened since the last one."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._last = (0, 0, 0.0)

    def line(self, now: float, engine: Mapping[str, float]) -> str:
        """One JSON line; `now` is in seconds since the epoch."""
        metrics = self._metrics
        total = sum(metrics.requests.values())
        errors = sum(n for (_, status), n in metrics.requests.items() if status >= 500)
        requests, failed, seconds = self._last
        self._last = (total, errors, metrics.latency.sum)
        count = total - requests
        values: dict[str, float] = {
            "Requests": count,
            "Errors": errors - failed,
            "InFlight": metrics.in_flight,
        }
        if count:
            values["Latency"] = round(1000 * (metrics.latency.sum - seconds) / count, 3)
        if "queue_items" in engine:
            values["QueueItems"] = engine["queue_items"]
        names = [{"Name": name, "Unit": UNITS.get(name, "Count")} for name in values]
        directive = {"Namespace": NAMESPACE, "Dimensions": [["Model"]], "Metrics": names}
        aws = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": aws, "Model": self._model, **values})
