"""Logs from CloudWatch: by pieces, from several hosts, through missing streams and throttling."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import ANY, Stubber

from sm_launch.aws.clients import make_client
from sm_launch.errors import LaunchError
from sm_launch.jobs import training
from sm_launch.sessions.aws import TRAINING_LOGS, AwsSession

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

TRAINING_JOB: dict[str, Any] = {
    "TrainingJobName": "mine-1",
    "AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::123456789012:role/TrainingRole",
    "OutputDataConfig": {"S3OutputPath": "s3://my-bucket/sm-launch/mine/jobs"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


def write(logs: Any, group: str, stream: str, *messages: str) -> None:
    now = int(time.time() * 1000)
    events = [{"timestamp": now + i, "message": text} for i, text in enumerate(messages)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def test_lines_come_once_and_in_order(aws: str) -> None:
    session, logs = AwsSession(), make_client("logs")
    session.create_training_job(**TRAINING_JOB)
    assert session.training_log_lines("mine-1") == ([], {})  # no group yet
    # Like its AWS model, moto makes the group only when somebody asks for it.
    existing = {g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]}
    if TRAINING_LOGS not in existing:
        logs.create_log_group(logGroupName=TRAINING_LOGS)
    logs.create_log_stream(logGroupName=TRAINING_LOGS, logStreamName="mine-1/algo-1-170")
    write(logs, TRAINING_LOGS, "mine-1/algo-1-170", "one", "two\n")
    lines, cursor = session.training_log_lines("mine-1")
    assert lines == ["one", "two"]
    assert session.training_log_lines("mine-1", cursor)[0] == []
    write(logs, TRAINING_LOGS, "mine-1/algo-1-170", "three")
    lines, cursor = session.training_log_lines("mine-1", cursor)
    assert lines == ["three"]
    logs.create_log_stream(logGroupName=TRAINING_LOGS, logStreamName="mine-1/algo-2-170")
    write(logs, TRAINING_LOGS, "mine-1/algo-2-170", "from the other host")
    lines, cursor = session.training_log_lines("mine-1", cursor)
    assert lines == ["[algo-2] from the other host"]


def test_an_unknown_job_is_an_error(aws: str) -> None:
    with pytest.raises(LaunchError, match="no such training job"):
        AwsSession().training_log_lines("nobody")
    with pytest.raises(LaunchError, match="no such endpoint"):
        AwsSession().endpoint_log_lines("nobody")


def stubbed(service: str) -> tuple[Any, Stubber]:
    import boto3

    client: Any = boto3.client(
        service,
        region_name="eu-central-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    stub = Stubber(client)
    stub.activate()
    return client, stub


def test_throttling_loses_no_line() -> None:
    logs, stub = stubbed("logs")
    session = AwsSession(clients=lambda service, region: logs)
    streams = {"logStreams": [{"logStreamName": "mine-1/algo-1-1"}]}
    asked = {"logGroupName": TRAINING_LOGS, "logStreamName": ANY, "startFromHead": True}
    event = {"timestamp": 1, "message": "kept"}
    stub.add_response("describe_log_streams", streams)
    stub.add_response("get_log_events", {"events": [event], "nextForwardToken": "f/1"}, asked)
    stub.add_client_error("get_log_events", "ThrottlingException", "Rate exceeded")
    lines, cursor = session.training_log_lines("mine-1", {})
    assert lines == ["kept"]
    stub.add_response("describe_log_streams", streams)
    more = {"events": [{"timestamp": 2, "message": "more"}], "nextForwardToken": "f/2"}
    stub.add_response("get_log_events", more, {**asked, "nextToken": "f/1"})
    end: dict[str, Any] = {"events": [], "nextForwardToken": "f/2"}
    stub.add_response("get_log_events", end, {**asked, "nextToken": "f/2"})
    assert session.training_log_lines("mine-1", cursor)[0] == ["more"]
    stub.assert_no_pending_responses()


def test_a_missing_permission_is_said_once() -> None:
    logs, stub = stubbed("logs")
    session = AwsSession(clients=lambda service, region: logs)
    for _ in range(2):
        stub.add_client_error("describe_log_streams", "AccessDeniedException", "not authorized")
    lines, cursor = session.training_log_lines("mine-1", {})
    assert lines == ["(the log cannot be read: not authorized)"]
    assert session.training_log_lines("mine-1", cursor)[0] == []


class Flaky:
    """A client whose describe fails some times before it answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    def describe_training_job(self, **request: Any) -> dict[str, Any]:
        if self._errors:
            raise self._errors.pop(0)
        return {"TrainingJobStatus": "Completed"}

    create_training_job = describe_training_job


def client_error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "DescribeTrainingJob",
    )


def test_looking_is_patient_and_creating_is_not() -> None:
    passing = [
        client_error("ThrottlingException"),
        client_error("InternalFailure", 503),
        EndpointConnectionError(endpoint_url="https://x"),
    ]
    pauses: list[float] = []
    flaky = Flaky(*passing)
    session = AwsSession(clients=lambda service, region: flaky, sleep=pauses.append)
    assert session.describe_training_job(TrainingJobName="x")["TrainingJobStatus"] == "Completed"
    assert pauses == [1.0, 2.0, 4.0]
    flaky = Flaky(client_error("ExpiredTokenException"))
    with pytest.raises(ClientError, match="ExpiredToken"):
        AwsSession(clients=lambda *_: flaky).describe_training_job(TrainingJobName="x")
    flaky = Flaky(client_error("ThrottlingException"))
    with pytest.raises(ClientError, match="Throttling"):
        AwsSession(clients=lambda *_: flaky).create_training_job(TrainingJobName="x")


def test_a_failed_training_is_explained_by_lines_that_come_late() -> None:
    """DescribeTrainingJob says Failed before CloudWatch has the traceback."""
    sagemaker, look = stubbed("sagemaker")
    logs, log = stubbed("logs")
    session = AwsSession(clients=lambda service, _: logs if service == "logs" else sagemaker)
    session.seconds_between_looks = session.log_lag_seconds = 0.01
    started = {
        "TrainingJobName": "mine-1",
        "TrainingJobArn": "arn:aws:sagemaker:eu-central-1:123456789012:training-job/mine-1",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m"},
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": TRAINING_JOB["ResourceConfig"],
        "StoppingCondition": TRAINING_JOB["StoppingCondition"],
        "CreationTime": 1,
    }
    for status, secondary in (("InProgress", "Training"), ("Failed", "Failed")):
        answer = {**started, "TrainingJobStatus": status, "SecondaryStatus": secondary}
        if status == "Failed":
            answer["FailureReason"] = "AlgorithmError: exit code 1"
        look.add_response("describe_training_job", answer)
    streams = {"logStreams": [{"logStreamName": "mine-1/algo-1-1"}]}
    late = {"timestamp": 2, "message": "torch.OutOfMemoryError: CUDA out of memory."}
    for number, event in enumerate(([{"timestamp": 1, "message": "step 1"}], [], [late])):
        log.add_response("describe_log_streams", streams)
        end = {"events": [], "nextForwardToken": f"f/{number}"}
        if event:
            log.add_response("get_log_events", {**end, "events": event})
        elif number:
            end = {"events": [], "nextForwardToken": "f/0"}
        log.add_response("get_log_events", end)
    seen: list[str] = []
    with pytest.raises(LaunchError) as caught:
        training.wait(session, "mine-1", lambda look: seen.append(look.status))
    assert seen == ["InProgress", "Failed"]
    for phrase in ("AlgorithmError: exit code 1", "CUDA out of memory", "likely cause: the GPU",
                  "halve per_device_train_batch_size"):  # fmt: skip
        assert phrase in str(caught.value)
