"""A load test is priced by the instances that an endpoint runs on, as SageMaker describes them."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from sm_launch.evaluation.job.costs import Hosts, hosts_of
from sm_launch.sessions.aws import AwsSession

ROLE = "arn:aws:iam::123456789012:role/r"


def variant(name: str, **hardware: Any) -> dict[str, Any]:
    return {"VariantName": name, "ModelName": "m", **hardware}


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        (
            [
                variant("a", InstanceType="ml.m5.large", InitialInstanceCount=2),
                variant("b", InstanceType="ml.g4dn.xlarge", InitialInstanceCount=1),
            ],
            [Hosts("ml.m5.large", 2), Hosts("ml.g4dn.xlarge", 1)],
        ),
        ([variant("a", ServerlessConfig={"MemorySizeInMB": 2048, "MaxConcurrency": 2})], []),
    ],
)
def test_instances_are_counted_by_type_and_serverless_has_none(
    aws: str, variants: list[dict[str, Any]], expected: list[Hosts]
) -> None:
    sagemaker: Any = boto3.client("sagemaker")
    container = {"Image": "i", "ModelDataUrl": "s3://b/m.tar.gz"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    assert hosts_of(AwsSession(), "e") == expected
