"""What CloudWatch knows of an endpoint: each metric stands here once, with its unit and statistic.

Names, namespaces and units are those of "Metrics for monitoring Amazon SageMaker AI with Amazon
CloudWatch" in SageMaker's developer guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

INVOCATIONS = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
COMPONENTS = "/aws/sagemaker/InferenceComponents"


@dataclass(frozen=True)
class Metric:
    """One line of the monitor.

    Attributes:
        key: our name of it, also the id of its CloudWatch query.
        label: for people.
        unit: ms, %, or empty for a count.
        namespace: CloudWatch's.
        name: CloudWatch's.
        statistic: Sum, Average or a percentile such as p99.
        scale: CloudWatch's value times this is ours.
        expression: of metric math over the other metrics' keys, where it is made of them.
    """

    key: str
    label: str
    unit: str
    namespace: str
    name: str
    statistic: str
    scale: float = 1.0
    expression: str = ""


def _latency(key: str, label: str, name: str) -> tuple[Metric, ...]:
    # CloudWatch holds microseconds.
    return tuple(
        Metric(f"{key}_p{share}", f"{label} p{share}", "ms", INVOCATIONS, name, f"p{share}", 1e-3)
        for share in (50, 90, 99)
    )


METRICS = (
    Metric("invocations", "invocations", "", INVOCATIONS, "Invocations", "Sum"),
    Metric("errors_4xx", "4xx answers", "", INVOCATIONS, "Invocation4XXErrors", "Sum"),
    Metric("errors_5xx", "5xx answers", "", INVOCATIONS, "Invocation5XXErrors", "Sum"),
    Metric(
        "throughput",
        "throughput",
        "requests/s",
        INVOCATIONS,
        "",
        "",
        expression="invocations / PERIOD(invocations)",
    ),
    Metric(
        "error_rate",
        "error rate (5xx)",
        "%",
        INVOCATIONS,
        "",
        "",
        expression="IF(invocations > 0, 100 * FILL(errors_5xx, 0) / invocations, 0)",
    ),
    *_latency("model", "model latency", "ModelLatency"),
    *_latency("overhead", "overhead latency", "OverheadLatency"),
    Metric("cpu", "CPU", "%", INSTANCES, "CPUUtilization", "Average"),
    Metric("memory", "memory", "%", INSTANCES, "MemoryUtilization", "Average"),
    Metric("gpu", "GPU", "%", INSTANCES, "GPUUtilization", "Average"),
    Metric("gpu_memory", "GPU memory", "%", INSTANCES, "GPUMemoryUtilization", "Average"),
    Metric("disk", "disk", "%", INSTANCES, "DiskUtilization", "Average"),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def dimensions(endpoint: str, variant: str) -> list[dict[str, str]]:
    """What a metric of one variant is filed under."""
    return [
        {"Name": "EndpointName", "Value": endpoint},
        {"Name": "VariantName", "Value": variant},
    ]


def component_dimensions(component: str) -> list[dict[str, str]]:
    """What a metric of an inference component is filed under."""
    return [{"Name": "InferenceComponentName", "Value": component}]


def component_metric(metric: Metric) -> tuple[str, str] | None:
    """Namespace and name of a metric where it is an inference component's; None: there is none.

    A component's shares are of what it has on its instances, hence `Normalized`: 0 to 100 %.
    """
    if metric.namespace == INVOCATIONS:  # those of metric math too
        return metric.namespace, metric.name
    return None if metric.key == "disk" else (COMPONENTS, f"{metric.name}Normalized")


def queries(endpoint: str, variant: str, period: int) -> list[dict[str, Any]]:
    """GetMetricData's queries for every metric of a variant."""
    filed = dimensions(endpoint, variant)
    return [_query(each, (each.namespace, each.name), filed, period) for each in METRICS]


def component_queries(component: str, period: int) -> list[dict[str, Any]]:
    """GetMetricData's queries for every metric of an inference component."""
    filed = component_dimensions(component)
    pairs = ((metric, component_metric(metric)) for metric in METRICS)
    return [_query(metric, place, filed, period) for metric, place in pairs if place]


def _query(
    metric: Metric, place: tuple[str, str], filed: list[dict[str, str]], period: int
) -> dict[str, Any]:
    if metric.expression:
        return {"Id": metric.key, "Expression": metric.expression, "Period": period}
    namespace, name = place
    return {
        "Id": metric.key,
        "MetricStat": {
            "Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": filed},
            "Period": period,
            "Stat": metric.statistic,
        },
    }
