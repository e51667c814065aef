"""Nobody else's endpoint, model, job or bucket is taken for one's own."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import sm_launch
from sm_launch import cli
from sm_launch.aws import clients as aws_clients
from sm_launch.aws.clients import clients_for, make_client
from sm_launch.hosting.asynchronous import Objects
from sm_launch.hosting.captured import captured_lines
from sm_launch.job.config import Aws

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

JOB = """
name: mine
target: sagemaker
training:
  model: org/tiny
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1
  channels: {train: train.jsonl}
  instances: {type: ml.m5.large}
endpoint:
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-serve:1
  instances: {type: ml.m5.large}
data: {input: "s3://my-bucket/raw/", columns: {text: text, label: label}}
aws:
  bucket: my-bucket
  training_role: arn:aws:iam::123456789012:role/TrainingRole
"""
ROLE = "arn:aws:iam::123456789012:role/theirs"
DEPLOY = ["deploy", "--model-data", "s3://my-bucket/model.tar.gz"]


@pytest.fixture
def job(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB)
    Path("train.jsonl").write_text('{"text": "good", "label": "pos"}\n')
    where = {"LocationConstraint": "eu-central-1"}
    make_client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    return tmp_path


def make_endpoint(name: str, model: str, tags: dict[str, str] | None = None) -> Any:
    """As another tool makes one: endpoint, configuration and model, perhaps with tags."""
    client = make_client("sagemaker")
    listed = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
    container = {"Image": "theirs:1", "ModelDataUrl": "s3://theirs/model.tar.gz"}
    if model not in names("Models", "ModelName"):
        client.create_model(
            ModelName=model, PrimaryContainer=container, ExecutionRoleArn=ROLE, Tags=listed
        )
    variant = {"VariantName": "v", "ModelName": model, "InitialInstanceCount": 1,
               "InstanceType": "ml.m5.large", "InitialVariantWeight": 1.0}  # fmt: skip
    client.create_endpoint_config(
        EndpointConfigName=f"{name}-config", ProductionVariants=[variant], Tags=listed
    )
    client.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-config", Tags=listed)
    return client


def names(items: str, key: str) -> list[str]:
    client = make_client("sagemaker")
    lister = {"Models": "list_models", "Endpoints": "list_endpoints"}[items]
    return [each[key] for page in client.get_paginator(lister).paginate() for each in page[items]]


@pytest.mark.parametrize(
    ("tags", "message"),
    [({}, "sm-launch did not make it"), ({"sm-launch:job": "yours"}, "'yours'")],
)
def test_a_foreign_endpoint_is_neither_updated_nor_deleted(
    tags: dict[str, str], message: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = make_endpoint("mine", "their-model", tags)
    before = client.describe_endpoint(EndpointName="mine")
    for command in (DEPLOY, ["delete", "--yes"], ["delete", "mine", "--yes"],
                    ["weights", "mine", "v=2"]):  # fmt: skip
        assert cli.run(command) == 1
        told = capsys.readouterr().err
        assert message in told
        assert "--adopt" in told
    after = client.describe_endpoint(EndpointName="mine")
    assert after["EndpointConfigName"] == before["EndpointConfigName"]
    assert names("Models", "ModelName") == ["their-model"]  # nothing half made either


def test_what_is_taken_over_is_ones_own_from_then_on(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = make_endpoint("mine", "their-model")
    arn = client.describe_endpoint(EndpointName="mine")["EndpointArn"]
    assert cli.run(["delete", "--yes", "--adopt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == [
        "endpoint mine", "endpoint configuration mine-config", "model their-model",
    ]  # fmt: skip
    assert arn and names("Endpoints", "EndpointName") == []


def test_parts_that_are_not_ours_or_in_use_stay(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {"sm-launch:job": "mine"}
    make_endpoint("mine", "shared-model", ours)
    make_endpoint("another", "shared-model")
    assert cli.run(["delete", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left"] == ["model shared-model: the endpoint another runs it"]
    assert names("Endpoints", "EndpointName") == ["another"]
    client = make_endpoint("second", "other-model")
    arn = client.describe_endpoint(EndpointName="second")["EndpointArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "sm-launch:job", "Value": "mine"}])
    assert cli.run(["delete", "second", "--yes", "--json"]) == 0
    left = json.loads(capsys.readouterr().out)["left"]
    assert [line.partition(":")[2] for line in left] == [" sm-launch did not make it"] * 2
    assert "other-model" in names("Models", "ModelName")


def test_a_job_of_that_name_without_our_tag_is_not_deployed(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    client = make_client("sagemaker")
    client.delete_tags(ResourceArn=done["TrainingJobArn"], TagKeys=["sm-launch:job"])
    assert cli.run(["deploy"]) == 1
    told = capsys.readouterr().err
    assert f"{done['TrainingJobName']} is not this job's" in told


def test_every_endpoint_of_an_account_is_seen(job: Path) -> None:
    """moto gives ten a page, as the service does."""
    for number in range(12):
        make_endpoint(f"mine-{number}", f"model-{number}")
    make_endpoint("mine", "shared-model", {"sm-launch:job": "mine"})
    make_endpoint("a-last", "shared-model")
    assert cli.run(["delete", "--yes"]) == 0
    assert "shared-model" in names("Models", "ModelName")


def test_calls_to_s3_name_the_owner(job: Path, unnamed_owners: list[str], calls: list[Any]) -> None:
    """The fixture looks at every call of every test here; these are those no other test makes."""
    s3 = make_client("s3")
    s3.put_object(Bucket="my-bucket", Key="raw/a.jsonl", Body=b'{"text": "a", "label": "b"}\n' * 40)
    s3.put_object(Bucket="my-bucket", Key="cap/m/v/x.jsonl", Body=b"{}\n")
    assert cli.run(["data", "inspect"]) == 0
    clients = clients_for(Aws())
    objects = Objects(clients)
    objects.write("s3://my-bucket/queue/1", b"x")
    assert objects.read("s3://my-bucket/queue/1") == b"x"
    assert objects.read("s3://my-bucket/queue/2") is None
    assert list(captured_lines("s3://my-bucket/cap/m/v", clients)) == ["{}"]
    large = job / "large.bin"
    large.write_bytes(b"0" * (9 << 20))  # boto3 sends it in parts
    s3.upload_file(str(large), "my-bucket", "large.bin")
    s3.download_file("my-bucket", "large.bin", str(job / "again.bin"))
    assert (job / "again.bin").stat().st_size == 9 << 20
    assert unnamed_owners == []
    calls.clear()  # outside the prefix that the policy is for


def test_a_bucket_of_another_account_has_its_own_owner(
    job: Path, unnamed_owners: list[str]
) -> None:
    seen: list[str] = []
    client = clients_for(Aws(bucket_owners={"theirs": "999999999999"}))("s3")
    client.meta.events.register(
        "before-call.s3",
        lambda params, **_: seen.append(params["headers"]["x-amz-expected-bucket-owner"]),
    )
    for bucket in ("theirs", "my-bucket"):
        try:
            client.head_object(Bucket=bucket, Key="x")
        except ClientError:
            continue
    assert seen == ["999999999999", "123456789012"]
    unnamed_owners.clear()  # the fixture expects our own account everywhere


def test_raw_data_may_lie_in_anybodys_bucket(job: Path, unnamed_owners: list[str]) -> None:
    s3 = make_client("s3")
    where = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(Bucket="public-data", CreateBucketConfiguration=where)
    s3.put_object(Bucket="public-data", Key="a.jsonl", Body=b'{"text": "a", "label": "b"}\n' * 40)
    unnamed_owners.clear()
    source = ["data", "inspect", "-s", "data.input=s3://public-data/a.jsonl"]
    assert cli.run(source) == 0
    assert {call.rpartition(" ")[2] for call in unnamed_owners} == {"None"}
    unnamed_owners.clear()
    assert cli.run([*source, "-s", "aws.bucket_owners.public-data='123456789012'"]) == 0


def test_no_client_of_s3_is_made_in_another_way() -> None:
    source = Path(sm_launch.__file__).parent
    lines = [
        f"{path.name}:{node.lineno}"
        for path in source.rglob("*.py")
        if path.name != Path(aws_clients.__file__).name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"client", "resource"}
        and "s3" in [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    ]
    assert lines == []
