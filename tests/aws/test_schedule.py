"""Schedules on moto's EventBridge Scheduler: the request that is kept is the job's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from botocore.validate import ParamValidator

import sm_launch
from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.aws.service_model import service_model
from sm_launch.errors import LaunchError
from sm_launch.job import limits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

JOB = """
name: mine
target: sagemaker
training:
  model: org/tiny
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1
  channels: {train: train.jsonl}
  spot: true
  instances: {type: ml.m5.large}
aws:
  bucket: my-bucket
  training_role: arn:aws:iam::123456789012:role/TrainingRole
  scheduler_role: arn:aws:iam::123456789012:role/SchedulerRole
"""


@pytest.fixture
def job(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text('{"text": "good", "label": "pos"}\n')
    Path("job.yaml").write_text(JOB)
    where = {"LocationConstraint": "eu-central-1"}
    make_client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    return tmp_path


def test_a_schedule_is_made_changed_shown_and_deleted(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sm_launch.schedule("cron(0 3 ? * MON *)", timezone="Europe/Berlin")
    assert made["created"] is True
    kept = make_client("scheduler").get_schedule(Name="mine")
    assert kept["ScheduleExpressionTimezone"] == "Europe/Berlin"
    request = json.loads(kept["Target"]["Input"])
    # As EventBridge fills it in: names and places of their own, which SageMaker takes.
    run = json.loads(kept["Target"]["Input"].replace(
        "<aws.scheduler.execution-id>", "d32c5kddcf5bb8c3"))  # fmt: skip
    assert limits.NAME_PATTERN.fullmatch(run["TrainingJobName"])
    assert run["CheckpointConfig"]["S3Uri"].endswith(run["TrainingJobName"])
    shape = service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    assert not ParamValidator().validate(run, shape).has_errors()
    uploaded = make_client("s3").list_objects_v2(Bucket="my-bucket")["Contents"]
    place = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    assert f"s3://my-bucket/{uploaded[0]['Key']}".startswith(place)

    assert sm_launch.schedule("rate(7 days)")["created"] is False
    assert cli.run(["schedule"]) == 0
    assert "rate(7 days) ENABLED" in capsys.readouterr().out
    make_client("scheduler").update_schedule(
        Name="mine", Description="theirs", ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"}, State="ENABLED", Target=kept["Target"],
    )  # fmt: skip
    with pytest.raises(LaunchError, match="somebody else"):
        sm_launch.schedule(off=True)
    assert sm_launch.schedule(off=True, adopt=True) == {"deleted": True}
    assert sm_launch.schedule(off=True) == {"deleted": False}
    assert cli.run(["schedule"]) == 0
    assert "no schedule" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["every day"], "EXPRESSION"),
        (["rate(1 day)", "--set", "aws.scheduler_role=null"], "aws.scheduler_role"),
        (["rate(1 day)", "--set", "training.environment={T: 'secret:mine'}"], "T: a schedule"),
        (["rate(1 day)", "--max-cost", "0.01"], "--max-cost"),
        (["rate(1 day)", "--target", "process"], "--target"),
    ],
)
def test_what_could_not_run_by_itself_is_refused(
    job: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert cli.run(["schedule", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert make_client("scheduler").list_schedules()["Schedules"] == []
    assert make_client("s3").list_objects_v2(Bucket="my-bucket")["KeyCount"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cron(0 3 * * MON)"], "six fields"),
        (["cron(0 3 * * MON *)"], "one of the days is ?"),
        (["rate(7 weeks)"], "is no rate"),
        (["rate(7 days)", "--timezone", "Europe/Berlln"], "Europe/Berlin"),
    ],
)
def test_what_the_scheduler_would_refuse_is_refused_before_data_is_sent(
    job: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert cli.run(["schedule", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert "Contents" not in make_client("s3").list_objects_v2(Bucket="my-bucket")
