"""The account's set-up: least privilege by a linter, valid CloudFormation, idempotent on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sm_launch import cli
from sm_launch.account import access
from sm_launch.aws.clients import make_client

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
            arn = each if isinstance(each, str) else each["Fn::Sub"]
            if any(a.endswith("Object") for a in actions) and "/sm-launch/" not in arn:
                messages.append(f"{actions} outside the prefix: {arn}")
    return messages


def test_roles_have_least_privilege() -> None:
    template = access.template("my-bucket", "sm-launch")
    assert len(list(statements(template))) == 16
    assert problems(template) == []
    more = access.template("my-bucket", "sm-launch", kms_key=KEY, vpc=True)
    assert len(list(statements(more))) == 16 + 2 * 4
    assert problems(more) == []
    wide = access.template("my-bucket", "sm-launch")
    next(statements(wide))["Action"] = ["s3:*"]
    assert problems(wide) == ["wildcard in s3:*"]  # the linter itself can fail


@pytest.mark.slow
def test_cloudformation_accepts_the_template(tmp_path: Path) -> None:
    import cfnlint.api

    for more in ({}, {"kms_key": KEY, "vpc": True}):
        text = json.dumps(access.template("my-bucket", "sm-launch", **more))
        matches = cfnlint.api.lint_all(text)
        assert [match.message for match in matches if match.rule.id[0] in "EW"] == []


@pytest.mark.slow
def test_setting_up_twice_changes_nothing(
    aws: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(access, "PROPAGATION_SECONDS", 0)
    outputs = []
    for _ in range(2):
        assert cli.run(["setup", "--yes", "--json"]) == 0
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1]
    bucket = outputs[0]["Bucket"]
    assert bucket == "sm-launch-123456789012-eu-central-1"
    assert make_client("s3").get_bucket_encryption(Bucket=bucket)
    repositories = make_client("ecr").describe_repositories()["repositories"]
    assert {repository["repositoryName"] for repository in repositories} == set(access.REPOSITORIES)
    roles = make_client("iam").list_roles()["Roles"]
    assert {outputs[0]["TrainingRole"], outputs[0]["HostingRole"]} <= {r["Arn"] for r in roles}


def test_nobody_else_reads_the_bucket() -> None:
    bucket = access.template("my-bucket", "sm-launch")["Resources"]["Bucket"]
    blocked = bucket["Properties"]["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4
    assert all(value is True for value in blocked.values())
    assert bucket["DeletionPolicy"] == "Retain"


def test_printing_needs_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["setup", "--print"]) == 0
    assert "AWS::IAM::Role" in capsys.readouterr().out
