"""Inference components: valid requests, transitions and failures as the service model has them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from pydantic import ValidationError

from sm_launch.account import cleanup
from sm_launch.errors import LaunchError
from sm_launch.hosting import autoscaling, component_requests, components, endpoints
from sm_launch.hosting import requests as hosting_requests
from sm_launch.hosting.deployment import Deployment, _check_host, _deploy_components
from sm_launch.hosting.variants import HostingInputs
from sm_launch.job.config import Endpoint, JobConfig
from sm_launch.sessions.aws import AwsSession
from sm_launch.sessions.validation import RequestValidator

pytestmark = pytest.mark.usefixtures("calls")

ROLE = "arn:aws:iam::123456789012:role/hosting"
ADAPTERS = {"polite": "s3://models/polite.tar.gz"}
SCALING = {"min": 0, "max": 3, "schedule": [{"at": "cron(0 8 * * ? *)", "min": 1, "max": 5}]}
NOW = datetime(2030, 1, 1, tzinfo=UTC)
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:"


def job(**endpoint: Any) -> JobConfig:
    document = {"components": {"adapters": ADAPTERS}, **endpoint}
    return JobConfig.model_validate({"name": "mine", "endpoint": document})


@pytest.mark.parametrize("kind", ["ml.m5.large", "ml.g5.xlarge"])
def test_requests_are_valid(kind: str) -> None:
    validator = RequestValidator("sagemaker")
    network = {"subnets": ["subnet-1"], "security_groups": ["sg-1"], "isolation": True}
    config = job(
        instances={"type": kind},
        network=network,
        autoscaling=SCALING,
        update={"strategy": "rolling", "alarms": ["mine-errors"]},
    )
    inputs = HostingInputs(role=ROLE)
    described = hosting_requests.create_endpoint_config(config, "c", "m", inputs=inputs)
    validator.check("CreateEndpointConfig", described)
    (variant,) = described["ProductionVariants"]
    assert "ModelName" not in variant
    assert variant["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert variant["ManagedInstanceScaling"]["MaxInstanceCount"] == 5
    assert described["ExecutionRoleArn"] == ROLE
    model = hosting_requests.create_model(config, "m", model_data="s3://b/m/", image="i", role=ROLE)
    validator.check("CreateModel", model)
    assert "VpcConfig" not in model
    assert "VpcConfig" in described
    validator.check("CreateEndpoint", hosting_requests.create_endpoint(config, "mine", "c"))
    base = component_requests.create_base(config, "mine", "m", 10**10)
    validator.check("CreateInferenceComponent", base)
    needs = base["Specification"]["ComputeResourceRequirements"]
    assert ("NumberOfAcceleratorDevicesRequired" in needs) is (kind == "ml.g5.xlarge")
    for request in component_requests.adapters(config, "mine"):
        validator.check("CreateInferenceComponent", request)
    update = component_requests.update_base(config, "mine", "m", None)
    validator.check("UpdateInferenceComponent", update)
    assert "RollingUpdatePolicy" in update["DeploymentConfig"]


def test_copies_scale_from_zero() -> None:
    config = job(autoscaling=SCALING)
    calls = autoscaling.build_requests(config, "mine")
    scaling = RequestValidator("application-autoscaling")
    for method, request in calls:
        scaling.check("".join(word.title() for word in method.split("_")), request)
        assert request["ResourceId"] == "inference-component/mine"
    assert [method for method, _ in calls].count("put_scaling_policy") == 2
    alarm = autoscaling.wake_alarm(config, "mine", "arn:aws:autoscaling:policy")
    RequestValidator("cloudwatch").check("PutMetricAlarm", alarm)
    assert alarm["MetricName"] == "NoCapacityInvocationFailures"


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"serverless": {}}, "cannot have: serverless"),
        ({"asynchronous": {}}, "cannot have: asynchronous"),
        ({"update": {"strategy": "canary"}}, "rolling only"),
        ({"components": {"adapters": {"a": "./local"}}}, "s3://"),
        ({"components": {"adapters": {"a b": "s3://b/a.tar.gz"}}}, "a b"),
    ],
)
def test_contradictions_are_refused(endpoint: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Endpoint.model_validate({"components": {}, **endpoint})


class Service:
    """A stubbed SageMaker client and a session over it."""

    def __init__(self) -> None:
        self.client: Any = boto3.client(
            "sagemaker", region_name="eu-central-1", aws_access_key_id="x",
            aws_secret_access_key="x",
        )  # fmt: skip
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.session = AwsSession(clients=lambda *_: self.client, sleep=lambda _: None)
        self.session.seconds_between_looks = 0.0

    def describe(self, name: str, status: str, **more: Any) -> None:
        answer = {
            "InferenceComponentName": name,
            "InferenceComponentArn": f"{ARN}inference-component/{name}",
            "EndpointName": "mine",
            "EndpointArn": f"{ARN}endpoint/mine",
            "CreationTime": NOW,
            "LastModifiedTime": NOW,
            "InferenceComponentStatus": status,
            **more,
        }
        self.stub.add_response(
            "describe_inference_component", answer, {"InferenceComponentName": name}
        )

    def missing(self, name: str) -> None:
        self.stub.add_client_error(
            "describe_inference_component",
            "ValidationException",
            f'Could not find inference component "{name}".',
            expected_params={"InferenceComponentName": name},
        )

    def listed(self, *names: str) -> None:
        items = [
            {
                "InferenceComponentName": name,
                "InferenceComponentArn": f"{ARN}inference-component/{name}",
                "EndpointName": "mine",
                "EndpointArn": f"{ARN}endpoint/mine",
                "VariantName": "AllTraffic",
                "CreationTime": NOW,
                "LastModifiedTime": NOW,
            }
            for name in names
        ]
        asked = {"EndpointNameEquals": "mine", "MaxResults": 100}
        self.stub.add_response("list_inference_components", {"InferenceComponents": items}, asked)

    def made(self, method: str, name: str, **expected: Any) -> None:
        kind, word = ("Model", "model") if method == "create_model" else (
            "InferenceComponent", "inference-component")  # fmt: skip
        answer = {f"{kind}Arn": f"{ARN}{word}/{name}"}
        self.stub.add_response(method, answer, expected or None)


@pytest.fixture
def service() -> Service:
    return Service()


RUNS = {"Specification": {"ModelName": "m-2"}}


def test_model_and_adapter_come_into_service(service: Service) -> None:
    service.missing("mine")
    base = component_requests.create_base(job(), "mine", "m-2", None)
    service.made("create_inference_component", "mine", **base)
    service.describe("mine", "Creating", **RUNS)
    service.describe("mine", "InService", **RUNS)
    service.missing("mine-polite")
    (adapter,) = component_requests.adapters(job(), "mine")
    service.made("create_inference_component", "mine-polite", **adapter)
    service.describe("mine-polite", "InService")
    service.listed("mine", "mine-polite")
    seen: list[tuple[str, str]] = []
    names = components.apply(
        service.session, job(), "mine", "m-2", None, lambda *look: seen.append(look)
    )
    assert names == ["mine", "mine-polite"]
    assert seen[:2] == [("mine", "Creating"), ("mine", "InService")]
    service.stub.assert_no_pending_responses()


@pytest.mark.slow
@pytest.mark.parametrize("status", ["Failed", "InService"])
def test_a_failure_is_explained(service: Service, status: str) -> None:
    """Also where SageMaker went back to the old model, which then is in service."""
    old = {"Specification": {"ModelName": "m-1"}, "FailureReason": "ping health check"}
    service.describe("mine", "InService", **old)
    service.made("update_inference_component", "mine")
    service.describe("mine", "Updating", **old)
    service.describe("mine", status, **old)
    service.session.component_log_lines = lambda *_: (  # type: ignore[method-assign]
        ["CUDA driver version is insufficient"], None,
    )  # fmt: skip
    with pytest.raises(LaunchError) as caught:
        components.apply(service.session, job(), "mine", "m-2", None)
    assert "ping health check" in str(caught.value)
    assert "inference-gpu-4-1" in str(caught.value)


ENDPOINT = {
    "EndpointName": "mine", "EndpointArn": f"{ARN}endpoint/mine", "CreationTime": NOW,
    "EndpointConfigName": "c", "EndpointStatus": "InService", "LastModifiedTime": NOW,
}  # fmt: skip
CONFIGURATION = {
    "EndpointConfigName": "c", "EndpointConfigArn": f"{ARN}endpoint-config/c",
    "ProductionVariants": [{"VariantName": "AllTraffic"}], "CreationTime": NOW,
}  # fmt: skip
PLANNED = Deployment(
    models=({"ModelName": "m-2"},), components=({},),
    endpoint_config={"EndpointConfigName": "c", "ProductionVariants": [{"VariantName": "a"}]},
    endpoint={"EndpointName": "mine", "EndpointConfigName": "c"},
)  # fmt: skip
SUMMARY = {key: value for key, value in ENDPOINT.items() if key != "EndpointConfigName"}
NO_CAPACITY = ("ResourceLimitExceeded", "The account-level service limit is 0")


def refused(service: Service) -> None:
    with pytest.raises(ClientError, match="ResourceLimitExceeded"):
        _deploy_components(service.session, job(), PLANNED)  # type: ignore[arg-type]
    service.stub.assert_no_pending_responses()


@pytest.mark.parametrize("base_was_updated", [False, True])
def test_an_update_that_is_refused_leaves_what_runs(
    service: Service, base_was_updated: bool
) -> None:
    old = {"Specification": {"ModelName": "m-1"}}
    service.stub.add_response("list_endpoints", {"Endpoints": [SUMMARY]})
    service.made("create_model", "m-2", ModelName="m-2")
    service.describe("mine", "InService", **old)
    if base_was_updated:
        service.made("update_inference_component", "mine")
        service.describe("mine", "InService", **RUNS)
        service.missing("mine-polite")
        service.stub.add_client_error("create_inference_component", *NO_CAPACITY)
    else:
        service.stub.add_client_error("update_inference_component", *NO_CAPACITY)
    service.listed("mine")
    service.describe("mine", "InService", **(RUNS if base_was_updated else old))
    if not base_was_updated:
        service.stub.add_response("delete_model", {}, {"ModelName": "m-2"})
    refused(service)


def test_a_new_endpoint_whose_component_is_refused_is_taken_away(service: Service) -> None:
    for method in ("list_endpoints", "list_endpoints"):
        service.stub.add_response(method, {"Endpoints": []})
    service.made("create_model", "m-2", ModelName="m-2")
    arn = {"EndpointConfigArn": f"{ARN}endpoint-config/c"}
    service.stub.add_response("create_endpoint_config", arn)
    service.stub.add_response("list_endpoints", {"Endpoints": []})
    service.stub.add_response("create_endpoint", {"EndpointArn": f"{ARN}endpoint/mine"})
    service.stub.add_response("describe_endpoint", ENDPOINT)
    service.missing("mine")
    service.stub.add_client_error("create_inference_component", *NO_CAPACITY)
    service.stub.add_response("describe_endpoint", ENDPOINT)
    service.stub.add_response("describe_endpoint_config", CONFIGURATION)
    service.listed()
    tags = {"Tags": [{"Key": "sm-launch:job", "Value": "mine"}]}
    service.stub.add_response("list_tags", tags)
    service.stub.add_response("delete_endpoint", {}, {"EndpointName": "mine"})
    service.stub.add_response("delete_endpoint_config", {}, {"EndpointConfigName": "c"})
    service.stub.add_response("delete_model", {}, {"ModelName": "m-2"})
    refused(service)


@pytest.mark.parametrize("before", [{"InstanceType": "ml.m5.large"}, {"ModelName": "m"}])
def test_what_an_endpoint_does_not_become_is_told(service: Service, before: dict[str, str]) -> None:
    told: list[str] = []
    variant = {"VariantName": "AllTraffic", **before}
    service.stub.add_response("describe_endpoint", ENDPOINT)
    described = {**CONFIGURATION, "ProductionVariants": [variant]}
    service.stub.add_response("describe_endpoint_config", described)
    context: Any = SimpleNamespace(session=service.session, warn=told.append)
    wanted = {"EndpointConfigName": "c2", "ProductionVariants": [
        {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge"}]}  # fmt: skip
    planned = replace(PLANNED, endpoint_config=wanted)
    if "ModelName" in before:
        with pytest.raises(LaunchError, match="model of its own"):
            _check_host(context, planned)
        return
    _check_host(context, planned)
    (line,) = told
    assert line.startswith("InstanceType stays ml.m5.large in place of ml.g5.xlarge")


def test_what_cannot_be_taken_away_is_told_with_the_failure(service: Service) -> None:
    service.stub.add_response("list_endpoints", {"Endpoints": [SUMMARY]})
    service.made("create_model", "m-2", ModelName="m-2")
    service.describe("mine", "InService", Specification={"ModelName": "m-1"})
    service.stub.add_client_error("update_inference_component", *NO_CAPACITY)
    service.stub.add_client_error("list_inference_components", "AccessDeniedException", "not you")
    with pytest.raises(LaunchError, match=r"service limit is 0(?s:.*)not you") as caught:
        _deploy_components(service.session, job(), PLANNED)  # type: ignore[arg-type]
    assert "sm-launch gc --unused" in str(caught.value.fix)
    assert "sm-launch delete" not in str(caught.value.fix)  # it answers with its old model


def test_deleting_takes_adapters_first(service: Service) -> None:
    service.stub.add_response("describe_endpoint", ENDPOINT)
    service.stub.add_response("describe_endpoint_config", CONFIGURATION)
    service.listed("mine", "mine-polite")
    service.describe("mine", "InService", **RUNS)
    on_base = {"Specification": {"BaseInferenceComponentName": "mine"}}
    service.describe("mine-polite", "InService", **on_base)
    for name in ("mine-polite", "mine"):
        service.describe(name, "InService")
        service.stub.add_response(
            "delete_inference_component", {}, {"InferenceComponentName": name}
        )
        service.describe(name, "Deleting")
        service.missing(name)
    model = {"ModelName": "m-2", "ModelArn": f"{ARN}model/m-2", "CreationTime": NOW}
    service.stub.add_response("describe_model", model, {"ModelName": "m-2"})
    for arn in (f"{ARN}endpoint-config/c", f"{ARN}model/m-2"):
        tags = {"Tags": [{"Key": "sm-launch:job", "Value": "mine"}]}
        service.stub.add_response("list_tags", tags, {"ResourceArn": arn, "MaxResults": 100})
    service.stub.add_response("list_endpoints", {"Endpoints": []})
    service.stub.add_response("delete_endpoint", {}, {"EndpointName": "mine"})
    service.stub.add_response("delete_endpoint_config", {}, {"EndpointConfigName": "c"})
    service.stub.add_response("delete_model", {}, {"ModelName": "m-2"})
    assert endpoints.delete(service.session, "mine").done[-1] == "model m-2"
    service.stub.assert_no_pending_responses()


def test_models_of_components_are_in_use(service: Service) -> None:
    service.stub.add_response("list_endpoints", {"Endpoints": [SUMMARY]})
    service.stub.add_response("describe_endpoint", ENDPOINT)
    service.stub.add_response("describe_endpoint_config", CONFIGURATION)
    service.listed("mine")
    service.describe("mine", "InService", **RUNS)
    assert ("model", "m-2") in cleanup._in_use(service.client)
