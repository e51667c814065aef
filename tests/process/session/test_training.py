"""Training jobs under the real sagemaker-training toolkit, with a stand-in for our module."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from datetime import datetime

import pytest
from botocore.exceptions import ClientError

from sm_launch.sessions.process import ProcessSession

from .conftest import parent_of, processes_below, wait_for, wait_for_training

pytestmark = pytest.mark.slow


def seen_by(session, name):
    return json.loads((base_of(session, name) / "seen.json").read_text())


def base_of(session, name):
    return session._store.home / "training-jobs" / name / "opt" / "ml"


def processes_of(session, name):
    return processes_below(base_of(session, name).parent)


def has_started(session, name):
    return lambda: (base_of(session, name) / "seen.json").exists()


def test_a_job_completes_with_artefacts_metrics_and_transitions(
    session, training_request, tmp_path
):
    request = training_request("job-1", learning_rate="2e-5")
    response = session.create_training_job(**request)
    assert response["TrainingJobArn"].endswith(":training-job/job-1")
    description = wait_for_training(session, "job-1")

    assert description["TrainingJobStatus"] == description["SecondaryStatus"] == "Completed"
    statuses = [entry["Status"] for entry in description["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert isinstance(description["TrainingEndTime"], datetime)
    assert description["HyperParameters"] == {"learning_rate": "2e-5"}
    metrics = {
        metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]
    }
    assert metrics == {"eval:accuracy": 0.875, "eval:loss": 1.5}

    uri = description["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == (tmp_path / "output/job-1/output/model.tar.gz").as_uri()
    with tarfile.open(tmp_path / "output/job-1/output/model.tar.gz") as tar:
        assert tar.getnames() == ["weights.txt"]
    with tarfile.open(tmp_path / "output/job-1/output/output.tar.gz") as tar:
        assert tar.getnames() == ["log.jsonl"]


def test_the_job_sees_what_hosted_sagemaker_shows(session, training_request, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    request = training_request("job-1", quoted='"text"')
    request["Environment"]["MY_SETTING"] = "yes"
    session.create_training_job(**request)
    wait_for_training(session, "job-1")
    seen = seen_by(session, "job-1")

    assert seen["config"]["hyperparameters"] == {"quoted": '"text"'}
    assert seen["config"]["inputdataconfig"]["train"] == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
        "ContentType": "application/jsonlines",
    }
    resources = seen["config"]["resourceconfig"]
    assert resources["hosts"] == ["algo-1"]
    assert resources["current_instance_type"] == "local"
    assert "checkpointconfig" not in seen["config"]
    assert seen["train"] == ["train.jsonl"]
    environment = seen["environment"]
    assert environment["TRAINING_JOB_NAME"] == "job-1"
    assert environment["MY_SETTING"] == "yes"
    assert "AWS_SECRET_ACCESS_KEY" not in environment


def test_a_failure_shows_the_failure_file(session, training_request):
    text = "UserError: column 'label' is missing. " + "x" * 2000
    session.create_training_job(**training_request("job-1", failure_file=text))
    description = wait_for_training(session, "job-1")
    assert description["TrainingJobStatus"] == "Failed"
    assert description["FailureReason"] == text[:1024]
    assert not (session._store.home.parent / "output/job-1/output/model.tar.gz").exists()


def test_a_failure_without_a_file_shows_the_last_words(session, training_request):
    session.create_training_job(**training_request("job-1", exit_code=7))
    reason = wait_for_training(session, "job-1")["FailureReason"]
    assert "exit code: 7" in reason
    assert "the last words" in reason


def test_a_stopped_job_keeps_what_it_saved(session, training_request, tmp_path):
    session.create_training_job(**training_request("job-1", seconds=60))
    wait_for(has_started(session, "job-1"))
    session.stop_training_job(TrainingJobName="job-1")
    description = wait_for_training(session, "job-1")
    assert description["TrainingJobStatus"] == "Stopped"
    assert "caught SIGTERM" in session.training_log_path("job-1").read_text()
    with tarfile.open(tmp_path / "output/job-1/output/model.tar.gz") as tar:
        assert tar.extractfile("weights.txt").read() == b"partial"
    with pytest.raises(ClientError, match="in status Stopped"):
        session.stop_training_job(TrainingJobName="job-1")


def test_a_job_deaf_to_sigterm_is_killed_with_all_its_processes(session, training_request):
    request = training_request("job-1", seconds=60, deaf=1, leave_behind=1)
    session.create_training_job(**request)
    wait_for(lambda: len(processes_of(session, "job-1")) >= 2)
    session.stop_training_job(TrainingJobName="job-1")
    assert wait_for_training(session, "job-1")["TrainingJobStatus"] == "Stopped"
    assert processes_of(session, "job-1") == []


def test_a_job_leaves_no_processes_behind(session, training_request):
    session.create_training_job(**training_request("job-1", leave_behind=1))
    assert wait_for_training(session, "job-1")["TrainingJobStatus"] == "Completed"
    assert processes_of(session, "job-1") == []


def test_max_runtime_stops_the_job(session, training_request):
    request = training_request("job-1", seconds=60)
    request["StoppingCondition"] = {"MaxRuntimeInSeconds": 3}
    session.create_training_job(**request)
    description = wait_for_training(session, "job-1")
    assert description["TrainingJobStatus"] == "Stopped"
    assert description["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_checkpoints_outlive_the_job(session, training_request, tmp_path):
    request = training_request("job-1")
    request["CheckpointConfig"] = {"S3Uri": (tmp_path / "checkpoints").as_uri()}
    for name in ("job-1", "job-2"):
        session.create_training_job(**{**request, "TrainingJobName": name})
        assert wait_for_training(session, name)["TrainingJobStatus"] == "Completed"
    assert "resumed_runs=0" in session.training_log_path("job-1").read_text()
    assert "resumed_runs=1" in session.training_log_path("job-2").read_text()
    config = seen_by(session, "job-2")["config"]["checkpointconfig"]
    assert config["LocalPath"] == str(base_of(session, "job-2") / "checkpoints")


def test_an_uncompressed_model_stays_a_directory(session, training_request, tmp_path):
    request = training_request("job-1")
    request["OutputDataConfig"]["CompressionType"] = "NONE"
    session.create_training_job(**request)
    uri = wait_for_training(session, "job-1")["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == (tmp_path / "output/job-1/output/model").as_uri() + "/"
    assert (tmp_path / "output/job-1/output/model/weights.txt").read_text() == "trained"


def test_a_killed_supervisor_fails_the_job_and_ends_its_processes(session, training_request):
    session.create_training_job(**training_request("job-1", seconds=60, leave_behind=1))
    wait_for(lambda: len(processes_of(session, "job-1")) >= 2)
    os.kill(parent_of(min(processes_of(session, "job-1"))), signal.SIGKILL)
    description = wait_for_training(session, "job-1")
    assert description["TrainingJobStatus"] == "Failed"
    assert "the process that watched over this job died" in description["FailureReason"]
    assert processes_of(session, "job-1") == []


def test_a_job_outlives_the_command_that_started_it(session, training_request, tmp_path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps(training_request("job-1", seconds=2)))
    command = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from sm_launch.sessions.process import ProcessSession\n"
        "ProcessSession(Path(sys.argv[1])).create_training_job(\n"
        "    **json.loads(Path(sys.argv[2]).read_text()))\n"
    )
    home = session._store.home
    subprocess.run([sys.executable, "-c", command, home, request], check=True, timeout=20)
    assert wait_for_training(session, "job-1")["TrainingJobStatus"] == "Completed"


def test_network_isolation_is_not_pretended(session, training_request):
    request = training_request("job-1")
    request["EnableNetworkIsolation"] = True
    session.create_training_job(**request)
    wait_for_training(session, "job-1")
    assert "cannot be cut off from the network" in session.training_log_lines("job-1")[0][0]
    assert seen_by(session, "job-1")["environment"]["HF_HUB_OFFLINE"] == "1"


def test_several_jobs_at_once_are_listed(session, training_request):
    request = training_request("alpha-1")
    for name in ("alpha-1", "beta-1"):
        session.create_training_job(**{**request, "TrainingJobName": name})
    for name in ("alpha-1", "beta-1"):
        wait_for_training(session, name)
    listed = session.list_training_jobs(SortBy="Name", SortOrder="Ascending")
    names = [summary["TrainingJobName"] for summary in listed["TrainingJobSummaries"]]
    assert names == ["alpha-1", "beta-1"]
    listed = session.list_training_jobs(NameContains="BETA", StatusEquals="Completed")
    assert [summary["TrainingJobName"] for summary in listed["TrainingJobSummaries"]] == ["beta-1"]
    assert session.list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"] == []
    with pytest.raises(ClientError) as caught:
        session.create_training_job(**{**request, "TrainingJobName": "beta-1"})
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    first = ProcessSession(session._store.home).list_training_jobs(MaxResults=1)
    second = session.list_training_jobs(MaxResults=1, NextToken=first["NextToken"])
    assert "NextToken" not in second
    assert time.time() > second["TrainingJobSummaries"][0]["CreationTime"].timestamp()
