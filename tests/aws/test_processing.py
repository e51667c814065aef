"""`data prepare --processing-job`: a valid request, code that runs in the image, and its end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import boto3
import ftfy
import pytest
import yaml
from botocore.stub import Stubber
from botocore.validate import ParamValidator

from sm_launch import cli
from sm_launch.errors import LaunchError
from sm_launch.job.config import load_config
from sm_launch.jobs import processing
from sm_launch.sessions.aws import AwsSession

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

ROOT = Path(__file__).parents[2]
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1"
ROLE = "arn:aws:iam::123456789012:role/TrainingRole"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml"}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    lines = [f"itâ€™s review {n},{'good' if n % 2 else 'bad'}" for n in range(80)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    document = {
        "name": "far",
        "data": {"input": "rows.csv", "processing": {"instance_type": "ml.m5.large"}},
        "training": {
            "image": IMAGE,
            "network": {"subnets": ["subnet-1"], "security_groups": ["sg-1"]},
        },
        "aws": {
            "bucket": "my-bucket",
            "training_role": ROLE,
            "kms_key": KEY,
        },
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def check(request: dict[str, Any]) -> None:
    """Against the service model that botocore has."""
    client = boto3.client("sagemaker", region_name="eu-central-1")
    shape = client.meta.service_model.operation_model("CreateProcessingJob").input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    types = shape.members["ProcessingResources"].members["ClusterConfig"].members["InstanceType"]
    assert request["ProcessingResources"]["ClusterConfig"]["InstanceType"] in types.enum


def test_the_request_and_the_journey(
    aws: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    store = boto3.client("s3")
    store.create_bucket(Bucket="my-bucket", **where)
    far = {"Bucket": "my-bucket", "ExpectedBucketOwner": "123456789012"}
    command = ["data", "prepare", "-c", str(job), "--processing-job"]
    assert cli.run([*command, "--dry-run"]) == 0
    request = json.loads(capsys.readouterr().out)
    check(request)
    assert "Contents" not in store.list_objects_v2(**far)
    assert {i["InputName"] for i in request["ProcessingInputs"]} == {"code", "input"}
    assert request["NetworkConfig"]["VpcConfig"]["Subnets"] == ["subnet-1"]
    assert "VolumeKmsKeyId" in request["ProcessingResources"]["ClusterConfig"]
    assert cli.run([*command, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert set(done["channels"]) == {"train", "validation", "test"}
    assert done["channels"]["train"].endswith(f"{done['processing_job']}/far/data/train/")
    made = boto3.client("sagemaker").describe_processing_job(
        ProcessingJobName=done["processing_job"]
    )
    assert made["AppSpecification"]["ImageUri"] == IMAGE
    keys = [o["Key"] for o in store.list_objects_v2(**far)["Contents"]]
    assert any(key.endswith("/sm_launch/__main__.py") for key in keys)
    assert any(key.endswith("/job.yaml") for key in keys)
    assert any(key.endswith("/rows.csv") for key in keys)
    assert cli.run(["data", "prepare", "-c", str(job), "--dry-run"]) == 2


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(
    aws: str, job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    boto3.client("s3").create_bucket(Bucket="my-bucket", **where)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(processing, "wait", interrupted)
    assert cli.run(["data", "prepare", "-c", str(job), "--processing-job"]) == 130
    told = capsys.readouterr().err
    made = boto3.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"]
    name = made[0]["ProcessingJobName"]
    assert f"sm-launch stop {name} --target sagemaker" in told
    assert f"prepared/{name}/far/data/train/" in told
    assert "price: $0.115/h x 1 instance(s) x 1.0 h = $0.12 at most" in told


def test_several_machines_share_the_raw_files(
    aws: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (job.parent / "raw").mkdir()
    for name in ("a.csv", "b.csv", "empty.csv"):
        text = "" if name == "empty.csv" else (job.parent / "rows.csv").read_text()
        (job.parent / "raw" / name).write_text(text)

    def asked(count: int, *more: str) -> int:
        settings = [f"data.processing.instance_count={count}", *more]
        options = [word for each in settings for word in ("-s", each)]
        command = ["data", "prepare", "-c", str(job), "--processing-job", "--dry-run"]
        return cli.run([*command, *options])

    encrypted = "training.network.encrypt_between_instances=true"
    assert asked(2, "data.input=raw", encrypted) == 0
    request = json.loads(capsys.readouterr().out)
    check(request)
    assert request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 2
    assert request["NetworkConfig"]["EnableInterContainerTrafficEncryption"]
    shared = {
        each["InputName"]: each["S3Input"]["S3DataDistributionType"]
        for each in request["ProcessingInputs"]
    }
    assert shared == {"code": "FullyReplicated", "input": "ShardedByS3Key"}
    command = request["AppSpecification"]["ContainerEntrypoint"]
    assert command[:3] == ["python3", "-m", "sm_launch.jobs.processing_host"]
    assert asked(9, "data.input=s3://my-bucket/raw/") == 0
    capsys.readouterr()
    assert asked(3, "data.input=raw") == 2
    assert "2 file(s), which 3 machines cannot share" in capsys.readouterr().err
    assert asked(2) == 2
    count = "sagemaker.processing.ProcessingResources.ClusterConfig.InstanceCount=4"
    assert asked(1, count) == 2
    assert "data.processing.instance_count: 4" in capsys.readouterr().err
    assert asked(2, "data.input=hf://datasets/owner/name/rows.csv") == 2
    assert "not the Hub" in capsys.readouterr().err


def test_presidio_wants_an_image_that_has_it(
    aws: str, job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "meta.json").write_text("{}")
    masking = ["-s", "data.steps=[mask_pii]", "-s", "data.presidio.model=names"]
    command = ["data", "prepare", "-c", str(job), "--processing-job", *masking]
    assert cli.run(command) == 2  # there is no bucket: nothing was to be sent yet
    told = capsys.readouterr().err
    assert "data.presidio" in told
    assert f"the image {IMAGE} does not have" in told
    assert "training.image" in told
    own = f"training.image={IMAGE.replace('sm-train', 'masking')}"
    assert cli.run([*command, "-s", own, "--dry-run"]) == 0
    request = json.loads(capsys.readouterr().out)
    check(request)
    assert {i["InputName"] for i in request["ProcessingInputs"]} == {"code", "input", "presidio"}
    section = {"steps": ["mask_pii"], "presidio": {"model": "names"}}
    document = yaml.safe_load(job.read_text())
    job.write_text(yaml.safe_dump(document | {"data": document["data"] | section}))
    processing.write_code(load_config(job), tmp_path / "code")
    written = yaml.safe_load((tmp_path / "code" / processing.JOB_FILE).read_text())
    assert written["data"]["presidio"]["model"] == "/opt/ml/processing/input/presidio"


def absent_from_the_image() -> list[str]:
    """Modules of the launcher's dependencies that the training image does not have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "containers" / "train" / "locks" / "cpu.txt").read_text()
    wanted = [re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]]
    return [MODULES.get(n, n) for n in wanted if not re.search(rf"^{n}==", lock, re.MULTILINE)]


BLOCKED = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError("not in the image: " + name)
sys.path.insert(0, {code!r})
sys.path.append({packages!r})
sys.meta_path.insert(0, Absent())
sys.argv = {arguments!r}
import sm_launch.jobs.processing_host  # what each of several machines runs
runpy.run_module("sm_launch", run_name="__main__", alter_sys=True)
"""


def test_the_code_runs_with_what_the_image_has(job: Path, tmp_path: Path) -> None:
    base = tmp_path / "processing"
    code = base / "input" / processing.CODE
    code.mkdir(parents=True)
    processing.write_code(load_config(job), code, str(base))
    raw = base / "input" / "input"
    raw.mkdir()
    (raw / "rows.csv").write_bytes((job.parent / "rows.csv").read_bytes())
    command = processing.entrypoint(str(base))
    assert command[:3] == ["python3", "-m", "sm_launch"]
    absent = [name for name in absent_from_the_image() if name != "ftfy"]
    assert "httpx" in absent
    program = BLOCKED.format(
        absent=set(absent),
        code=processing.environment(str(base))["PYTHONPATH"],
        packages=str(Path(ftfy.__file__).parents[1]),
        arguments=["sm_launch", *command[3:]],
    )
    # -S: what is installed here in editable mode is not found, only what travels.
    finished = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    prepared = base / "output" / "far" / "data"
    rows = [json.loads(line) for line in (prepared / "train" / "train.jsonl").open()]
    assert all(row["text"].startswith("it's review") for row in rows)
    assert (prepared / "data_card.html").is_file()


def test_a_failed_job_tells_why() -> None:
    client = boto3.client(
        "sagemaker", region_name="x", aws_access_key_id="x", aws_secret_access_key="x"
    )
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:processing-job/far"
    base = {
        "ProcessingJobName": "far",
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 1,
            }
        },
        "AppSpecification": {"ImageUri": IMAGE},
        "ProcessingJobArn": arn,
        "CreationTime": 0,
    }
    session = AwsSession(clients=lambda *_: client)
    session.seconds_between_looks = 0.0
    seen: list[str] = []
    with Stubber(client) as stub:
        for status, more in (
            ("InProgress", {}),
            ("Failed", {"FailureReason": "AlgorithmError", "ExitMessage": "no such column"}),
        ):
            stub.add_response(
                "describe_processing_job", {**base, "ProcessingJobStatus": status, **more}
            )
        with pytest.raises(LaunchError, match="AlgorithmError; no such column"):
            processing.wait(
                session, "far", lambda description: seen.append(description["ProcessingJobStatus"])
            )
    assert seen == ["InProgress", "Failed"]
