"""What a failed job's hint says of checkpoints: only what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from sm_launch.errors import LaunchError
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.jobs import training
from sm_launch.jobs.checkpoints import kept
from sm_launch.sessions.aws import AwsSession
from sm_launch.sessions.process.session import ProcessSession


def failed(uri: str | None, **hyperparameters: str) -> dict[str, Any]:
    place = {"CheckpointConfig": {"S3Uri": uri}} if uri else {}
    return {
        "TrainingJobName": "mine",
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: learning_rate: too high",
        "HyperParameters": hyperparameters,
        "AlgorithmSpecification": {"TrainingImage": "1.dkr.ecr.eu-west-1.amazonaws.com/sm-train:1"},
        **place,
    }


def test_on_this_machine(tmp_path: Path) -> None:
    session: Any = ProcessSession(tmp_path / "state")
    place = tmp_path / "checkpoints"
    ours, scripts = failed(place.as_uri()), failed(place.as_uri(), **{PROGRAM: "train.py"})
    assert kept(session, failed(None)) is False
    assert kept(session, ours) is False  # a job that failed before there was a directory
    place.mkdir()
    (place / "mlflow_run.json").write_text("{}")
    assert (kept(session, ours), kept(session, scripts)) == (False, True)
    others = ours | {"AlgorithmSpecification": {"TrainingImage": "my-train:1"}}
    assert kept(session, others) is True
    said = str(training.failure(session, "mine", ours, []).fix)
    assert "it left no checkpoint to go on from" in said and "--resume" not in said
    (place / "checkpoint-20").mkdir()
    assert kept(session, ours) is True
    said = str(training.failure(session, "mine", ours, []).fix)
    assert "`sm-launch train --resume mine` goes on from its last one" in said


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"KeyCount": 1}, "goes on from its last one"),
        ({"KeyCount": 0}, "it left no checkpoint"),
        (None, "from its last one, if it kept any"),
    ],
)
def test_on_sagemaker(answer: dict[str, int] | None, told: str) -> None:
    client = boto3.client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    session: Any = AwsSession("eu-west-1", clients=lambda *_, **__: client)
    with Stubber(client) as stubbed:
        asked = {"Bucket": "bucket", "Prefix": "jobs/c/checkpoint-", "MaxKeys": 1}
        if answer is None:
            stubbed.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)
        else:
            stubbed.add_response("list_objects_v2", answer, asked)
        said = str(training.failure(session, "mine", failed("s3://bucket/jobs/c"), []).fix)
    assert told in said


def test_nothing_is_resumed_from_nothing(tmp_path: Path) -> None:
    class Session:
        def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
            return failed((tmp_path / "empty").as_uri())

    session: Any = Session()
    with pytest.raises(LaunchError, match="kept no checkpoints"):
        training.checkpoints_of(session, "mine")
