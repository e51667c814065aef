"""`train --target sagemaker` to `delete` through the command line, against moto."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from sm_launch import cli
from sm_launch.account import access
from sm_launch.aws.clients import make_client
from sm_launch.job.instances import bundled_prices
from sm_launch.sessions.aws import AwsSession

sys.path.insert(0, str(Path(__file__).parent))

import simulator

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
endpoint:
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-serve:1
  instances: {type: ml.m5.large}
  autoscaling: {max: 3}
aws:
  bucket: my-bucket
  training_role: arn:aws:iam::123456789012:role/TrainingRole
  hosting_role: arn:aws:iam::123456789012:role/HostingRole
  tags: {team: nlp}
"""


@pytest.fixture
def job(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text('{"text": "good", "label": "pos"}\n')
    Path("job.yaml").write_text(JOB)
    client = make_client("s3")
    where = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_from_train_to_delete(
    job: Path, capsys: pytest.CaptureFixture[str], calls: list[tuple[str, str, dict[str, Any]]]
) -> None:
    calls.clear()
    assert cli.run(["train", "--json"]) == 0
    done = answer(capsys)
    assert done["TrainingJobStatus"] == "Completed"
    assert done["EnableManagedSpotTraining"] is True
    assert done["CheckpointConfig"]["S3Uri"] == (
        f"s3://my-bucket/sm-launch/mine/checkpoints/{done['TrainingJobName']}"
    )
    uploaded = [
        item["Key"] for item in make_client("s3").list_objects_v2(Bucket="my-bucket")["Contents"]
    ]
    assert any(key.endswith("/train.jsonl") for key in uploaded)

    assert cli.run(["deploy", "--json"]) == 0
    assert answer(capsys)["EndpointStatus"] == "InService"
    assert cli.run(["list", "--target", "sagemaker", "--json"]) == 0
    listed = answer(capsys)
    assert [endpoint["EndpointName"] for endpoint in listed["Endpoints"]] == ["mine"]
    look_at_cost(capsys)

    assert cli.run(["transform", "train.jsonl", "--json"]) == 0
    done = answer(capsys)
    assert done["TransformJobStatus"] == "Completed"
    assert done["TransformOutput"]["S3OutputPath"].startswith(
        f"s3://my-bucket/sm-launch/mine/transforms/{done['TransformJobName']}"
    )
    models = make_client("sagemaker").list_models()["Models"]
    assert done["ModelName"] not in [model["ModelName"] for model in models]

    assert cli.run(["delete", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "deleted scaling of endpoint/mine/variant/AllTraffic" in out
    assert "deleted endpoint mine" in out
    sagemaker = make_client("sagemaker")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
    assert cli.run(["delete", "--yes"]) == 1  # nothing of that name is there
    made = {operation for _, operation, _ in calls}
    assert {
        *simulator.HOSTS - {"CreateInferenceComponent"},
        "CreateTrainingJob",
        "RegisterScalableTarget",
        "DeleteEndpoint",
    } <= made


def look_at_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """All of the project, and what its endpoint costs an hour; moto's jobs take no time."""
    client = make_client("sagemaker")
    assert cli.run(["status", "--json"]) == 0
    items = {item["kind"]: item for item in answer(capsys)}
    assert {kind: item["status"] for kind, item in items.items()} == {
        "training job": "Completed",
        "endpoint": "InService",
    }
    rate = bundled_prices().training["ml.m5.large"]
    assert items["training job"]["dollars_an_hour"] == 0
    count = client.describe_endpoint(EndpointName="mine")["ProductionVariants"][0]
    assert items["endpoint"]["dollars_an_hour"] == pytest.approx(
        rate * count["CurrentInstanceCount"]
    )
    assert cli.run(["status", "other", "--target", "sagemaker"]) == 0
    out = capsys.readouterr().out
    assert "nothing of this name" in out
    assert "so far: $0.00" in out


def test_what_looks_at_all_of_it_may(
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    calls: list[simulator.Call],
) -> None:
    """The commands beside the way from `train` to `delete`, each with the launcher's policy."""
    monkeypatch.setattr(AwsSession, "seconds_between_looks", 0.05)
    Path("rows.jsonl").write_text('{"text": "fine", "label": "pos"}\n')
    Path("job.yaml").write_text(LOOKED_AT)
    assert cli.run(["train", "--json"]) == 0
    trained = answer(capsys)["TrainingJobName"]
    assert cli.run(["deploy", "--job", trained, "--json"]) == 0
    capture(capsys, '[{"label": "pos", "score": 0.9}]')
    for command in (
        ["monitor", "--once"], ["logs", trained], ["optimize", "--job", trained, "--detach"],
        ["evaluate", "--labels", "labels.jsonl", "--captured", "mine"], ["stop", trained],
    ):  # fmt: skip
        capsys.readouterr()
        calls_before = len(calls)
        code = cli.run(command)
        told = capsys.readouterr()
        assert code == 0 or command[0] == "stop", (command, told.err)
        assert len(calls) > calls_before, command


LOOKED_AT = f"""{JOB}
evaluation: {{data: rows.jsonl}}
""".replace("  autoscaling: {max: 3}", "  data_capture: {percentage: 100}")


def capture(capsys: pytest.CaptureFixture[str], answered: str) -> None:
    """What data capture would have written, and what was right."""
    described = answer(capsys)
    bucket, _, prefix = described["DataCaptureConfig"]["DestinationS3Uri"][5:].partition("/")
    side = {"observedContentType": "application/json", "encoding": "JSON"}
    events = [
        {"captureData": {"endpointInput": {**side, "data": json.dumps({"inputs": [f"row {at}"]})},
                         "endpointOutput": {**side, "data": answered}},
         "eventMetadata": {"eventId": f"e{at}", "inferenceTime": "2030-01-01T00:00:00Z"}}
        for at in range(4)
    ]  # fmt: skip
    make_client("s3").put_object(
        Bucket=bucket, Key=f"{prefix}/mine/AllTraffic/2030/01/01/00/a.jsonl",
        Body="\n".join(map(json.dumps, events)),
    )  # fmt: skip
    truth = [
        {"groundTruthData": {"data": "pos", "encoding": "CSV"}, "eventVersion": "0",
         "eventMetadata": {"eventId": f"e{at}"}}
        for at in range(4)
    ]  # fmt: skip
    Path("labels.jsonl").write_text("\n".join(map(json.dumps, truth)))


# What moto does not run is walked through as the request that would be sent.
PLANNED = {
    "CreateHyperParameterTuningJob": (
        ["sweep"], "sweep={max_jobs: 2, "
        "parameters: {learning_rate: {min: 1e-5, max: 1e-4}}}"),
    "CreateEndpointConfig": (
        ["deploy", "--model-data", "s3://my-bucket/sm-launch/mine/jobs/j/output/model.tar.gz"],
        "endpoint.asynchronous.success_topic=arn:aws:sns:eu-central-1:123456789012:sm-launch-ok"
    ),
    "CreateProcessingJob": (
        ["data", "prepare", "--processing-job"],
        "data={input: train.jsonl, columns: {text: text, label: label}}"),
}  # fmt: skip


@pytest.mark.parametrize("operation", PLANNED)
def test_roles_cover_what_is_planned(
    operation: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, setting = PLANNED[operation]
    assert cli.run([*command, "--dry-run", "--set", setting]) == 0
    shown = answer(capsys)
    request = shown.get(xform_name(operation), shown)
    has = simulator.policy(
        access.template("my-bucket"),
        "HostingRole" if operation in simulator.HOSTS else "TrainingRole",
    )
    needs = simulator.container_needs(operation, request)
    assert len(needs) > 1
    assert [need for need in needs if not simulator.allowed(has, need)] == []


def test_a_dry_run_sends_nothing(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--dry-run"]) == 0
    request = answer(capsys)
    assert request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"].startswith(
        "s3://my-bucket/"
    )
    assert make_client("s3").list_objects_v2(Bucket="my-bucket")["KeyCount"] == 0
    assert make_client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_components_are_shown_before_they_are_made(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "endpoint.components={adapters: {polite: s3://my-bucket/p.tar.gz}}",
        "endpoint.autoscaling={min: 0, max: 2}",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    command = ["deploy", "--model-data", "s3://my-bucket/m.tar.gz", "--dry-run", *options]
    assert cli.run(command) == 0
    shown = answer(capsys)
    names = [each["InferenceComponentName"] for each in shown["create_inference_component"]]
    assert names == ["mine", "mine-polite"]
    assert "ModelName" not in shown["create_endpoint_config"]["ProductionVariants"][0]
    assert shown["register_scalable_target"]["MinCapacity"] == 0
    assert make_client("sagemaker").list_models()["Models"] == []
    assert cli.run([*command, "--target", "process"]) == 2


def test_a_base_model_is_deployed_from_a_directory_or_the_hub(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("base").mkdir()
    Path("base/config.json").write_text("{}")
    objects = make_client("s3").list_objects_v2
    directory, hub = ["--set", "endpoint.model=base"], ["--set", "endpoint.model=org/base@v1"]
    assert cli.run(["deploy", "--dry-run", *directory]) == 0
    planned = answer(capsys)["create_model"]["PrimaryContainer"]["ModelDataSource"]
    assert objects(Bucket="my-bucket")["KeyCount"] == 0
    assert cli.run(["deploy", "--json", *directory]) == 0
    capsys.readouterr()
    (sent,) = objects(Bucket="my-bucket")["Contents"]
    assert f"s3://my-bucket/{sent['Key']}" == planned["S3DataSource"]["S3Uri"] + "config.json"

    assert cli.run(["deploy", "--json", "--name", "second", *hub]) == 0
    assert "not pinned" in capsys.readouterr().err
    sagemaker = make_client("sagemaker")
    models = [model["ModelName"] for model in sagemaker.list_models()["Models"]]
    (name,) = [model for model in models if model.startswith("second")]
    container = sagemaker.describe_model(ModelName=name)["PrimaryContainer"]
    assert container["Environment"]["HF_MODEL_ID"] == "org/base"
    assert container["Environment"]["HF_MODEL_REVISION"] == "v1"
    assert "ModelDataUrl" not in container and "ModelDataSource" not in container


def test_a_missing_bucket_names_the_fix(
    job: Path, capsys: pytest.CaptureFixture[str], calls: list[simulator.Call]
) -> None:
    assert cli.run(["train", "--set", "aws.bucket=nobody-has-this"]) == 2
    calls.clear()  # no policy knows that bucket
    err = capsys.readouterr().err
    assert "aws.bucket" in err and "sm-launch setup" in err
