"""Deployment requests: the service model accepts all, and what contradicts itself is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from sm_launch.hosting import deployment, transforms
from sm_launch.hosting import requests as hosting_requests
from sm_launch.hosting.variants import (
    CUDA_13_AMI,
    HostingInputs,
    TransformInputs,
    startup_timeout,
)
from sm_launch.job.config import Endpoint, JobConfig
from sm_launch.job.hosting import Transform
from sm_launch.job.naming import unique_name
from sm_launch.sessions.validation import RequestValidator

ROLE = "arn:aws:iam::123456789012:role/hosting"
OUTPUT = "s3://bucket/sm-launch/mine"
CAPTURE: dict[str, Any] = {"data_capture": {"percentage": 50}}
ASYNC: dict[str, Any] = {
    "asynchronous": {
        "max_concurrent_per_instance": 4,
        "success_topic": "arn:aws:sns:eu-central-1:123456789012:good",
        "error_topic": "arn:aws:sns:eu-central-1:123456789012:bad",
    }
}
SERVERLESS = {"serverless": {"memory_mb": 6144, "provisioned_concurrency": 2}}
VARIANT = {"variants": [{"name": "second", "model_data": "s3://b/m.tar.gz", "weight": 0.5}]}


@pytest.fixture(scope="module")
def validator() -> RequestValidator:
    return RequestValidator("sagemaker")


def job(endpoint: dict[str, Any], **aws: Any) -> JobConfig:
    return JobConfig.model_validate({"name": "mine", "endpoint": endpoint, "aws": aws})


@pytest.mark.parametrize("extra", [{}, CAPTURE, ASYNC, SERVERLESS, VARIANT, {**CAPTURE, **VARIANT}])
def test_endpoint_configurations_are_valid(
    validator: RequestValidator, extra: dict[str, Any]
) -> None:
    for kind, kms in itertools.product(("ml.m5.large", "ml.g5.xlarge"), (None, "alias/mine")):
        config = job({"instances": {"type": kind}, **extra}, kms_key=kms, tags={"team": "nlp"})
        inputs = HostingInputs(OUTPUT, 15_000_000_000, ("m2",) if "variants" in extra else ())
        request = hosting_requests.create_endpoint_config(config, "mine-1", "m", inputs=inputs)
        validator.check("CreateEndpointConfig", request)
        main = request["ProductionVariants"][0]
        assert ("ServerlessConfig" in main) is ("serverless" in extra)
        assert ("InstanceType" in main) is ("serverless" not in extra)
        assert (main.get("InferenceAmiVersion") == CUDA_13_AMI) is (
            kind == "ml.g5.xlarge" and "serverless" not in extra
        )
        assert len(request["ProductionVariants"]) == (2 if "variants" in extra else 1)


@pytest.mark.parametrize("uri", ["s3://b/m", "s3://b/m/"])
def test_a_prefix_of_files_ends_with_a_slash(uri: str) -> None:
    """Also of a variant: SageMaker takes no other, and without it `m-other/` would be read too."""
    config = job({"variants": [{"name": "a", "model_data": uri}]})
    planned = deployment.build(config, model_data=uri, image="i", role=ROLE)
    for model in planned.models:
        source = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
        assert source["S3Uri"] == "s3://b/m/"


def test_models_of_long_names_are_told_apart(validator: RequestValidator) -> None:
    variants = [{"name": f"{'v' * 60}{at}", "model_data": f"s3://b/{at}.tar.gz"} for at in range(3)]
    config = job({"name": "e" * 63, "variants": variants})
    planned = deployment.build(config, model_data="s3://b/m.tar.gz", image="i", role=ROLE)
    assert len({model["ModelName"] for model in planned.models}) == 4
    for operation, request in planned.operations():
        validator.check(operation, request)
    named = unique_name("n" * 42, suffix="optimize")
    assert len(named) <= 63 and "-optimize-" in named


@pytest.mark.parametrize("strategy", ["all-at-once", "canary", "linear", "rolling"])
@pytest.mark.parametrize("alarms", [[], ["errors", "latency"]])
def test_updates_are_valid(validator: RequestValidator, strategy: str, alarms: list[str]) -> None:
    config = job({"update": {"strategy": strategy, "alarms": alarms, "step_percent": 25}})
    request = hosting_requests.create_endpoint(config, "mine", "mine-1")
    deployment = request["DeploymentConfig"]
    validator.check("CreateEndpoint", request)
    validator.check(
        "UpdateEndpoint",
        {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": deployment},
    )
    assert ("RollingUpdatePolicy" in deployment) is (strategy == "rolling")
    assert ("AutoRollbackConfiguration" in deployment) is bool(alarms)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({**SERVERLESS, **ASYNC}, "serverless cannot have: asynchronous"),
        ({**SERVERLESS, "network": {"isolation": True}}, "serverless cannot have: network"),
        ({"serverless": {}, "autoscaling": {}}, "provisioned_concurrency"),
        ({"autoscaling": {"min": 0}}, "asynchronous endpoint"),
        ({"autoscaling": {"min": 3, "max": 2}}, "must not exceed"),
        ({"autoscaling": {"schedule": [{"at": "8:00", "min": 1, "max": 2}]}}, "cron"),
        ({"serverless": {"provisioned_concurrency": 20}}, "must not exceed"),
        ({"update": {"strategy": "rolling", "step_percent": 3}}, "between 5 and 50"),
    ],
)
def test_contradictions_are_refused(endpoint: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Endpoint.model_validate(endpoint)


TRANSFORMS: list[dict[str, Any]] = [
    {},
    {"instance_type": "ml.g5.xlarge", "ami_version": "al2-ami-sagemaker-batch-gpu-535"},
    {"split": "none", "batch": "single-record", "max_payload_mb": 100},
    {"max_concurrent": 4, "timeout_seconds": 600, "max_retries": 0, "join_input": True},
]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transform_jobs_are_valid(validator: RequestValidator, transform: dict[str, Any]) -> None:
    config = JobConfig.model_validate(
        {"name": "mine", "transform": transform, "aws": {"kms_key": "alias/mine"}}
    )
    inputs = TransformInputs("s3://b/in/", "s3://b/out", "application/jsonlines")
    planned = transforms.build(
        config, "mine-1", model_data="s3://b/m/", image="i", role=ROLE, inputs=inputs
    )
    validator.check("CreateModel", planned.model)
    validator.check("CreateTransformJob", planned.job)
    assert ("DataProcessing" in planned.job) is bool(transform.get("join_input"))
    assert bool(transforms.warning(config)) is ("ami_version" in transform)


def test_a_transform_keeps_to_the_buffer() -> None:
    with pytest.raises(ValidationError, match="SageMaker takes 100"):
        Transform.model_validate({"max_concurrent": 20})


def test_large_models_get_more_time() -> None:
    assert startup_timeout(None) == startup_timeout(90_000_000) == 600
    assert startup_timeout(28_000_000_000) == 860
    assert startup_timeout(10**12) == 3600
