"""Places on S3 that the roles of `setup` do not reach are refused before anything is sent."""

from __future__ import annotations

import json

import pytest
import simulator
from fault_proxy import Proxy

from sm_launch import cli
from sm_launch.account import access
from sm_launch.account.policies import Grants
from sm_launch.aws.clients import make_client

pytestmark = pytest.mark.slow

DEPLOY = [
    "deploy",
    "--dry-run",
    "--model-data",
    "s3://my-bucket/sm-launch/mine/jobs/j/model.tar.gz",
]
TRAIN = ["train", "--dry-run"]
TRANSFORM = ["transform", "--dry-run", "s3://my-bucket/sm-launch/mine/input/transform/a.csv",
             *DEPLOY[2:]]  # fmt: skip
PREPARE = ["data", "prepare", "--processing-job", "--dry-run"]
ROLE = "arn:aws:iam::123456789012:role/{}"


PLAIN = Grants()


def roles(grants: Grants = PLAIN, suffix: str = "1A2B3C") -> tuple[str, ...]:
    """The roles as CloudFormation makes them of the template; options that name them."""
    template, named = access.template("my-bucket", grants), []
    for kind in ("Training", "Hosting"):
        name = f"sm-launch-{kind}Role-{suffix}"
        iam = make_client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        document = {"Version": "2012-10-17", "Statement": simulator.policy(template, f"{kind}Role")}
        iam.put_role_policy(
            RoleName=name, PolicyName="sm-launch", PolicyDocument=json.dumps(document)
        )
        named += ["--set", f"aws.{kind.lower()}_role={ROLE.format(name)}"]
    return tuple(named)


FAR = "s3://their-bucket/here"
CASES = [
    (DEPLOY, f"endpoint.data_capture={{location: {FAR}}}",
     "endpoint.data_capture.location", "--write"),
    (DEPLOY, f"endpoint.asynchronous={{output: {FAR}}}",
     "endpoint.asynchronous.output", "--write"),
    (DEPLOY, f"endpoint.variants=[{{name: b, model_data: {FAR}/model.tar.gz}}]",
     "endpoint.variants.0.model_data", "--read"),
    (DEPLOY, "aws.prefix=elsewhere", None, ""),
    (TRAIN, f"training.channels={{train: {FAR}/train/}}", "InputDataConfig", "--read"),
    (TRAIN, f"training.model={FAR}/base/", "InputDataConfig", "--read"),
    (TRAIN, f"training.checkpoints={FAR}", "training.checkpoints", "--write"),
    (TRAIN, "aws.prefix=elsewhere", "aws.bucket", "--write"),
    (TRAIN, f"sagemaker.training.OutputDataConfig.S3OutputPath={FAR}",
     "sagemaker.training.OutputDataConfig.S3OutputPath", "--write"),
    (TRAIN, f"sagemaker.training.ProfilerConfig.S3OutputPath={FAR}",
     "sagemaker.training.ProfilerConfig.S3OutputPath", "--write"),
    (PREPARE, f"data={{input: {FAR}/rows.csv}}", "ProcessingInputs", "--read"),
    ([*TRANSFORM, "--output", FAR], "transform.split=line", "--output", "--write"),
    ([*TRANSFORM[:2], f"{FAR}/in.csv", *TRANSFORM[3:]], "transform.split=line", "INPUT", "--read"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "changed", "field", "grant"), CASES)
def test_what_a_role_of_setup_does_not_reach_is_refused_with_the_grant(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], command: list[str], changed: str,
    field: str | None, grant: str,
) -> None:  # fmt: skip
    options = [*command, "--set", changed]
    assert cli.run([*options, *roles()]) == (2 if field else 0), capsys.readouterr().err
    told = capsys.readouterr().err
    if field is not None:
        assert field in told
        assert f"sm-launch setup {grant} s3://" in told
    assert proxy.count("PUT /my-bucket/") == 0
    # With the grant it is taken; a role of the user's own is nobody's business.
    wide = ("s3://their-bucket/here", "s3://my-bucket/elsewhere")
    granted = Grants(read=wide[:1]) if grant == "--read" else Grants(write=wide)
    assert cli.run([*options, *roles(granted, "9Z9Z")]) == 0, capsys.readouterr().err
    own = ["--set", f"aws.training_role={ROLE.format('mine')}"]
    assert cli.run([*options, *own]) == 0, capsys.readouterr().err


def test_more_than_ours_and_what_nobody_may_look_at_are_not_refused(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAIN, *roles(), "--set", f"training.checkpoints={FAR}"]
    proxy.inject("GetRolePolicy", "AccessDenied", message="no iam:GetRolePolicy", status=403)
    assert cli.run(command) == 0
    assert "cannot be told: no iam:GetRolePolicy" in capsys.readouterr().err
    proxy.faults.clear()
    policy = make_client("iam").create_policy(PolicyName="more", PolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}))["Policy"]["Arn"]  # fmt: skip
    make_client("iam").attach_role_policy(
        RoleName="sm-launch-TrainingRole-1A2B3C", PolicyArn=policy
    )
    assert cli.run(command) == 0
    assert "cannot be told" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--read", "--write"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("data/raw", "is no bucket or folder"),
        ("s3://data/*", "is no bucket or folder"),
        ("s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/mine", "is an access point"),
        ("s3://mine-abcdef-s3alias/raw", "is an access point"),
        ("s3://mine--euc1-az1--x-s3", "s3express:CreateSession"),
    ],
)
def test_a_grant_that_would_quietly_allow_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, place: str, message: str
) -> None:
    assert cli.run(["setup", "--print", option, place]) == 2
    told = capsys.readouterr().err
    assert message in told and option in told


def test_a_grant_to_write_is_for_both_roles_and_for_reading_by_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    template = access.template("my-bucket", Grants(write=("s3://their-bucket/here",)))
    inside = "arn:aws:s3:::their-bucket/here/x"
    for name in ("TrainingRole", "HostingRole"):
        policy = simulator.policy(template, name)
        for action in ("s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject"):
            assert simulator.allowed(policy, (action, inside, {}))
        assert not simulator.allowed(policy, ("s3:DeleteObject", inside, {}))
        assert not simulator.allowed(policy, ("s3:PutObject", "arn:aws:s3:::their-bucket/x", {}))
    launcher = simulator.policy(template, "LauncherPolicy")
    assert simulator.allowed(launcher, ("s3:GetObject", inside, {}))
    assert not simulator.allowed(launcher, ("s3:PutObject", inside, {}))


MODEL = "s3://my-bucket/m/model.tar.gz"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["deploy", "--model-data", "arn:aws:s3:::my-bucket/m/model.tar.gz"], MODEL),
        (["deploy", "--model-data", "https://my-bucket.s3.amazonaws.com/m/model.tar.gz"], MODEL),
        (["deploy", "--model-data", "s3://my-bucket/m/model.tgz"], "tar czf model.tar.gz"),
        (
            ["transform", "s3://my-bucket/a.csv", "--model-data", MODEL, "--output", "here"],
            "--output: is on this machine",
        ),
        (
            [
                "transform",
                "https://s3.eu-central-1.amazonaws.com/my-bucket/a.csv",
                "--model-data",
                MODEL,
            ],
            "s3://my-bucket/a.csv",
        ),
        (["train", "--set", "training.channels={train: 'S3://my-bucket/a/'}"], "s3://my-bucket/a/"),
        (
            ["train", "--set", "training.channels={train: 'arn:aws:s3:::my-bucket/a/'}"],
            "s3://my-bucket/a/",
        ),
    ],
)
def test_a_place_in_another_form_is_refused_with_its_uri(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], command: list[str], told: str
) -> None:
    assert cli.run([*command, "--dry-run"]) == 2
    assert told in capsys.readouterr().err
