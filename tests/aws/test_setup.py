"""The account's set-up: least privilege by a linter, valid CloudFormation, idempotent on moto."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sm_launch import cli
from sm_launch.account import access, stacks
from sm_launch.account.policies import Grants
from sm_launch.aws.clients import make_client
from sm_launch.errors import LaunchError

sys.path.insert(0, str(Path(__file__).parent))

import simulator
from fault_proxy import fault_proxy

ROOT = Path(__file__).resolve().parents[2]
# Actions that IAM's service authorization reference lists without a resource type.
WITHOUT_RESOURCE = {
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",
    *(
        f"ec2:Describe{kind}"
        for kind in ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
    ),
}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def statements(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in template["Resources"].values():
        for policy in resource["Properties"].get("Policies", []):
            yield from policy["PolicyDocument"]["Statement"]


def problems(template: dict[str, Any]) -> list[str]:
    """What is too wide in the roles' policies."""
    messages = []
    for statement in statements(template):
        actions = statement["Action"]
        messages += [f"wildcard in {action}" for action in actions if "*" in action]
        resource = statement["Resource"]
        if resource == "*" and not set(actions) <= WITHOUT_RESOURCE:
            messages.append(f"{actions} on every resource")
        for each in resource if isinstance(resource, list) else [resource]:
            arn = each if isinstance(each, str) else each.get("Fn::Sub", "")
            if any(a.endswith("Object") for a in actions) and "/sm-launch/" not in arn:
                messages.append(f"{actions} outside the prefix: {arn}")
    return messages


ALL = Grants(
    kms_key=KEY,
    vpc="vpc-0123456789abcdef0",
    read=("s3://data/raw", "s3://models"),
    topics=("arn:aws:sns:eu-central-1:123456789012:done",),
    mlflow=("arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/runs",),
)


def test_roles_have_least_privilege() -> None:
    template = access.template("my-bucket")
    assert problems(template) == []
    more = access.template("my-bucket", Grants(kms_key=KEY, vpc=ALL.vpc))
    assert len(list(statements(more))) == len(list(statements(template))) + 2 * 5
    assert problems(more) == []
    next(statements(template))["Action"] = ["s3:*"]
    assert problems(template) == ["wildcard in s3:*"]  # the linter itself can fail


@pytest.mark.slow
@pytest.mark.parametrize("grants", [Grants(), ALL], ids=["plain", "all"])
def test_policies_are_of_iams_grammar(grants: Grants) -> None:
    parliament = pytest.importorskip("parliament", reason="pip install parliament")
    template = access.template("my-bucket", grants)
    for name in simulator.POLICIES:
        document = {"Version": "2012-10-17", "Statement": simulator.policy(template, name)}
        findings = parliament.analyze_policy_string(json.dumps(document)).findings
        assert [(each.issue, each.detail) for each in findings] == []
    wrong = {"Effect": "Allow", "Action": ["s3:GetObjekt"], "Resource": "arn:aws:s3:::b/*"}
    document = {"Version": "2012-10-17", "Statement": [wrong]}
    assert parliament.analyze_policy_string(json.dumps(document)).findings


def test_a_policy_that_iam_would_not_take_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    places = tuple(f"s3://a-bucket-of-another-team-{number}/folder" for number in range(30))
    bucket = "sm-launch-123456789012-ap-northeast-1"
    template = access.template(bucket, Grants(kms_key=KEY, read=places[:12]))
    for name in access.LAUNCHERS:
        document = template["Resources"][name]["Properties"]["PolicyDocument"]
        text = json.dumps(simulator.resolved(document), separators=(",", ":"))
        # CloudFormation puts the stack's name before a role's, and something behind it.
        roles = len("sm-launch--1A2B3C4D5E6F7") * text.count(":role/")
        assert len(text) + roles <= 6144  # IAM user guide, "IAM and AWS STS quotas"
    assert cli.run(["setup", "--print", *(f"--read={place}" for place in places)]) == 2
    told = capsys.readouterr().err
    assert "--read" in told and "6144" in told


BUCKET = "arn:aws:s3:::my-bucket/sm-launch/mine"
ENI = "arn:aws:ec2:eu-central-1:123456789012:network-interface/eni-1"
VPC = {"ec2:Vpc": "arn:aws:ec2:eu-central-1:123456789012:vpc/"}


@pytest.mark.parametrize(
    ("role", "need", "is_allowed"),
    [
        ("TrainingRole", ("s3:DeleteObject", f"{BUCKET}/jobs/j/output/model.tar.gz", {}), False),
        ("TrainingRole", ("s3:PutObject", f"{BUCKET}/input/train/x/train.jsonl", {}), False),
        ("TrainingRole", ("s3:PutObject", f"{BUCKET}/checkpoints/j/1/model", {}), True),
        ("TrainingRole", ("s3:GetObject", "arn:aws:s3:::data/raw/a.csv", {}), True),
        ("TrainingRole", ("s3:GetObject", "arn:aws:s3:::data/rawer/a.csv", {}), False),
        ("TrainingRole", ("s3:PutObject", "arn:aws:s3:::data/raw/a.csv", {}), False),
        ("TrainingRole", ("s3:ListBucket", "arn:aws:s3:::data", {"s3:prefix": "raw/"}), True),
        ("TrainingRole", ("s3:ListBucket", "arn:aws:s3:::data", {"s3:prefix": "b/"}), False),
        ("HostingRole", ("s3:GetObject", "arn:aws:s3:::models/llama/config.json", {}), True),
        ("HostingRole", ("s3:GetObject", f"{BUCKET}/input/train/x/train.jsonl", {}), False),
        ("HostingRole", ("s3:GetObject", f"{BUCKET}/checkpoints/j/1/model", {}), False),
        ("HostingRole", ("s3:GetObject", f"{BUCKET}/jobs/j/output/model.tar.gz", {}), True),
        ("HostingRole", ("sns:Publish", ALL.topics[0], {}), True),
        ("HostingRole", ("sns:Publish", f"{ALL.topics[0]}-other", {}), False),
        ("TrainingRole", ("ec2:DeleteNetworkInterface", ENI,
                          {"ec2:Vpc": f"{VPC['ec2:Vpc']}{ALL.vpc}"}), True),
        ("TrainingRole", ("ec2:DeleteNetworkInterface", ENI,
                          {"ec2:Vpc": f"{VPC['ec2:Vpc']}vpc-other"}), False),
        ("TrainingRole", ("sagemaker-mlflow:LogBatch", ALL.mlflow[0], {}), True),
        ("TrainingRole", ("sagemaker-mlflow:DeleteRun", ALL.mlflow[0], {}), False),
        ("TrainingRole", ("sagemaker-mlflow:LogBatch", f"{ALL.mlflow[0]}-other", {}), False),
        ("TrainingRole", ("sagemaker-mlflow:CreateModelVersion", ALL.mlflow[0], {}), False),
        ("LauncherPolicy", ("sagemaker-mlflow:CreateModelVersion", ALL.mlflow[0], {}), True),
        ("LauncherPolicy", ("sagemaker-mlflow:CreateModelVersion", f"{ALL.mlflow[0]}-other", {}),
         False),
        ("LauncherPolicy", ("sagemaker-mlflow:DeleteRegisteredModel", ALL.mlflow[0], {}), False),
        ("PipelineRole", ("iam:PassRole", "arn:aws:iam::123456789012:role/HostingRole",
                          {"iam:PassedToService": "sagemaker.amazonaws.com"}), False),
        ("PipelineRole", ("sagemaker:CreateEndpoint",
                          "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/x", {}), False),
        ("LauncherPolicy", ("iam:PassRole", "arn:aws:iam::123456789012:role/Admin",
                            {"iam:PassedToService": "sagemaker.amazonaws.com"}), False),
        ("LauncherPolicy", ("iam:PassRole", "arn:aws:iam::123456789012:role/TrainingRole",
                            {"iam:PassedToService": "ec2.amazonaws.com"}), False),
    ],
)  # fmt: skip
def test_what_the_policies_allow(role: str, need: simulator.Need, is_allowed: bool) -> None:
    template = access.template("my-bucket", ALL)
    assert simulator.allowed(simulator.policy(template, role), need) is is_allowed


def test_who_launches_may_make_every_call_that_the_page_names() -> None:
    page = (ROOT / "docs" / "howto" / "permissions.md").read_text()
    rows = [row for row in page.splitlines() if row.startswith("|") and "`setup`, once" not in row]
    told = set(re.findall(r"`([a-z0-9-]+:[A-Za-z]+)`", "\n".join(rows)))
    template = access.template("my-bucket", ALL)
    has = {
        action
        for statement in simulator.policy(template, "LauncherPolicy")
        for action in statement["Action"]
    }
    assert told - has == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grants", "outside"),
    [(Grants(), frozenset()), (ALL, frozenset({"bucket", "sm-train"}))],
    ids=["plain", "all"],
)
def test_cloudformation_accepts_the_template(grants: Grants, outside: frozenset[str]) -> None:
    import cfnlint.api

    text = json.dumps(access.template("my-bucket", grants, outside))
    matches = cfnlint.api.lint_all(text)
    assert [match.message for match in matches if match.rule.id[0] in "EW"] == []


def set_up(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[dict[str, str], str]:
    assert cli.run(["setup", "--yes", "--json", *more]) == 0
    told = capsys.readouterr()
    return json.loads(told.out), told.err


@pytest.mark.slow
def test_setting_up_twice_changes_nothing(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stacks, "PROPAGATION_SECONDS", 0)
    make_client("ecr").create_repository(repositoryName="sm-train")  # as `make push` does
    first, told = set_up(capsys, "--read", "s3://data/raw")
    assert "the repository sm-train is there already" in told
    again, told = set_up(capsys)
    assert again == first
    assert "stays granted: s3://data/raw" in told
    bucket = first["Bucket"]
    assert bucket == "sm-launch-123456789012-eu-central-1"
    assert make_client("s3").get_bucket_encryption(Bucket=bucket)
    repositories = make_client("ecr").describe_repositories()["repositories"]
    assert {repository["repositoryName"] for repository in repositories} == set(access.REPOSITORIES)
    roles = make_client("iam").list_roles()["Roles"]
    assert {first["TrainingRole"], first["HostingRole"]} <= {r["Arn"] for r in roles}
    body = make_client("cloudformation").get_template(StackName=access.STACK)["TemplateBody"]
    assert "data/raw" in json.dumps(body)
    set_up(capsys, "--fresh")
    body = make_client("cloudformation").get_template(StackName=access.STACK)["TemplateBody"]
    assert "data/raw" not in json.dumps(body)


class Stacks:
    """CloudFormation, as it answers for a stack in any state; moto's are whole at once."""

    class exceptions:
        ClientError = ClientError

    def __init__(self, status: str | None, after: dict[str, str]) -> None:
        self.status, self.after = status, after
        self.calls: list[str] = []

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if self.status is None:
            message = {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}
            raise ClientError({"Error": message}, "DescribeStacks")
        self.status, now = self.after.get(self.status, self.status), self.status
        outputs = [{"OutputKey": "Bucket", "OutputValue": "b"}]
        return {"Stacks": [{"StackStatus": now, "StackId": "arn:stack", "Outputs": outputs}]}

    def move(self, call: str, status: str | None) -> None:
        self.calls.append(call)
        self.status = status

    def create_stack(self, **_: Any) -> None:
        assert self.status is None, "AlreadyExistsException"
        self.move("create", "CREATE_IN_PROGRESS")

    def update_stack(self, **_: Any) -> None:
        assert self.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE",
                               "UPDATE_FAILED"}, self.status  # fmt: skip
        self.move("update", "UPDATE_IN_PROGRESS")

    def delete_stack(self, **_: Any) -> None:
        self.move("delete", None)

    def continue_update_rollback(self, **_: Any) -> None:
        assert self.status == "UPDATE_ROLLBACK_FAILED"
        self.move("continue", "UPDATE_ROLLBACK_IN_PROGRESS")

    def get_paginator(self, _: str) -> Any:
        failed = {"LogicalResourceId": "Bucket", "ResourceStatus": "CREATE_FAILED",
                  "ResourceStatusReason": "exists"}  # fmt: skip
        return SimpleNamespace(paginate=lambda **_: [{"StackEvents": [failed]}])


ENDS = {"CREATE_IN_PROGRESS": "CREATE_COMPLETE", "UPDATE_IN_PROGRESS": "UPDATE_COMPLETE",
        "ROLLBACK_IN_PROGRESS": "ROLLBACK_COMPLETE",
        "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE"}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        (None, ["create"]),
        ("CREATE_COMPLETE", ["update"]),
        ("UPDATE_ROLLBACK_COMPLETE", ["update"]),
        ("UPDATE_FAILED", ["update"]),
        ("CREATE_IN_PROGRESS", ["update"]),
        ("ROLLBACK_COMPLETE", ["delete", "create"]),
        ("ROLLBACK_FAILED", ["delete", "create"]),
        ("CREATE_FAILED", ["delete", "create"]),
        ("DELETE_FAILED", ["delete", "create"]),
        ("REVIEW_IN_PROGRESS", ["delete", "create"]),
        ("ROLLBACK_IN_PROGRESS", ["delete", "create"]),
        ("UPDATE_ROLLBACK_FAILED", ["continue", "update"]),
    ],
)
def test_a_half_made_stack_is_mended(status: str | None, calls: list[str]) -> None:
    client, told = Stacks(status, ENDS), []
    stack = stacks.StackClient(client, "sm-launch", told.append, lambda seconds: None)
    assert stack.apply({}) == {"Bucket": "b"}
    assert client.calls == calls
    quiet = status in {None, "CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED"}
    assert bool(told) is not quiet


def test_a_stack_that_fails_says_why() -> None:
    client = Stacks(None, {"CREATE_IN_PROGRESS": "ROLLBACK_COMPLETE"})
    stack = stacks.StackClient(client, "sm-launch", print, lambda seconds: None)
    with pytest.raises(LaunchError, match="ROLLBACK_COMPLETE: Bucket: exists"):
        stack.apply({})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        ("AlreadyExistsException", "Stack [sm-launch] already exists", "run the same command"),
        ("LimitExceeded", "Cannot exceed quota for RolesPerAccount: 1000", "Service Quotas"),
        ("ValidationError", "Stack:arn is in UPDATE_IN_PROGRESS state and can not be updated.",
         "wait a few minutes"),
    ],
)  # fmt: skip
def test_what_cloudformation_refuses_has_a_fix(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: str,
    message: str, fix: str,
) -> None:  # fmt: skip
    with fault_proxy(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.inject("CreateStack", code, message=message)
        assert cli.run(["setup", "--yes"]) == 1
    assert fix in capsys.readouterr().err


def test_nobody_else_reads_the_bucket() -> None:
    bucket = access.template("my-bucket")["Resources"]["Bucket"]
    blocked = bucket["Properties"]["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4
    assert all(value is True for value in blocked.values())
    assert bucket["UpdateReplacePolicy"] == "Retain"


def test_printing_needs_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["setup", "--print"]) == 0
    assert "AWS::IAM::Role" in capsys.readouterr().out


def test_the_policy_of_those_who_launch_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["setup", "--print-policy"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["Statement"][0]["Action"] == ["iam:PassRole"]


@pytest.mark.parametrize(
    "wrong", [["--read", "data"], ["--read", "s3://"], ["--topic", "done"], ["--vpc", "subnet-1"],
              ["--kms-key", "alias/mine"], ["--mlflow", "http://here"]],
)  # fmt: skip
def test_what_would_allow_nothing_is_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["setup", "--print", *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err
