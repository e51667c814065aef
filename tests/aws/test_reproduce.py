"""What has changed since a training on SageMaker is told before another one is paid for."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.jobs.records import RECORD

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

REGISTRY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
LOADER = botocore.loaders.create_loader()
RECORDED = {"version": 1, "data": {"train": "sha256:t"}, "weights": {}, "results": {}}


@pytest.fixture
def job(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished job with its record, data and image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    store, where = make_client("s3"), {"LocationConstraint": "eu-central-1"}
    store.create_bucket(Bucket="runs", CreateBucketConfiguration=where)
    store.put_object(Bucket="runs", Key="train/train.jsonl", Body=b"{}")
    make_client("ecr").create_repository(repositoryName="sm-train")
    push("sha256:" + "1" * 64)
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://runs/train/"}
    make_client("sagemaker").create_training_job(
        TrainingJobName="mine-20261130-031257-821",
        AlgorithmSpecification={
            "TrainingImage": f"{REGISTRY}/sm-train:1", "TrainingInputMode": "File"
        },
        RoleArn="arn:aws:iam::123456789012:role/TrainingRole",
        InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": "s3://runs/jobs"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        Tags=[{"Key": "team", "Value": "nlp"}],
    )  # fmt: skip
    content, packed = json.dumps(RECORDED).encode(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo(RECORD)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    key = "jobs/mine-20261130-031257-821/output/output.tar.gz"
    store.put_object(Bucket="runs", Key=key, Body=packed.getvalue())
    return "mine-20261130-031257-821"


def push(digest: str) -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = {"digest": digest, "size": 1}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    make_client("ecr").put_image(
        repositoryName="sm-train", imageManifest=json.dumps(manifest), imageTag="1"
    )


def test_newer_data_and_images_are_named(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", job, "--target", "sagemaker"]
    assert cli.run([*command, "--dry-run"]) == 0
    told = capsys.readouterr()
    request: dict[str, Any] = json.loads(told.out)
    assert request["TrainingJobName"].startswith("mine-reproduced-")
    assert request["InputDataConfig"][0]["ChannelName"] == "train"
    assert request["Tags"] == [{"Key": "team", "Value": "nlp"}]
    assert "price: " in told.err
    assert cli.run([*command, "--max-cost", "0.01"]) == 2
    assert "more than $0.01" in capsys.readouterr().err

    time.sleep(1.5)  # S3 tells times in seconds
    make_client("s3").put_object(Bucket="runs", Key="train/train.jsonl", Body=b"{}")
    push("sha256:" + "2" * 64)
    assert cli.run([*command, "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "channel train (s3://runs/train/train.jsonl): read at" in told
    assert f"image {REGISTRY}/sm-train:1: of before" in told
    make_client("s3").delete_object(Bucket="runs", Key="train/train.jsonl")
    make_client("ecr").batch_delete_image(repositoryName="sm-train", imageIds=[{"imageTag": "1"}])
    assert cli.run(command) == 2
    told = capsys.readouterr().err
    assert "channel train: at s3://runs/train/, now gone" in told
    assert f"image: {REGISTRY}/sm-train:1, now gone" in told
    jobs = make_client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert [each["TrainingJobName"] for each in jobs] == [job]
