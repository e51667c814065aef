"""Application Auto Scaling for endpoints: by load, by the clock, and from zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.hosting.variants import MAIN_VARIANT
from sm_launch.job import limits
from sm_launch.job.config import Endpoint, JobConfig
from sm_launch.job.hosting import Autoscaling

Request = dict[str, Any]
NAMESPACE = "sagemaker"
INSTANCES = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
# What to hold where `autoscaling.target` does not say.
INVOCATIONS_PER_MINUTE, BACKLOG_PER_INSTANCE, CONCURRENCY_SHARE = 70.0, 5.0, 0.7


def build_requests(config: JobConfig, endpoint: str) -> list[tuple[str, Request]]:
    """The Application Auto Scaling calls of an endpoint, in order, each with its method's name.

    Every variant is scaled by its own load, within the same limits.
    """
    settings = config.endpoint.autoscaling
    if settings is None:
        return []
    calls = []
    for name, target in _targets(config.endpoint, endpoint):
        calls += _of_target(config, settings, endpoint, name, target)
    return calls


def _of_target(
    config: JobConfig, settings: Autoscaling, endpoint: str, name: str, target: Request
) -> list[tuple[str, Request]]:
    capacity = {"MinCapacity": settings.min, "MaxCapacity": settings.max}
    register = {**target, **capacity, "Tags": {**config.aws.tags, limits.TAG_KEY: config.name}}
    policy = {
        **target,
        "PolicyName": f"{name}-load",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            **_metric(config.endpoint, settings, endpoint),
            "ScaleInCooldown": settings.scale_in_cooldown_seconds,
            "ScaleOutCooldown": settings.scale_out_cooldown_seconds,
        },
    }
    calls = [("register_scalable_target", register), ("put_scaling_policy", policy)]
    endpoint_config = config.endpoint
    if (endpoint_config.asynchronous or endpoint_config.components) and _reaches_zero(settings):
        calls.append(("put_scaling_policy", _wake(target, endpoint, settings)))
    return [*calls, *_schedules(target, name, settings)]


def wake_alarm(config: JobConfig, endpoint: str, policy_arn: str) -> Request:
    """PutMetricAlarm: requests wait and no instance is there, so the step policy starts one."""
    tags = {**config.aws.tags, limits.TAG_KEY: config.name}
    copies = config.endpoint.components is not None
    # Without a queue the first request is refused; it must start a copy at once.
    periods = 1 if copies else 2
    return {
        "AlarmName": f"{endpoint}-wake",
        "AlarmDescription": f"{limits.DESCRIPTION} requests for endpoint {endpoint} wait",
        "Namespace": "AWS/SageMaker",
        "MetricName": "NoCapacityInvocationFailures" if copies else "HasBacklogWithoutCapacity",
        "Dimensions": [
            {"Name": "InferenceComponentName" if copies else "EndpointName", "Value": endpoint}
        ],
        "Statistic": "Maximum" if copies else "Average",
        "Period": 60,
        "EvaluationPeriods": periods,
        "DatapointsToAlarm": periods,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [policy_arn],
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def apply(
    config: JobConfig,
    endpoint: str,
    clients: Callable[[str, str | None], Any] = make_client,
) -> list[str]:
    """Set up what `endpoint.autoscaling` says; every call can be repeated.

    Returns:
        What was set up, a line each.
    """
    calls = build_requests(config, endpoint)
    if not calls:
        return []
    client = clients("application-autoscaling", config.aws.region)
    done = []
    for method, request in calls:
        answer = getattr(client, method)(**request)
        if request.get("PolicyType") == "StepScaling":
            alarm = wake_alarm(config, endpoint, answer["PolicyARN"])
            clients("cloudwatch", config.aws.region).put_metric_alarm(**alarm)
            done.append(f"alarm {alarm['AlarmName']}")
        name = request.get("PolicyName") or request.get("ScheduledActionName")
        done.append(f"{method.removeprefix('put_').replace('_', ' ')} {name or endpoint}")
    return done


def remove(
    endpoint: str, region: str | None, clients: Callable[[str, str | None], Any] = make_client
) -> list[str]:
    """Take scaling off an endpoint, with its alarm; without any this does nothing."""
    client = clients("application-autoscaling", region)
    pages = client.get_paginator("describe_scalable_targets").paginate(ServiceNamespace=NAMESPACE)
    removed = []
    for target in [entry for page in pages for entry in page["ScalableTargets"]]:
        ours = (f"endpoint/{endpoint}/", f"inference-component/{endpoint}/")
        if f"{target['ResourceId']}/".startswith(ours):
            keys = ("ServiceNamespace", "ResourceId", "ScalableDimension")
            client.deregister_scalable_target(**{key: target[key] for key in keys})
            removed.append(f"scaling of {target['ResourceId']}")
    if removed:
        # Deleting an alarm that is not there is no error.
        clients("cloudwatch", region).delete_alarms(AlarmNames=[f"{endpoint}-wake"])
    return removed


def _targets(endpoint_config: Endpoint, endpoint: str) -> list[tuple[str, Request]]:
    """What is scaled, each with the name that its policies begin with."""
    if endpoint_config.components:
        resources = [(endpoint, f"inference-component/{endpoint}")]
        dimension = COPIES
    else:
        # The main variant's policies bear the endpoint's name alone, as its alarms do.
        names = [(endpoint, MAIN_VARIANT)]
        names += [(f"{endpoint}-{each.name}", each.name) for each in endpoint_config.variants]
        resources = [(name, f"endpoint/{endpoint}/variant/{variant}") for name, variant in names]
        dimension = CONCURRENCY if endpoint_config.serverless else INSTANCES
    return [
        (
            name,
            {"ServiceNamespace": NAMESPACE, "ResourceId": resource, "ScalableDimension": dimension},
        )
        for name, resource in resources
    ]


def _metric(endpoint_config: Endpoint, settings: Autoscaling, endpoint: str) -> Request:
    if endpoint_config.asynchronous:
        backlog = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        }
        target = settings.target or BACKLOG_PER_INSTANCE
        return {"TargetValue": target, "CustomizedMetricSpecification": backlog}
    serverless = endpoint_config.serverless
    kind = "ProvisionedConcurrencyUtilization" if serverless else "InvocationsPerInstance"
    default = CONCURRENCY_SHARE if serverless else INVOCATIONS_PER_MINUTE
    metric = {"PredefinedMetricType": f"SageMakerVariant{kind}"}
    if endpoint_config.components:
        metric = {"PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"}
    return {
        "TargetValue": settings.target or default,
        "PredefinedMetricSpecification": metric,
    }


def _reaches_zero(settings: Autoscaling) -> bool:
    return 0 in (settings.min, *(item.min for item in settings.schedule))


def _wake(target: Request, endpoint: str, settings: Autoscaling) -> Request:
    # Target tracking divides by the number of instances, so it cannot leave zero by itself.
    return {
        **target,
        "PolicyName": f"{endpoint}-wake",
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Maximum",
            "Cooldown": settings.scale_out_cooldown_seconds,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    }


def _schedules(target: Request, name: str, settings: Autoscaling) -> Iterator[tuple[str, Request]]:
    for index, item in enumerate(settings.schedule, start=1):
        yield (
            "put_scheduled_action",
            {
                **target,
                "ScheduledActionName": f"{name}-{index}",
                "Schedule": item.at,
                "Timezone": item.timezone,
                "ScalableTargetAction": {"MinCapacity": item.min, "MaxCapacity": item.max},
            },
        )
