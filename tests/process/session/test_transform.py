"""Batch transform jobs through a real server."""

import gzip
import json
import os
import signal

import pytest
from botocore.exceptions import ClientError

from .conftest import ROLE, parent_of, processes_below, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def transform_request(session, model_archive, tmp_path):
    """A function that makes a model and a request for it; `behaviour` is the server's."""
    (tmp_path / "input" / "more").mkdir(parents=True)
    (tmp_path / "input/a.jsonl").write_text("one\ntwo\nthree\n")
    (tmp_path / "input/more/b.jsonl").write_text("four\nfive")

    def request(name="batch", split="Line", assemble="Line", behaviour=None, **changes):
        archive = model_archive(name, **({"lines": True} | (behaviour or {})))
        session.create_model(
            ModelName=name,
            PrimaryContainer={"ModelDataUrl": archive.as_uri()},
            ExecutionRoleArn=ROLE,
        )
        source = {"S3DataType": "S3Prefix", "S3Uri": (tmp_path / "input").as_uri()}
        return {
            "TransformJobName": name,
            "ModelName": name,
            "TransformInput": {
                "DataSource": {"S3DataSource": source},
                "ContentType": "application/jsonlines",
                "SplitType": split,
            },
            "TransformOutput": {
                "S3OutputPath": (tmp_path / "output").as_uri(),
                "Accept": "application/jsonlines",
                "AssembleWith": assemble,
            },
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **changes,
        }

    return request


def finished(session, name="batch"):
    def description():
        return session.describe_transform_job(TransformJobName=name)

    wait_for(lambda: description()["TransformJobStatus"] in {"Completed", "Failed", "Stopped"})
    return description()


def outputs(tmp_path):
    root = tmp_path / "output"
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


def posts(session):
    return session.transform_log_path("batch").read_text().count("served /invocations")


EXPECTED = {"a.jsonl.out": "ONE\nTWO\nTHREE\n", "more/b.jsonl.out": "FOUR\nFIVE\n"}


@pytest.mark.parametrize(
    ("changes", "requests"),
    [
        ({"BatchStrategy": "MultiRecord"}, 2),
        ({"BatchStrategy": "SingleRecord", "MaxConcurrentTransforms": 3}, 5),
        ({}, 5),
    ],
)
def test_lines_are_batched_and_kept_in_order(
    session, transform_request, tmp_path, changes, requests
):
    preferred = {"execution_parameters": {"BatchStrategy": "SingleRecord"}}
    session.create_transform_job(**transform_request(behaviour=preferred, **changes))
    description = finished(session)
    assert description["TransformJobStatus"] == "Completed"
    assert description["TransformEndTime"] >= description["TransformStartTime"]
    assert outputs(tmp_path) == EXPECTED
    assert posts(session) == requests
    assert processes_below(session._store.home) == []


def test_whole_files_and_plain_assembly(session, transform_request, tmp_path):
    (tmp_path / "input/more/b.jsonl").unlink()
    request = transform_request(split="None", assemble="None")
    session.create_transform_job(**request)
    assert finished(session)["TransformJobStatus"] == "Completed"
    assert outputs(tmp_path) == {"a.jsonl.out": "ONE\nTWO\nTHREE\n"}
    assert posts(session) == 1


def test_the_payload_limit_splits_batches_and_refuses_a_giant(session, transform_request, tmp_path):
    line = "x" * 400_000 + "\n"
    (tmp_path / "input/a.jsonl").write_text(line * 5)
    (tmp_path / "input/more/b.jsonl").write_text("y" * 1_200_000)
    session.create_transform_job(**transform_request(MaxPayloadInMB=1))
    description = finished(session)
    assert posts(session) == 3
    assert description["TransformJobStatus"] == "Failed"
    assert "more/b.jsonl: a record has 1200000 bytes" in description["FailureReason"]
    assert outputs(tmp_path) == {"a.jsonl.out": line.upper() * 5}


def test_a_refused_record_fails_its_file_only(session, transform_request, tmp_path):
    (tmp_path / "input/a.jsonl").write_text("good\nbad\n")
    session.create_transform_job(**transform_request(BatchStrategy="SingleRecord"))
    description = finished(session)
    assert description["TransformJobStatus"] == "Failed"
    assert "a.jsonl: the model refused" in description["FailureReason"]
    assert "no such thing" in description["FailureReason"]
    assert outputs(tmp_path) == {"more/b.jsonl.out": "FOUR\nFIVE\n"}


def test_compressed_input(session, transform_request, tmp_path):
    for path in (tmp_path / "input").rglob("*.jsonl"):
        path.unlink()
    (tmp_path / "input/c.jsonl.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    request = transform_request()
    request["TransformInput"]["CompressionType"] = "Gzip"
    session.create_transform_job(**request)
    assert finished(session)["TransformJobStatus"] == "Completed"
    assert outputs(tmp_path) == {"c.jsonl.gz.out": "ONE\nTWO\n"}


def test_the_server_knows_that_it_works_in_a_batch(session, transform_request, tmp_path):
    request = transform_request(Environment={"EXTRA": "1"}, behaviour={"echo": True})
    session.create_transform_job(**request)
    assert finished(session)["TransformJobStatus"] == "Completed"
    seen = json.loads((tmp_path / "output/a.jsonl.out").read_text())
    assert seen["environment"]["SAGEMAKER_BATCH"] == "true"
    assert seen["environment"]["EXTRA"] == "1"
    assert seen["headers"]["content-type"] == "application/jsonlines"


def test_a_stopped_job_says_so(session, transform_request, tmp_path):
    (tmp_path / "input/a.jsonl").write_text("sleep 0.2\n" * 100)
    session.create_transform_job(**transform_request(BatchStrategy="SingleRecord"))
    wait_for(lambda: "served /invocations" in session.transform_log_lines("batch")[0])
    session.stop_transform_job(TransformJobName="batch")
    status = session.describe_transform_job(TransformJobName="batch")["TransformJobStatus"]
    assert status in {"Stopping", "Stopped"}
    assert finished(session)["TransformJobStatus"] == "Stopped"
    assert outputs(tmp_path) == {}
    with pytest.raises(ClientError, match="in status Stopped"):
        session.stop_transform_job(TransformJobName="batch")


def test_a_stop_does_not_wait_for_a_slow_answer(session, transform_request, tmp_path):
    (tmp_path / "input/a.jsonl").write_text("sleep 60\n")
    session.create_transform_job(**transform_request(BatchStrategy="SingleRecord"))
    wait_for(lambda: processes_below(session._store.home))
    session.stop_transform_job(TransformJobName="batch")
    assert finished(session)["TransformJobStatus"] == "Stopped"


def test_a_dead_server_fails_the_job_with_its_words(session, transform_request, tmp_path):
    (tmp_path / "input/a.jsonl").write_text("die\n")
    request = transform_request(BatchStrategy="SingleRecord")
    session.create_transform_job(**request)
    description = finished(session)
    assert description["TransformJobStatus"] == "Failed"
    assert "FATAL: the model fell over" in description["FailureReason"]


def test_a_killed_supervisor_fails_the_job(session, transform_request, tmp_path):
    (tmp_path / "input/a.jsonl").write_text("sleep 60\n")
    session.create_transform_job(**transform_request(BatchStrategy="SingleRecord"))
    wait_for(lambda: processes_below(session._store.home))
    (server,) = processes_below(session._store.home)
    os.kill(parent_of(server), signal.SIGKILL)
    assert "process that watched over this job died" in finished(session)["FailureReason"]
    assert processes_below(session._store.home) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TransformInput.SplitType", "RecordIO", "SplitType None and Line"),
        ("TransformInput.DataSource.S3DataSource.S3Uri", "file:///nowhere", "No S3 objects found"),
        ("TransformResources.InstanceCount", 2, "InstanceCount to 1"),
        ("DataProcessing", {"JoinSource": "Input"}, "does not join"),
        ("MaxConcurrentTransforms", 50, "must not exceed 100"),
        ("ModelName", "other", "Could not find model"),
    ],
)
def test_refusals(session, transform_request, key, value, message):
    request = transform_request()
    *parents, last = key.split(".")
    target = request
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(ClientError, match=message):
        session.create_transform_job(**request)
    assert session.list_transform_jobs()["TransformJobSummaries"] == []


def test_names_are_unique_and_listed(session, transform_request):
    request = transform_request()
    session.create_transform_job(**request)
    with pytest.raises(ClientError) as caught:
        session.create_transform_job(**request)
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    finished(session)
    summaries = session.list_transform_jobs(StatusEquals="Completed")["TransformJobSummaries"]
    assert [summary["TransformJobName"] for summary in summaries] == ["batch"]
    with pytest.raises(ClientError, match="Could not find requested job"):
        session.describe_transform_job(TransformJobName="other")
