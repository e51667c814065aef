"""CloudWatch alarms and the dashboard of an endpoint: made, shown, and deleted with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.errors import DENIED, explained
from sm_launch.hosting.variants import MAIN_VARIANT
from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.job.instances import has_gpu
from sm_launch.job.naming import tags
from sm_launch.monitoring.endpoint_metrics import (
    INSTANCES,
    INVOCATIONS,
    component_dimensions,
    dimensions,
)

Request = dict[str, Any]
Clients = Callable[[str, str | None], Any]
# DeleteAlarms takes so many names.
_DELETED_AT_ONCE = 100
_DASHBOARD = "sm-launch-"
_ENDPOINT = re.compile(r"\bendpoint ([\w-]+)")


def alarm_requests(config: JobConfig, endpoint: str) -> list[Request]:
    """PutMetricAlarm for errors, latency, memory and disk of every variant.

    Names are ENDPOINT-errors, -latency, -memory, -gpu-memory and -disk; further variants and
    adapters add their own name. `endpoint.update.alarms` may name them.
    """
    instance = config.endpoint.instances.type
    requests: dict[str, Request] = {}
    if components := config.endpoint.components:
        # Requests are a component's, instances are the variant's that all of them share.
        filed = dimensions(endpoint, MAIN_VARIANT)
        requests |= _of_instances(config, f"endpoint {endpoint}", filed, instance, "")
        for suffix in ("", *(f"-{adapter}" for adapter in components.adapters)):
            what = f"endpoint {endpoint}, component {endpoint}{suffix}"
            of_component = component_dimensions(f"{endpoint}{suffix}")
            requests |= _of_requests(config, what, of_component, suffix)
    else:
        variants = [(MAIN_VARIANT, "", instance)]
        variants += [
            (each.name, f"-{each.name}", each.instance_type or instance)
            for each in config.endpoint.variants
        ]
        for variant, suffix, kind in variants:
            what, filed = f"endpoint {endpoint}, variant {variant}", dimensions(endpoint, variant)
            requests |= _of_requests(config, what, filed, suffix)
            requests |= _of_instances(config, what, filed, kind, suffix)
    return [{**alarm, "AlarmName": f"{endpoint}-{name}"} for name, alarm in requests.items()]


def _alarm(
    config: JobConfig,
    metric: tuple[str, str],
    filed: list[dict[str, str]],
    limit: float,
    description: str,
) -> Request:
    settings = config.monitoring
    actions = [settings.topic] if settings.topic else []
    return {
        "AlarmDescription": f"{limits.DESCRIPTION} {description}",
        "Namespace": metric[0],
        "MetricName": metric[1],
        "Dimensions": filed,
        "Period": settings.period_seconds,
        "EvaluationPeriods": max(settings.periods, settings.periods_to_alarm),
        "DatapointsToAlarm": settings.periods_to_alarm,
        "Threshold": limit,
        "ComparisonOperator": "GreaterThanThreshold",
        # No requests are no errors.
        "TreatMissingData": "notBreaching",
        "AlarmActions": actions,
        "OKActions": actions,
        "Tags": tags(config),
    }


def _of_requests(
    config: JobConfig, what: str, filed: list[dict[str, str]], suffix: str
) -> dict[str, Request]:
    settings = config.monitoring
    # Every request sends 1 or 0, so that the average is the share of failed ones.
    share, failed = (INVOCATIONS, "Invocation5XXErrors"), settings.error_percent / 100
    took, longest = (INVOCATIONS, "ModelLatency"), 1000 * settings.latency_p99_ms
    errors = _alarm(config, share, filed, failed, f"5xx share of {what}")
    latency = _alarm(config, took, filed, longest, f"p99 latency of {what}")
    return {
        f"errors{suffix}": {**errors, "Statistic": "Average"},
        f"latency{suffix}": {**latency, "ExtendedStatistic": "p99"},
    }


def _of_instances(
    config: JobConfig, what: str, filed: list[dict[str, str]], instance: str, suffix: str
) -> dict[str, Request]:
    wanted = {"memory": "MemoryUtilization"}
    if not config.endpoint.serverless:
        wanted["disk"] = "DiskUtilization"
        if has_gpu(instance):
            wanted["gpu-memory"] = "GPUMemoryUtilization"
    limit = config.monitoring.memory_percent
    return {
        f"{kind}{suffix}": {
            **_alarm(config, (INSTANCES, metric), filed, limit, f"{kind} of {what}"),
            "Statistic": "Maximum",
        }
        for kind, metric in wanted.items()
    }


def put(config: JobConfig, endpoint: str, clients: Clients = make_client) -> list[str]:
    """Make or change the alarms; can be repeated.

    Returns:
        Their names.
    """
    client = clients("cloudwatch", config.aws.region)
    requests = alarm_requests(config, endpoint)
    for request in requests:
        client.put_metric_alarm(**request)
    return [request["AlarmName"] for request in requests]


def states(endpoint: str, region: str | None, clients: Clients = make_client) -> list[Request]:
    """The alarms that sm-launch made for an endpoint, as DescribeAlarms shows them."""
    client = clients("cloudwatch", region)
    pages = client.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=f"{endpoint}-", AlarmTypes=["MetricAlarm"]
    )
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    # The prefix fits endpoints of longer names too, and others may make alarms of such a name.
    return [
        alarm for alarm in alarms if _endpoint_of(alarm) == endpoint and _is_ours(client, alarm)
    ]


def short_states(
    endpoint: str, region: str | None, clients: Clients = make_client
) -> list[dict[str, str]]:
    """`name` and `state` of each of those alarms."""
    alarms = states(endpoint, region, clients)
    return [{"name": each["AlarmName"], "state": each["StateValue"]} for each in alarms]


def _endpoint_of(alarm: Request) -> str:
    """The endpoint that an alarm of ours watches; an adapter's dimension does not name it."""
    description = alarm.get("AlarmDescription", "")
    match = _ENDPOINT.search(description) if description.startswith(limits.DESCRIPTION) else None
    return match[1] if match else ""


def _is_ours(client: Any, alarm: Request) -> bool:
    return limits.TAG_KEY in tags_of(client, alarm["AlarmArn"])


def all_of_ours(region: str | None, clients: Clients = make_client) -> list[tuple[Request, str]]:
    """Every alarm that sm-launch made, each with the name of its endpoint.

    Without permission to look there are none: whoever may not look has made none either.
    """
    client = clients("cloudwatch", region)
    try:
        pages = list(client.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"]))
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        return []
    return [
        (alarm, endpoint)
        for page in pages
        for alarm in page["MetricAlarms"]
        if (endpoint := _endpoint_of(alarm))
    ]


def dashboards_of_ours(
    region: str | None, clients: Clients = make_client
) -> tuple[list[tuple[Request, str, dict[str, str]]], int]:
    """Every dashboard that bears our tag, with its endpoint and tags; how many the account has.

    Without permission to look there are none: whoever may not look has made none either.
    """
    client = clients("cloudwatch", region)
    try:
        pages = list(client.get_paginator("list_dashboards").paginate())
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        return [], 0
    entries = [entry for page in pages for entry in page["DashboardEntries"]]
    ours = []
    for entry in entries:
        name = entry["DashboardName"]
        if name.startswith(_DASHBOARD):
            owned = tags_of(client, entry["DashboardArn"])
            if limits.TAG_KEY in owned:
                ours.append((entry, name.removeprefix(_DASHBOARD), owned))
    return ours, len(entries)


def tags_of(client: Any, arn: str) -> dict[str, str]:
    """The tags of an alarm or a dashboard."""
    answer = client.list_tags_for_resource(ResourceARN=arn)
    return {tag["Key"]: tag["Value"] for tag in answer["Tags"]}


def remove(endpoint: str, region: str | None, clients: Clients = make_client) -> list[str]:
    """Delete the alarms and the dashboard of an endpoint; without any this does nothing.

    Returns:
        What was deleted, a line each.
    """
    client = clients("cloudwatch", region)
    names = [alarm["AlarmName"] for alarm in states(endpoint, region, clients)]
    for start in range(0, len(names), _DELETED_AT_ONCE):
        client.delete_alarms(AlarmNames=names[start : start + _DELETED_AT_ONCE])
    removed = [f"alarm {name}" for name in names]
    board = dashboard_name(endpoint)
    pages = client.get_paginator("list_dashboards").paginate(DashboardNamePrefix=board)
    entries = [entry for page in pages for entry in page["DashboardEntries"]]
    if any(
        entry["DashboardName"] == board and limits.TAG_KEY in tags_of(client, entry["DashboardArn"])
        for entry in entries
    ):
        client.delete_dashboards(DashboardNames=[board])
        removed.append(f"dashboard {board}")
    return removed


def try_remove(
    endpoint: str, region: str | None, clients: Clients = make_client
) -> tuple[list[str], str]:
    """The same where a missing permission must not keep the endpoint itself from being deleted.

    Returns:
        What was deleted, and why the rest was not (empty where nothing is left).
    """
    try:
        return remove(endpoint, region, clients), ""
    except Exception as error:
        return [], f"alarms and dashboard of {endpoint} may be left: {explained(error).message}"


def dashboard_name(endpoint: str) -> str:
    """Name of an endpoint's dashboard."""
    return f"{_DASHBOARD}{endpoint}"


def dashboard_request(config: JobConfig, endpoint: str, region: str) -> Request:
    """PutDashboard: traffic, errors, latencies, machines, the alarms' limits, the log's errors."""
    settings = config.monitoring
    of_instances, of_requests = _filed(config, endpoint)
    charts: list[tuple[str, str, list[tuple[str, str]], float | None]] = [
        ("Invocations", INVOCATIONS, [("Invocations", "Sum")], None),
        ("Errors", INVOCATIONS, [("Invocation4XXErrors", "Sum"),
                                 ("Invocation5XXErrors", "Sum")], None),
        ("Model latency (µs)", INVOCATIONS, _percentiles("ModelLatency"),
         1000 * settings.latency_p99_ms),
        ("Overhead latency (µs)", INVOCATIONS, _percentiles("OverheadLatency"), None),
        ("CPU and memory (%)", INSTANCES, [("CPUUtilization", "Average"),
                                           ("MemoryUtilization", "Maximum")],
         settings.memory_percent),
        ("GPU (%)", INSTANCES, [("GPUUtilization", "Average"),
                                ("GPUMemoryUtilization", "Maximum")], settings.memory_percent),
    ]  # fmt: skip
    widgets = [
        _chart(
            index,
            title,
            _lines(namespace, metrics, of_requests if namespace == INVOCATIONS else of_instances),
            region,
            limit,
        )
        for index, (title, namespace, metrics, limit) in enumerate(charts)
    ]
    if config.endpoint.asynchronous:
        backlog = [[INVOCATIONS, "ApproximateBacklogSize", "EndpointName", endpoint,
                    {"stat": "Maximum"}]]  # fmt: skip
        widgets.append(_chart(len(widgets), "Waiting requests", backlog, region, None))
    widgets.append(_log(len(widgets), endpoint, region))
    return {
        "DashboardName": dashboard_name(endpoint),
        "DashboardBody": json.dumps({"widgets": widgets}),
        "Tags": tags(config),
    }


def _percentiles(metric: str) -> list[tuple[str, str]]:
    return [(metric, f"p{share}") for share in (50, 90, 99)]


def _filed(config: JobConfig, endpoint: str) -> tuple[list[list[str]], list[list[str]]]:
    """What metrics of instances and of requests are filed under, as CloudWatch's widgets say it."""
    names = [MAIN_VARIANT, *(variant.name for variant in config.endpoint.variants)]
    variants = [_flat(dimensions(endpoint, name)) for name in names]
    if config.endpoint.components is None:
        return variants, variants
    adapters = [f"{endpoint}-{adapter}" for adapter in config.endpoint.components.adapters]
    return variants, [_flat(component_dimensions(name)) for name in (endpoint, *adapters)]


def _flat(filed: list[dict[str, str]]) -> list[str]:
    return [each[key] for each in filed for key in ("Name", "Value")]


def _lines(
    namespace: str, metrics: list[tuple[str, str]], filed: list[list[str]]
) -> list[list[Any]]:
    return [
        [namespace, name, *each, {"stat": statistic}]
        for each in filed
        for name, statistic in metrics
    ]


def _place(index: int) -> Request:
    return {"x": 12 * (index % 2), "y": 6 * (index // 2), "width": 12, "height": 6}


def _chart(
    index: int, title: str, metrics: list[list[Any]], region: str, limit: float | None
) -> Request:
    properties: Request = {
        "title": title,
        "metrics": metrics,
        "region": region,
        "view": "timeSeries",
        "period": 60,
    }
    if limit is not None:
        properties["annotations"] = {"horizontal": [{"label": "alarm", "value": limit}]}
    return {"type": "metric", **_place(index), "properties": properties}


def _log(index: int, endpoint: str, region: str) -> Request:
    query = (
        f"SOURCE '/aws/sagemaker/Endpoints/{endpoint}' | fields @timestamp, @message "
        "| filter @message like /(?i)error|exception/ | sort @timestamp desc | limit 50"
    )
    properties = {"title": "Errors in the log", "query": query, "region": region, "view": "table"}
    return {"type": "log", **_place(index), "properties": properties}


def dashboard(config: JobConfig, endpoint: str, region: str) -> Request:
    """PutDashboard with its body to be read."""
    request = dashboard_request(config, endpoint, region)
    return {**request, "DashboardBody": json.loads(request["DashboardBody"])}


def put_dashboard(config: JobConfig, endpoint: str, clients: Clients = make_client) -> Request:
    """Make or change the dashboard; can be repeated.

    Returns:
        `name`, `url` of the console, and `messages`: what CloudWatch finds odd in it.
    """
    client = clients("cloudwatch", config.aws.region)
    region = str(client.meta.region_name)
    request = dashboard_request(config, endpoint, region)
    answer = client.put_dashboard(**request)
    name = request["DashboardName"]
    messages = answer.get("DashboardValidationMessages", [])
    return {
        "name": name,
        "url": f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#dashboards/dashboard/{name}",
        "messages": [each.get("Message", "") for each in messages],
    }
