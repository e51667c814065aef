"""Scaling: valid requests, from zero and by the clock; set up and taken off again on moto."""

from __future__ import annotations

from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate
import pytest

from sm_launch.aws.clients import make_client
from sm_launch.hosting import autoscaling
from sm_launch.job.config import JobConfig

pytestmark = pytest.mark.usefixtures("calls")


def check(service: str, operation: str, request: dict[str, Any]) -> None:
    """Botocore's own check against the service model."""
    loaded = botocore.loaders.Loader().load_service_model(service, "service-2")
    shape = botocore.model.ServiceModel(loaded).operation_model(operation).input_shape
    report = botocore.validate.ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()


SCHEDULE = [{"at": "cron(0 20 * * ? *)", "min": 0, "max": 1, "timezone": "Europe/Berlin"}]
KINDS: dict[str, dict[str, Any]] = {
    "load": {"autoscaling": {"max": 4}},
    "async": {"asynchronous": {}, "autoscaling": {"min": 0, "max": 3, "schedule": SCHEDULE}},
    "serverless": {"serverless": {"provisioned_concurrency": 2}, "autoscaling": {"max": 5}},
    "variants": {
        "variants": [{"name": "second", "model_data": "s3://b/m.tar.gz"}],
        "autoscaling": {"max": 4, "schedule": [{"at": "rate(1 day)", "min": 2, "max": 4}]},
    },
}


def job(kind: str) -> JobConfig:
    return JobConfig.model_validate({"name": "mine", "endpoint": KINDS[kind]})


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_valid(kind: str) -> None:
    calls = autoscaling.build_requests(job(kind), "mine")
    for method, request in calls:
        operation = "".join(word.title() for word in method.split("_"))
        check("application-autoscaling", operation, request)
    steps = [request for _, request in calls if request.get("PolicyType") == "StepScaling"]
    assert len(steps) == (1 if kind == "async" else 0)
    assert ("put_scheduled_action" in dict(calls)) is (kind in {"async", "variants"})
    alarm = autoscaling.wake_alarm(job(kind), "mine", "arn:aws:autoscaling:policy")
    check("cloudwatch", "PutMetricAlarm", alarm)


def test_every_variant_is_scaled() -> None:
    calls = autoscaling.build_requests(job("variants"), "mine")
    policies = {
        request["ResourceId"]: request["PolicyName"]
        for method, request in calls
        if method == "put_scaling_policy"
    }
    assert policies == {
        "endpoint/mine/variant/AllTraffic": "mine-load",
        "endpoint/mine/variant/second": "mine-second-load",
    }
    assert len(calls) == 6


@pytest.mark.slow
def test_scaling_comes_and_goes(aws: str) -> None:
    sagemaker = make_client("sagemaker")
    role = "arn:aws:iam::123456789012:role/hosting"
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "i"}, ExecutionRoleArn=role)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "m",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="mine", EndpointConfigName="c")
    assert autoscaling.apply(job("load"), "mine") == autoscaling.apply(job("load"), "mine")
    scaling = make_client("application-autoscaling")
    assert len(scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"])
    assert autoscaling.remove("mine", None) == ["scaling of endpoint/mine/variant/AllTraffic"]
    assert autoscaling.remove("mine", None) == []
