"""The `monitoring` part of job.yaml: from when on something is wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sm_launch.job.section import Section


class Monitoring(Section):
    """Limits of `sm-launch alarms` and `sm-launch monitor`."""

    error_percent: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Share of requests that the model answers with 5xx."""
    latency_p99_ms: Annotated[float, Field(gt=0)] = 5000.0
    """The model's own time, 99th percentile, in milliseconds."""
    memory_percent: Annotated[float, Field(gt=0, le=100)] = 90.0
    """Main memory, GPU memory and disk of an instance; each container counts with its share."""
    period_seconds: Literal[60, 300, 900, 3600] = 60
    """Length of one look."""
    periods: Annotated[int, Field(ge=1, le=30)] = 5
    """Looks that an alarm regards."""
    periods_to_alarm: Annotated[int, Field(ge=1, le=30)] = 3
    """So many of them must be bad."""
    topic: Annotated[str, Field(pattern=r"^arn:[^:]+:sns:[^:]+:\d{12}:.+$")] | None = None
    """ARN of the SNS topic that alarms notify."""
    drift_threshold: Annotated[float, Field(gt=0)] = 0.2
    """Population stability index from which on inputs or labels count as drifted."""
