"""Two records of a training beside each other, and what a job is run again with."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sm_train
from sm_launch.errors import LaunchError
from sm_launch.jobs import records, reproduction
from sm_launch.sessions.validation import RequestValidator
from sm_train.loop import digests, record
from sm_train.platform import user_script

pytestmark = pytest.mark.slow  # botocore's service model is read

NAMES = st.from_regex(r"[a-z0-9é ._-]{1,8}", fullmatch=True).filter(lambda n: n.strip(". "))
JOB = "mine-20261130-031257-821"


@settings(max_examples=20, deadline=None)
@given(
    files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary()),
    streamed=st.booleans(),
)
def test_a_channel_has_one_digest_here_and_in_the_container(
    files: dict[str, bytes], streamed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("channel")
    for name, content in files.items():
        path = folder / name
        if not path.exists() and not any(p.is_file() for p in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    ours = records.digest(folder, streamed=streamed)
    assert ours == digests.folder_digest(folder, streamed=streamed)


def test_one_file_is_a_channel_of_one_file(tmp_path: Path) -> None:
    """Of a file of more than two mebibytes both ends are read where it is streamed."""
    folder = tmp_path / "channel"
    folder.mkdir()
    file = folder / "train.jsonl"
    for middle in (b"a", b"b"):
        file.write_bytes(b"x" * (1 << 20) + middle * 9 + b"y" * (1 << 20))
        for streamed in (True, False):
            container = digests.folder_digest(folder, streamed=streamed)
            assert records.digest(file, streamed=streamed) == container
            assert records.digest(folder, streamed=streamed) == container


def test_code_has_one_digest_too() -> None:
    assert records.code_digest(Path(sm_train.__file__).parent) == record.code_digest()
    assert records.code_digest(Path(user_script.__file__).parent) != record.code_digest()
    assert records.RECORD == record.RECORD and records._VERSION == record.VERSION


def made(**changes: Any) -> dict[str, Any]:
    """A record."""
    document: dict[str, Any] = {
        "version": 1, "method": "sft", "model": "org/tiny@main", "seed": 5, "code": "sha256:c",
        "data": {"train": "sha256:t"}, "hyperparameters": {"learning_rate": 0.1},
        "versions": {"torch": "2.13.0"}, "machine": {"processor": "A", "threads": 2},
        "weights": {"model.safetensors": "sha256:w"},
        "results": {"test_loss": 0.5, "test_accuracy": 0.25},
    }  # fmt: skip
    return document | changes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 6}, "seed: 5, now 6"),
        ({"data": {"train": "sha256:" + "u" * 64}}, "channel train: sha256:t, now sha256:uuu"),
        ({"data": {}}, "channel train: sha256:t, now none"),
        ({"hyperparameters": {"learning_rate": 0.2}}, "learning_rate: 0.1, now 0.2"),
        ({"versions": {"torch": "2.14.0"}}, "torch: 2.13.0, now 2.14.0"),
        ({"machine": {"processor": "B", "threads": 2}}, "machine: processor: A, now B"),
    ],
)
def test_what_differs_is_named_beside_other_weights(changes: dict[str, Any], told: str) -> None:
    other = made(weights={"model.safetensors": "sha256:v"}, **changes)
    outcome = reproduction.compare("a", "b", made(), other)
    assert not outcome.agrees
    assert any(told in line for line in outcome.lines())
    with pytest.raises(LaunchError, match="b is not as a was"):
        outcome.require()


def test_a_tolerance_is_of_metrics_and_lets_weights_differ() -> None:
    near = made(weights={"model.safetensors": "sha256:v"},
                results={"test_loss": 0.501, "test_accuracy": 0.25})  # fmt: skip
    far = near | {"results": {"test_loss": 0.6, "test_accuracy": 0.25}}
    less = near | {"results": {"test_loss": 0.5}}
    assert reproduction.compare("a", "b", made(), near, 0.01).agrees
    assert not reproduction.compare("a", "b", made(), near).agrees
    assert not reproduction.compare("a", "b", made(), far, 0.01).agrees
    assert not reproduction.compare("a", "b", made(), less, 0.01).agrees
    assert reproduction.compare("a", "b", made(), made()).agrees


def described(**changes: Any) -> dict[str, Any]:
    """As DescribeTrainingJob tells it."""
    now = datetime.now(UTC)
    return {
        "TrainingJobName": JOB,
        "TrainingJobArn": "arn:job",
        "TrainingJobStatus": "Completed",
        "CreationTime": now,
        "SecondaryStatusTransitions": [{"Status": "Completed", "StartTime": now}],
        "FinalMetricDataList": [],
        "HyperParameters": {"seed": "5", "_tuning_objective_metric": "eval:loss"},
        "AlgorithmSpecification": {"TrainingImage": "i:1", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/train",
        "OutputDataConfig": {"S3OutputPath": "s3://b/jobs", "CompressionType": "GZIP"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 9},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "EnableNetworkIsolation": False,
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m"},
        **changes,
    }


@pytest.mark.parametrize(
    ("place", "now"),
    [
        (f"s3://b/checkpoints/{JOB}", "s3://b/checkpoints/"),
        ("s3://b/checkpoints/older", "s3://b/checkpoints/older/"),
    ],
)
def test_it_is_the_same_request_with_a_name_and_checkpoints_of_its_own(
    place: str, now: str
) -> None:
    told = described(CheckpointConfig={"S3Uri": place})
    request = reproduction.again(told, {"team": "nlp", "aws:cloudformation:x": "y"})
    name = request["TrainingJobName"]
    assert name.startswith("mine-reproduced-2")
    assert request["CheckpointConfig"] == {"S3Uri": f"{now}{name}"}
    assert request["Tags"] == [{"Key": "team", "Value": "nlp"}]
    assert request["HyperParameters"] == {"seed": "5"}
    for key in ("ResourceConfig", "StoppingCondition", "EnableNetworkIsolation", "RoleArn"):
        assert request[key] == told[key]
    RequestValidator("sagemaker").check("CreateTrainingJob", request)


def test_a_job_without_a_record_says_so(tmp_path: Path) -> None:
    output = tmp_path / JOB / "output"
    output.mkdir(parents=True)
    told = described(OutputDataConfig={"S3OutputPath": tmp_path.as_uri()})
    with pytest.raises(LaunchError, match=r"left no training_record\.json"):
        records.read_record(told, lambda _: None)
    with tarfile.open(output / "output.tar.gz", "w:gz") as archive:
        content = json.dumps(made(version=2)).encode()
        entry = tarfile.TarInfo(f"./{records.RECORD}")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(LaunchError, match="layout 2"):
        records.read_record(told, lambda _: None)
    (output / "data").mkdir()
    (output / "data" / records.RECORD).write_text(json.dumps(made()))
    assert records.read_record(told, lambda _: None) == made()
