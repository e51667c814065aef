"""What goes wrong on AWS, injected between botocore and moto: the job survives, or the message
names the fix and nothing is left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from moto.sagemaker.models import FakeEndpointConfig

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.sessions.aws import AwsSession

sys.path.insert(0, str(Path(__file__).parent))

from fault_proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

DEPLOY = ["deploy", "--model-data", "s3://my-bucket/sm-launch/mine/jobs/j/output/model.tar.gz"]


def left() -> dict[str, list[str]]:
    client = make_client("sagemaker")
    return {
        "endpoints": [each["EndpointName"] for each in client.list_endpoints()["Endpoints"]],
        "configs": client.list_endpoint_configs()["EndpointConfigs"],
        "models": client.list_models()["Models"],
    }


NOTHING: dict[str, list[str]] = {"endpoints": [], "configs": [], "models": []}


def test_following_survives_throttling_errors_and_lost_connections(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [
        proxy.inject("DescribeTrainingJob", "ThrottlingException", times=5),
        proxy.inject("DescribeTrainingJob", "InternalFailure", status=500, times=3),
        proxy.inject("DescribeTrainingJob", times=3),
        proxy.inject("DescribeLogStreams", "ThrottlingException", times=2),
    ]
    assert cli.run(["train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["TrainingJobStatus"] == "Completed"
    assert [fault.hits for fault in faults] == [5, 3, 3, 2]
    assert proxy.count("CreateTrainingJob") == 1


def test_an_upload_that_broke_off_goes_on(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    fault = proxy.inject("PUT /my-bucket/", after=2)
    assert cli.run(["train", "--detach"]) == 1
    err = capsys.readouterr().err
    assert "run the same command again" in err
    assert proxy.count("CreateTrainingJob") == 0
    done = {
        each["Key"] for each in make_client("s3").list_objects_v2(Bucket="my-bucket")["Contents"]
    }
    assert len(done) == 2
    fault.times = fault.hits
    proxy.seen.clear()
    assert cli.run(["train", "--detach"]) == 0
    assert proxy.count("PUT /my-bucket/") == 2  # only what was missing


@pytest.mark.parametrize(
    ("operation", "code", "message", "expected"),
    [
        ("CreateTrainingJob", "ExpiredTokenException", "The security token is expired",
         "aws sso login"),
        ("CreateTrainingJob", "AccessDeniedException",
         "User: arn:aws:iam::1:user/me is not authorized to perform: iam:PassRole on resource: x",
         "iam:PassRole"),
        ("CreateTrainingJob", "ResourceLimitExceeded", "The account-level service limit is 0",
         "Service Quotas"),
        ("HEAD /my-bucket", "403", "Forbidden", "s3:ListBucket"),
        ("PUT /my-bucket/", "AccessDenied", "Access Denied", "s3:PutObject"),
        ("PUT /my-bucket/", "ExpiredToken", "The provided token has expired.", "aws sso login"),
    ],
)  # fmt: skip
def test_refusals_name_the_fix(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], operation: str, code: str, message: str,
    expected: str,
) -> None:  # fmt: skip
    proxy.inject(operation, code, message=message, status=403)
    assert cli.run(["train", "--detach"]) in {1, 2}
    err = capsys.readouterr().err
    assert expected in err
    assert "fix:" in err
    assert "Traceback" not in err
    assert make_client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_a_half_made_deployment_is_taken_back(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    for operation, code in (
        ("CreateModel", "AccessDeniedException"),
        ("CreateEndpointConfig", "ThrottlingException"),
        ("CreateEndpoint", "ResourceLimitExceeded"),
    ):
        proxy.inject(operation, code, message=f"no {operation} for you")
        assert cli.run(DEPLOY) == 1
        err = capsys.readouterr().err
        assert f"no {operation} for you" in err
        assert "fix:" in err
        proxy.faults.clear()
        assert left() == NOTHING, operation


def test_what_cannot_be_looked_at_or_scaled_is_not_left_unsaid(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.inject("DescribeEndpoint", "AccessDeniedException", message="not to be looked at")
    assert cli.run(DEPLOY) == 1
    told = capsys.readouterr().err
    assert told.count("not to be looked at") == 2
    assert "`sm-launch delete mine`" in told  # it is there, and costs money
    proxy.faults.clear()
    assert cli.run(["delete", "--yes"]) == 0
    proxy.inject("RegisterScalableTarget", "AccessDeniedException", message="no scaling for you")
    assert cli.run([*DEPLOY, "--set", "endpoint.autoscaling={max: 3}"]) == 1
    told = capsys.readouterr().err
    assert "endpoint mine is in service, and scales not" in told
    assert "deploy again" in told
    assert left()["endpoints"] == ["mine"]


def test_an_update_that_is_refused_leaves_the_old_model(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(DEPLOY) == 0
    before = left()
    proxy.inject("UpdateEndpoint", "ResourceLimitExceeded", message="not now")
    assert cli.run(DEPLOY) == 1
    assert "not now" in capsys.readouterr().err
    assert left() == before


def test_a_matrix_goes_on_where_one_job_is_refused(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.inject("CreateTrainingJob", "ResourceLimitExceeded", message="limit is 1", times=1)
    proxy.inject("DescribeTrainingJob", "ThrottlingException", times=3)
    matrix = "matrix={parameters: {training.hyperparameters.seed: [1, 2]}, max_parallel_jobs: 1}"
    assert cli.run(["train", "--json", "--set", matrix]) == 1
    told = capsys.readouterr()
    refused, done = json.loads(told.out)
    assert (refused["TrainingJobStatus"], done["TrainingJobStatus"]) == ("Refused", "Completed")
    assert "Service Quotas" in refused["Error"]
    assert cli.run(["train", "--set", matrix, "--set", ELSEWHERE]) == 2
    assert "matrix: its jobs have no training.fallback" in capsys.readouterr().err


def test_a_sweep_says_at_once_that_its_trials_have_no_fallback(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = "sweep={parameters: {learning_rate: [1e-5, 1e-4]}, strategy: grid}"
    proxy.inject("CreateHyperParameterTuningJob", "ResourceLimitExceeded", message="limit is 0")
    assert cli.run(["sweep", "--set", swept, "--set", ELSEWHERE]) == 1
    told = capsys.readouterr().err
    assert "training.fallback: for `train` alone" in told
    assert "Service Quotas" in told


def test_a_deletion_that_broke_off_can_be_repeated(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(DEPLOY) == 0
    proxy.inject("DeleteEndpointConfig", "AccessDeniedException", message="not yours")
    assert cli.run(["delete", "--yes"]) == 1
    assert "not yours" in capsys.readouterr().err
    assert left()["endpoints"] == []  # what costs money went first
    proxy.faults.clear()
    assert cli.run(["gc", "--job", "mine", "--yes"]) == 0
    assert left() == NOTHING


def test_no_right_to_alarms_does_not_keep_the_endpoint(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(DEPLOY) == 0
    proxy.inject("DescribeAlarms", "AccessDenied", message="no cloudwatch", status=403)
    assert cli.run(["delete", "--yes"]) == 0
    assert "may be left" in capsys.readouterr().err
    proxy.faults.clear()
    assert left() == NOTHING


def test_doctor_tells_what_is_forbidden(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    def findings() -> dict[str, Any]:
        cli.run(["doctor", "--json"])
        return {check["name"]: check for check in json.loads(capsys.readouterr().out)}

    proxy.inject("GetRole", "AccessDenied", message="not authorized: iam:GetRole", status=403)
    results = findings()
    assert "iam:GetRole" in results["roles"]["detail"]
    assert results["roles"]["fix"]
    proxy.inject("GetCallerIdentity", "ExpiredToken", message="expired", status=403)
    results = findings()
    assert results["credentials"]["state"] == "problem"
    assert "aws sso login" in results["credentials"]["fix"]


@pytest.mark.parametrize(
    ("command", "operation", "message"),
    [
        (["stop", "mine"], "DescribeTrainingJob", "check network and proxy"),
        (["delete", "mine", "--yes"], "DescribeEndpoint", "check network and proxy"),
        (["weights", "mine", "a=1"], "DescribeEndpoint", "check network and proxy"),
        (["logs", "mine"], "DescribeLogStreams", "check network and proxy"),
    ],
)
def test_a_lost_connection_is_no_missing_name(
    proxy: Proxy,
    command: list[str],
    operation: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sm_launch.sessions.aws.PATIENCE_SECONDS", 0.1)
    fault = proxy.inject(operation)
    assert cli.run([*command, "--target", "sagemaker", "--json"]) == 1
    error = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
    assert message in error["fix"]
    assert "Connection was closed" in error["message"]
    assert fault.hits >= 2


def test_what_s3_refuses_without_a_reason_is_explained(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sm_launch.sessions.aws.PATIENCE_SECONDS", 0.1)
    fault = proxy.inject("HEAD /my-bucket", "ExpiredToken")
    assert cli.run(["train", "--detach"]) == 1
    assert "expired credentials" in capsys.readouterr().err
    fault.status, fault.code = 503, "ServiceUnavailable"
    assert cli.run(["train", "--detach"]) == 1
    assert "an error inside AWS" in capsys.readouterr().err
    proxy.inject("ListTrainingJobs", "Broken", message="<!doctype html><html lang=en>", status=500)
    assert cli.run(["deploy"]) == 1
    told = capsys.readouterr().err
    assert "answered by a page of HTML, status 500" in told
    assert "doctype" not in told


ELSEWHERE = "training.fallback=[{type: ml.m5.xlarge}, {type: ml.m5.2xlarge}]"


def test_without_capacity_another_type_is_taken(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = proxy.inject("CreateTrainingJob", "ResourceLimitExceeded", times=2,
                         message="The account-level service limit is 0")  # fmt: skip
    assert cli.run(["train", "--json", "--set", ELSEWHERE]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["ResourceConfig"]["InstanceType"] == "ml.m5.2xlarge"
    assert fault.hits == 2
    assert "trying ml.m5.xlarge" in told.err and "trying ml.m5.2xlarge" in told.err
    fault.times = 10_000
    assert cli.run(["train", "--json", "--set", ELSEWHERE]) == 1
    assert "Service Quotas" in capsys.readouterr().err
    assert proxy.count("CreateTrainingJob") == 3 + 3


def test_a_refusal_that_is_no_capacity_goes_nowhere_else(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.inject("CreateTrainingJob", "AccessDeniedException", message="not authorized")
    assert cli.run(["train", "--set", ELSEWHERE]) == 1
    assert proxy.count("CreateTrainingJob") == 1


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ("{region: us-west-2}", "image and bucket"),
        ("{type: ml.g5.huge}", "training.fallback.0"),
        ("{region: us-west-2, bucket: my-bucket, image: "
         "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1}", "training.fallback.0"),
        ("{region: us-west-2, bucket: my-bucket, image: "
         "123456789012.dkr.ecr.us-west-2.amazonaws.com/sm-train:1}", "is not in us-west-2"),
        ("{}", "neither a type nor a region"),
    ],
)  # fmt: skip
def test_a_fallback_that_could_not_run_is_refused_at_once(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], fallback: str, message: str
) -> None:
    assert cli.run(["train", "--set", f"training.fallback=[{fallback}]"]) == 2
    assert message in capsys.readouterr().err
    assert proxy.count("CreateTrainingJob") == 0
    assert proxy.count("PUT /my-bucket/") == 0


POOLS = "endpoint.fallback=[{type: ml.m5.xlarge}, {type: ml.c5.xlarge}]"
NO_CAPACITY = ("Unable to provision requested ML compute capacity due to "
               "InsufficientInstanceCapacity error.")  # fmt: skip


def described(status: str, config: str, **more: Any) -> dict[str, Any]:
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/mine"
    return {"EndpointName": "mine", "EndpointArn": arn, "EndpointConfigName": config,
            "EndpointStatus": status, "CreationTime": 1, "LastModifiedTime": 1, **more}  # fmt: skip


def test_an_endpoint_names_other_types_and_says_which_it_got(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Moto knows InstanceType alone.
    monkeypatch.setattr(FakeEndpointConfig, "validate_production_variants", lambda *_: None)
    assert cli.run([*DEPLOY, "--dry-run", "--set", POOLS]) == 0
    variant = json.loads(capsys.readouterr().out)["create_endpoint_config"]["ProductionVariants"][0]
    assert "InstanceType" not in variant
    assert [(each["InstanceType"], each["Priority"]) for each in variant["InstancePools"]] == [
        ("ml.m5.large", 1), ("ml.m5.xlarge", 2), ("ml.c5.xlarge", 3)]  # fmt: skip
    pools = [{"InstanceType": "ml.m5.large", "CurrentInstanceCount": 0},
             {"InstanceType": "ml.m5.xlarge", "CurrentInstanceCount": 1}]  # fmt: skip
    running = [{"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "InstancePools": pools}]
    # SageMaker's own words for what it got.
    real = make_client("sagemaker").describe_endpoint
    monkeypatch.setattr(
        AwsSession, "describe_endpoint",
        lambda self, **asked: {**real(**asked), "ProductionVariants": running}, raising=False,
    )  # fmt: skip
    assert cli.run([*DEPLOY, "--set", POOLS]) == 0
    told = capsys.readouterr().err
    assert "runs on 1 x ml.m5.xlarge" in told
    assert (
        "1 x ml.m5.xlarge = $0.23 an hour until deleted, the dearest of endpoint.fallback" in told
    )
    assert cli.run(["status", "--json"]) == 0
    (endpoint,) = json.loads(capsys.readouterr().out)
    assert endpoint["dollars_an_hour"] == pytest.approx(0.23)


def test_an_endpoint_without_capacity_is_gone_again_and_says_what_helps(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = described("Failed", "new", FailureReason=NO_CAPACITY)
    fault = proxy.inject("DescribeEndpoint", answer=failed, times=1)
    assert cli.run(DEPLOY) == 1
    told = capsys.readouterr().err
    assert fault.hits == 1
    assert "AWS has no such instance free just now" in told
    assert "endpoint.fallback" in told
    assert left() == NOTHING


@pytest.mark.parametrize(
    ("status", "config", "kept", "message"),
    [
        ("InService", "old", False, "answers with its old model"),
        ("UpdateRollbackFailed", "mixed", True, "a mix of both models"),
        ("Updating", "old", True, "`sm-launch gc --unused`"),
    ],
)
def test_an_update_without_capacity_leaves_what_answers(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], status: str, config: str, kept: bool,
    message: str,
) -> None:  # fmt: skip
    assert cli.run(DEPLOY) == 0
    before = left()
    proxy.inject("UpdateEndpoint", answer={})
    own = make_client("sagemaker").describe_endpoint(EndpointName="mine")
    own.pop("ResponseMetadata")
    more = {"FailureReason": NO_CAPACITY}
    if status == "Updating":  # and then nobody may look
        proxy.inject("DescribeEndpoint", answer=described("InService", "old"), times=1)
        proxy.inject("DescribeEndpoint", "AccessDeniedException", times=1)
    proxy.inject("DescribeEndpoint", answer=described(status, config, **more))
    assert cli.run([*DEPLOY, "--adopt"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "sm-launch delete mine" not in told  # it serves
    proxy.faults.clear()
    after = left()
    assert after["endpoints"] == before["endpoints"]
    assert (len(after["models"]), len(after["configs"])) == ((2, 2) if kept else (1, 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("endpoint.fallback=[{type: ml.m5.large}]", "names a type twice"),
        ("endpoint.fallback=[{type: ml.g5.xlarge}]", "some have GPUs and some not"),
        ("endpoint.fallback=[{type: ml.m5.gigantic}]", "endpoint.fallback.0.type"),
        ("endpoint.fallback=[{type: ml.m5.xlarge, region: us-east-1}]", "unknown key"),
        ("endpoint={serverless: {}, fallback: [{type: ml.g6.xlarge}]}", "cannot have: fallback"),
    ],
)
def test_other_types_that_could_not_serve_are_refused(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], changed: str, message: str
) -> None:
    assert cli.run([*DEPLOY, "--set", changed]) == 2
    assert message in capsys.readouterr().err
    beside = "sagemaker.endpoint_config.ProductionVariants=[{InstanceType: ml.m5.large}]"
    assert cli.run([*DEPLOY, "--set", POOLS, "--set", beside]) == 2
    assert "cannot be beside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("operation", "code", "message", "expected"),
    [
        ("CreateTrainingJob", "InvalidSignatureException", "Signature expired", "clock"),
        ("PUT /my-bucket/", "RequestTimeTooSkewed", "too large", "clock"),
        ("PUT /my-bucket/", "KMS.DisabledException", "key/1 is disabled.", "aws.kms_key"),
        ("CreateTrainingJob", "ValidationException",
         "Could not assume role x. Please ensure that the role exists", "sm-launch setup"),
        ("CreateTrainingJob", "ValidationException",
         'No S3 objects found under S3 URL "s3://my-bucket/x" given', "aws s3 ls"),
        ("CreateTrainingJob", "ValidationException",
         "Unsupported manifest media type application/vnd.oci.image.index.v1+json", "make push"),
    ],
)  # fmt: skip
def test_what_aws_says_in_words_alone_names_a_fix_too(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], operation: str, code: str, message: str,
    expected: str,
) -> None:  # fmt: skip
    proxy.inject(operation, code, message=message)
    assert cli.run(["train", "--detach"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert expected in told.partition("fix:")[2]


def test_who_is_signed_out_meanwhile_learns_that_the_job_goes_on(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.inject("DescribeTrainingJob", "ExpiredTokenException", message="expired")
    assert cli.run(["train"]) == 1
    told = capsys.readouterr().err
    assert "goes on without being looked at" in told
    assert "sm-launch train --attach mine-" in told and "sm-launch stop mine-" in told
    assert "aws sso login" in told


@pytest.mark.parametrize(
    ("status", "fix"), [("Failed", "`sm-launch delete mine`"), ("Updating", "InService")]
)
def test_an_endpoint_that_cannot_be_updated_gets_no_model(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], status: str, fix: str
) -> None:
    assert cli.run(DEPLOY) == 0
    before = left()
    listed = {key: value for key, value in described(status, "c").items()
              if key != "EndpointConfigName"}  # fmt: skip
    proxy.inject("ListEndpoints", answer={"Endpoints": [listed]})
    assert cli.run(DEPLOY) == 1
    told = capsys.readouterr().err
    assert f"is {status}, and cannot be updated" in told and fix in told
    proxy.faults.clear()
    assert left() == before


def test_who_may_list_nothing_is_told_so(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    proxy.inject("", "AccessDeniedException", message="not authorized", status=403)
    assert cli.run(["list"]) == 1
    assert "not authorized" in capsys.readouterr().err


PROFILES = """
[profile signed-out]
sso_start_url = https://x.awsapps.com/start
sso_region = eu-central-1
sso_account_id = 123456789012
sso_role_name = x
[profile session]
sso_session = s
sso_account_id = 123456789012
sso_role_name = x
[sso-session s]
sso_start_url = https://x.awsapps.com/start
sso_region = eu-central-1
[profile no-source]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = none
[profile process]
credential_process = /bin/false
"""


@pytest.mark.parametrize(
    ("profile", "fix"),
    [("signed-out", "aws sso login"), ("session", "aws sso login"), ("process", "sign in"),
     ("no-source", "~/.aws/config"), ("nobody", "aws configure list-profiles")],
)  # fmt: skip
def test_a_profile_that_gives_no_credentials_names_the_fix(
    proxy: Proxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    profile: str, fix: str,
) -> None:  # fmt: skip
    Path("config").write_text(PROFILES)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(Path("config").resolve()))
    monkeypatch.setenv("AWS_PROFILE", "")  # set back after the command has set it
    assert cli.run(["list", "--profile", profile]) in (1, 2)
    assert fix in capsys.readouterr().err.partition("fix:")[2]
