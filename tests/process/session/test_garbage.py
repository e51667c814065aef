"""What is over can be removed, by age and tag; what runs and what was made stays."""

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from .conftest import make_config, wait_for_endpoint, wait_for_training

pytestmark = pytest.mark.slow


def removed(session, **options):
    collected = session.collect_garbage(timedelta(), dry_run=False, **options)
    return {(garbage.kind, garbage.name) for garbage in collected}


def test_only_what_is_over_goes(session, training_request, deploy, model_archive, tmp_path):
    session.create_training_job(**training_request("done"))
    running = training_request("done")
    running |= {"TrainingJobName": "running", "HyperParameters": {"seconds": "60"}}
    session.create_training_job(**running)
    deploy("alive")
    deploy("broken", exit_code=1)
    make_config(session, "unused", model_archive("unused"))
    wait_for_training(session, "done")
    wait_for_endpoint(session, "alive")
    wait_for_endpoint(session, "broken", "Failed")

    expected = {
        ("training-jobs", "done"),
        ("endpoints", "broken"),
        ("endpoint-configs", "broken"),
        ("models", "broken"),
        ("endpoint-configs", "unused"),
        ("models", "unused"),
    }
    assert session.collect_garbage(timedelta(hours=1), dry_run=False) == []
    told = session.collect_garbage(timedelta(), dry_run=True)
    assert {(garbage.kind, garbage.name) for garbage in told} == expected
    assert all(garbage.size > 100 for garbage in told)
    assert removed(session) == expected
    assert removed(session) == set()
    assert (tmp_path / "output/done/output/model.tar.gz").is_file()
    assert (tmp_path / "data/train/train.jsonl").is_file()
    assert session.invoke_endpoint(EndpointName="alive", Body=b"x")["Body"].read()


def test_tags_choose(session, training_request):
    request = training_request("mine")
    session.create_training_job(**request)
    other = {**request, "TrainingJobName": "other", "Tags": [{"Key": "team", "Value": "b"}]}
    session.create_training_job(**other)
    for name in ("mine", "other"):
        wait_for_training(session, name)
    assert removed(session, tags={"team": "a"}) == set()
    assert removed(session, tags={"team": "b"}) == {("training-jobs", "other")}
    with pytest.raises(ClientError, match="Requested resource not found"):
        session.describe_training_job(TrainingJobName="other")


def test_a_running_job_cannot_be_deleted(session, training_request):
    session.create_training_job(**training_request("job", seconds=60))
    with pytest.raises(ClientError, match="stop it and wait"):
        session.delete_training_job(TrainingJobName="job")
    session.stop_training_job(TrainingJobName="job")
    wait_for_training(session, "job")
    session.delete_training_job(TrainingJobName="job")
    assert session.list_training_jobs()["TrainingJobSummaries"] == []
