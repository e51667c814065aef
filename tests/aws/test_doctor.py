"""doctor: on a bare machine, and against an account that has some of what is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.stub import Stubber

from sm_launch import cli
from sm_launch.account import access, doctor_aws
from sm_launch.account.doctor_aws import distrust
from sm_launch.aws.clients import make_client
from sm_launch.job.config import JobConfig
from sm_launch.target.context import open_context

pytestmark = pytest.mark.usefixtures("calls")

JOB = """
name: mine
target: sagemaker
training: {image: '123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1'}
aws: {bucket: %s, training_role: '%s'}
"""


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)}


@pytest.mark.slow
def test_a_bare_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert cli.run(["doctor", "--json"]) == 0
    results = checks(capsys)
    assert results["docker"]["state"] == results["gpu"]["state"] == "warning"
    assert results["credentials"]["detail"] == "no AWS credentials"
    assert all(check["fix"] for check in results.values() if check["state"] != "ok")
    assert cli.run(["doctor", "--target", "sagemaker"]) == 1
    assert "problem" in capsys.readouterr().out


@pytest.mark.slow
def test_an_account_without_anything(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB % ("models", "arn:aws:iam::123456789012:role/HostingRole"))
    assert cli.run(["doctor", "--json"]) == 1
    results = checks(capsys)
    assert results["credentials"]["state"] == "ok"
    for name in ("bucket", "aws.training_role", "training.image", "endpoint.image"):
        assert results[name]["state"] == "problem", name
        assert results[name]["fix"]


@pytest.mark.slow
def test_after_setup(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sm_launch.account.stacks.PROPAGATION_SECONDS", 0)
    place = open_context(JobConfig(name="none"), "sagemaker")
    made = access.set_up(place, bucket="my-bucket").outputs
    Path("job.yaml").write_text(JOB % (made["Bucket"], made["TrainingRole"]))
    cli.run(["doctor", "--json"])
    results = checks(capsys)
    for name in ("bucket", "bucket encryption", "aws.training_role", "aws.hosting_role"):
        assert results[name]["state"] == "ok", name


@pytest.mark.slow
def test_a_careless_account(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    where = {"LocationConstraint": "eu-central-1"}
    make_client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    kms, ec2, iam = make_client("kms"), make_client("ec2"), make_client("iam")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    trust = json.dumps({"Statement": [statement(principal={"Service": "lambda.amazonaws.com"})]})
    role = iam.create_role(RoleName="TrainingRole", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]

    def run(*overrides: str) -> dict[str, dict[str, Any]]:
        network = [f"training.network.subnets=[{subnet}]"]
        network.append(f"training.network.security_groups=[{group}]")
        overrides = (*network, *overrides)
        options = [word for override in overrides for word in ("--set", override)]
        assert cli.run(["doctor", "--json", *options]) == 1
        return checks(capsys)

    Path("job.yaml").write_text(JOB % (f"my-bucket, kms_key: '{key}'", role))
    results = run()
    assert results["bucket"]["state"] == results["aws.kms_key"]["state"] == "ok"
    assert results["training.network"]["detail"] == f"{vpc}, 251 free addresses"
    assert "put-public-access-block --bucket my-bucket" in results["bucket access"]["fix"]
    assert "create-vpc-endpoint" in results["training.network S3"]["fix"]
    assert "does not let sagemaker.amazonaws.com assume" in results["aws.training_role"]["detail"]
    assert "training.network hosts" not in results

    kms.disable_key(KeyId=key.rsplit("/", 1)[-1])
    blocked = dict.fromkeys(doctor_aws._BLOCKS, True)
    make_client("s3").put_public_access_block(
        Bucket="my-bucket", PublicAccessBlockConfiguration=blocked
    )
    ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="com.amazonaws.eu-central-1.s3")
    results = run("training.instances.count=2")
    assert f"enable-key --key-id {key.rsplit('/', 1)[-1]}" in results["aws.kms_key"]["fix"]
    assert results["training.network S3"]["state"] == results["bucket access"]["state"] == "ok"
    assert f"--source-group {group}" in results["training.network hosts"]["fix"]
    results = run("aws.kms_key=alias/none", "training.network.subnets=[subnet-12345678]")
    assert results["aws.kms_key"]["detail"] == "alias/none does not exist"
    assert "subnet-12345678" in results["training.network"]["detail"]
    other = make_client("s3", "us-west-2")
    other.create_bucket(
        Bucket="far-bucket", CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    assert "jobs run in eu-central-1" in run("aws.bucket=far-bucket")["bucket"]["detail"]


def statement(**changes: Any) -> dict[str, Any]:
    given = {"effect": "Allow", "principal": {"Service": "sagemaker.amazonaws.com"},
             "action": "sts:AssumeRole", **changes}  # fmt: skip
    return {key.capitalize(): value for key, value in given.items()}


def of(*accounts: str) -> dict[str, Any]:
    return {"StringEquals": {"aws:SourceAccount": list(accounts)}}


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([statement()], ""),
        ([statement(principal={"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]})], ""),
        ([statement(action=["sts:TagSession", "sts:Assume*"])], ""),
        ([statement(condition=of("123456789012"))], ""),
        ([statement(condition=of("999999999999"))], "SageMaker of other accounts: 999999999999"),
        ([statement(condition=of("999999999999")), statement()], ""),
        ([statement(action="sts:TagSession")], "does not let"),
        ([statement(), statement(effect="Deny")], "denies"),
        ([statement(effect="Deny")], "denies"),
        ([statement(principal={"AWS": "arn:aws:iam::1:role/sagemaker.amazonaws.com"})], "does not"),
        ([statement(principal={"Service": "sagemaker.amazonaws.com.evil.example"})], "does not"),
        ([], "does not let"),
    ],
)
def test_the_trust_policy_is_read_and_not_searched(
    statements: list[dict[str, Any]], reason: str
) -> None:
    told = distrust({"Version": "2012-10-17", "Statement": statements}, "123456789012")
    assert reason in told if reason else told == ""
    if len(statements) == 1:  # without brackets, and as IAM itself sends it
        assert distrust(quote(json.dumps({"Statement": statements[0]})), "123456789012") == told


def test_quotas_of_the_chosen_types() -> None:
    client: Any = boto3.client(
        "service-quotas", region_name="eu-central-1", aws_access_key_id="x",
        aws_secret_access_key="x",
    )  # fmt: skip
    stub = Stubber(client)
    config = JobConfig.model_validate(
        {
            "name": "mine",
            "training": {"instances": {"type": "ml.g5.xlarge", "count": 4}, "spot": True},
            "endpoint": {"instances": {"type": "ml.g5.2xlarge"}},
        }
    )
    applied = {"QuotaName": "ml.g5.xlarge for spot training job usage", "Value": 2.0}
    default = {"QuotaName": "ml.g5.2xlarge for endpoint usage", "Value": 1.0}
    asked = {"ServiceCode": "sagemaker"}
    stub.add_response("list_service_quotas", {"Quotas": [applied]}, asked)
    both = [{**applied, "Value": 0.0}, default]
    stub.add_response("list_aws_default_service_quotas", {"Quotas": both}, asked)
    with stub:
        short, enough = doctor_aws._quota(config, lambda *_: client, "problem")
    stub.assert_no_pending_responses()
    assert (short.state, enough.state) == ("problem", "ok")
    assert "2, needed 4" in short.detail
    assert "ask for 4" in short.fix
