"""A load test of an endpoint on SageMaker: what is asked, refused and priced, as moto has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml
from botocore.exceptions import ClientError

from sm_launch import cli
from sm_launch.errors import UserInputError
from sm_launch.evaluation.job.artefacts import addressed, model_uri
from sm_launch.evaluation.job.costs import Hosts, hosts_of
from sm_launch.sessions import sending_once
from sm_launch.sessions.aws import AwsSession

sys.path.insert(0, str(Path(__file__).parent))

from fault_proxy import fault_proxy

pytestmark = pytest.mark.usefixtures("calls")

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
    create(variants)
    assert hosts_of(AwsSession(), "e") == expected


def create(variants: list[dict[str, Any]], **config: Any) -> None:
    """An endpoint e."""
    sagemaker: Any = boto3.client("sagemaker")
    container = {"Image": "i", "ModelDataUrl": "s3://models/m.tar.gz"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=variants, **config)
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")


@pytest.mark.slow
def test_evaluate_finds_the_load_of_an_endpoint_on_sagemaker(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create([variant("a", InstanceType="ml.m5.large", InitialInstanceCount=2)])
    answers = [{"Body": '[{"label": "good", "score": 0.9}]', "ContentType": "application/json"}]
    httpx.post(
        f"{aws}/moto-api/static/sagemaker/endpoint-results",
        json={"region": "eu-central-1", "results": answers * 4},
    ).raise_for_status()
    monkeypatch.chdir(tmp_path)
    load = {"seconds": 0.2, "max_concurrency": 2}
    evaluated = {"data": "rows.jsonl", "batch_size": 1, "load": load}
    job = {"name": "mine", "target": "sagemaker", "evaluation": evaluated,
           "training": {"method": "text-classification"}}  # fmt: skip
    Path("job.yaml").write_text(yaml.safe_dump(job))
    rows = [{"text": f"row {at}", "label": "good"} for at in range(4)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli.run(["evaluate", "--endpoint", "e", "--load", "--p99-ms", "60000"]) == 0
    written = json.loads(Path("build/mine/report/evaluation.json").read_text())
    assert written["metrics"]["accuracy"] == 1
    assert [step["concurrency"] for step in written["load"]["steps"]] == [1, 2]
    (cost,) = written["load"]["costs"]
    assert (cost["type"], cost["instances"], cost["measured"]) == ("ml.m5.large", 2, True)


def test_a_load_is_put_on_at_the_callers_pace(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create([variant("a", InstanceType="ml.m5.large", InitialInstanceCount=1)])
    with fault_proxy(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.inject("POST /endpoints/e/invocations", "ServiceUnavailable", status=503, times=3)
        asked = {"EndpointName": "e", "Body": b"{}"}
        for _ in range(3):
            with pytest.raises(ClientError):
                sending_once(AwsSession()).invoke_endpoint(**asked)
        assert proxy.count("POST /endpoints/e/invocations") == 3


def test_what_queues_requests_has_no_load(aws: str) -> None:
    output = {"OutputConfig": {"S3OutputPath": "s3://b/out"}}
    create(
        [variant("a", InstanceType="ml.m5.large", InitialInstanceCount=1)],
        AsyncInferenceConfig=output,
    )
    with pytest.raises(UserInputError, match="asynchronous"):
        addressed(AwsSession(), "e")


class WithComponents:
    """Of an endpoint with components, what SageMaker tells; moto has none of these."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def describe_endpoint(self, **_: Any) -> dict[str, Any]:
        return {"EndpointConfigName": "c"}

    def describe_endpoint_config(self, **_: Any) -> dict[str, Any]:
        return {"ProductionVariants": [{"VariantName": "a", "InstanceType": "ml.g5.xlarge"}]}

    def list_inference_components(self, **_: Any) -> dict[str, Any]:
        return {"InferenceComponents": [{"InferenceComponentName": n} for n in self._names]}

    def describe_inference_component(self, **_: Any) -> dict[str, Any]:
        return {"Specification": {"ModelName": "m"}}

    def describe_model(self, **_: Any) -> dict[str, Any]:
        return {"Containers": [{"ModelDataUrl": "s3://b/m.tar.gz"}]}


def test_the_base_component_is_asked_where_an_endpoint_has_components() -> None:
    assert addressed(WithComponents("e", "e-polite"), "e") == {"InferenceComponentName": "e"}
    assert model_uri(WithComponents("e"), "e") == "s3://b/m.tar.gz"
    with pytest.raises(UserInputError, match=r"\(other\) and none of its own name"):
        addressed(WithComponents("other"), "e")
