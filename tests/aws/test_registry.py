"""`register` and `deploy --registered` through the command line, against moto."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.job.limits import TAG_KEY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-serve"
JOB = f"""
name: mine
target: sagemaker
training:
  model: org/tiny
  image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1
  channels: {{train: train.jsonl}}
  instances: {{type: ml.m5.large}}
endpoint:
  image: {IMAGE}:1
  instances: {{type: ml.m5.large}}
  environment: {{LEVEL: info, TOKEN: "secret:sm-launch/hub"}}
aws:
  bucket: my-bucket
  training_role: arn:aws:iam::123456789012:role/TrainingRole
  tags: {{team: nlp}}
"""
LOADER = botocore.loaders.create_loader()
OURS = {"Bucket": "my-bucket", "ExpectedBucketOwner": "123456789012"}


def evaluation(artefact: str, *, passed: bool = True) -> dict[str, Any]:
    """As `sm-launch evaluate` writes it."""
    gate = {"metric": "accuracy", "limit": 0.8, "value": 0.9, "at_most": False, "passed": passed}
    return {
        "schema_version": 1,
        "task": "text-classification",
        "started_at": "2026-11-30T03:17:15+00:00",
        "rows": {"total": 10, "evaluated": 10, "failed": 0},
        "labels": ["neg", "pos"],
        "metrics": {"accuracy": 0.9, "f1_macro": 0.89},
        "per_class": {
            "neg": {"precision": 0.8, "recall": 1.0, "f1": 0.89, "roc_auc": 0.97},
            "pos": {"precision": 1.0, "recall": 5 / 6, "f1": 0.91, "roc_auc": 0.97},
        },
        "confusion_matrix": [[4, 0], [1, 5]],
        "main_metric": "f1_macro",
        "confidence_intervals": {"accuracy": [0.7, 0.98]},
        "run": {"artefact": artefact, "data": "s3://my-bucket/test/", "command": "evaluate"},
        "gates": [gate],
    }


@pytest.fixture
def trained(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """Where the model of a finished job lies."""
    # The service models are read once, not for every client.
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text('{"text": "good", "label": "pos"}\n')
    Path("job.yaml").write_text(JOB)
    client = make_client("s3")
    where = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    make_client("secretsmanager").create_secret(Name="sm-launch/hub", SecretString="s3cret")
    assert cli.run(["train", "--json"]) == 0
    artefact: str = answer(capsys)["ModelArtifacts"]["S3ModelArtifacts"]
    return artefact


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def measured(document: dict[str, Any]) -> None:
    path = Path("build/mine/report/evaluation.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def test_a_model_is_registered_approved_and_deployed(
    trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(evaluation(trained))
    data = Path("build/mine/data")
    data.mkdir(parents=True)
    (data / "manifest.json").write_text("{}")
    (data / "data_card.html").write_text("<p>card</p>")
    assert cli.run(["register", "--dry-run"]) == 0
    request = answer(capsys)["create_model_package"]
    store, sagemaker = make_client("s3"), make_client("sagemaker")
    listed = [each["Key"] for each in store.list_objects_v2(**OURS)["Contents"]]
    assert not any("/registry/" in key for key in listed)
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []

    assert cli.run(["register", "--json"]) == 0
    made = answer(capsys)
    assert made["ModelApprovalStatus"] == "PendingManualApproval"
    (container,) = made["InferenceSpecification"]["Containers"]
    assert container["ModelDataUrl"] == trained
    assert container["Image"] == f"{IMAGE}:1"
    assert container["Environment"] == {"LEVEL": "info"}  # the secret stays where it is
    assert made["MetadataProperties"]["GeneratedBy"].endswith(trained.split("/")[-3])
    assert made["CustomerMetadataProperties"]["gates"] == "passed"
    source = made["ModelMetrics"]["ModelQuality"]["Statistics"]
    bucket, _, key = source["S3Uri"].removeprefix("s3://").partition("/")
    body = store.get_object(Key=key, **OURS | {"Bucket": bucket})["Body"].read()
    accuracy = json.loads(body)["binary_classification_metrics"]["accuracy"]
    assert accuracy["value"] == 0.9
    assert request["ModelMetrics"] == made["ModelMetrics"]
    card = json.loads(request["ModelCard"]["ModelCardContent"])
    assert card["training_details"]["training_job_details"]["training_arn"] in str(
        made["MetadataProperties"]
    )
    assert card["additional_information"]["custom_details"]["data_card"].endswith("data_card.html")

    assert cli.run(["deploy", "--registered"]) == 1
    assert "approve one: aws sagemaker update-model-package" in capsys.readouterr().err
    sagemaker.update_model_package(
        ModelPackageArn=made["ModelPackageArn"], ModelApprovalStatus="Approved"
    )
    assert cli.run(["register", "--approval", "rejected", "--json"]) == 0  # a newer one
    capsys.readouterr()
    newer = ["--set", f"endpoint.image={IMAGE}:2"]
    assert cli.run(["deploy", "--registered", "--json", *newer]) == 0
    told = capsys.readouterr()
    assert "mine version 1, approved" in told.err and "is passed over" in told.err
    (model,) = sagemaker.list_models()["Models"]
    served = sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    assert (served["ModelDataUrl"], served["Image"]) == (trained, f"{IMAGE}:1")
    assert served["Environment"]["TOKEN"] == "s3cret"
    assert cli.run(["list"]) == 0
    assert "Model package groups (1)" in capsys.readouterr().out


def test_where_training_tracks_mlflow_has_the_version_too(
    trained: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    measured(evaluation(trained))
    uri = (tmp_path / "runs").as_uri()
    client = MlflowClient(uri, uri)
    job = trained.split("/")[-3]
    run = client.create_run(client.create_experiment("mine"), tags={"training_job": job})
    own = ["--set", "training.hyperparameters.report_to=mlflow",
           "--set", f"training.environment.MLFLOW_TRACKING_URI={uri}"]  # fmt: skip
    assert cli.run(["register", *own]) == 0
    assert "registered in MLflow: mine version 1" in capsys.readouterr().err
    assert cli.run(["register", *own]) == 0
    first, second = sorted(client.search_model_versions("name='mine'"), key=lambda v: v.version)
    assert (first.source, first.run_id) == (trained, run.info.run_id)
    assert second.version == "2" or second.version == 2
    assert first.tags["f1_macro"] == "0.89"
    assert first.tags["gates"] == "passed"
    assert ":model-package/mine/1" in first.tags["model-package"]
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mlflow").addHandler(handler)
    broken = [*own[:3], "training.environment.MLFLOW_TRACKING_URI=http://127.0.0.1:9",
              "--set", "training.environment.MLFLOW_HTTP_REQUEST_MAX_RETRIES='0'"]  # fmt: skip
    assert cli.run(["register", *broken]) == 1
    told = capsys.readouterr().err
    assert "registered in SageMaker, and not in MLflow" in told
    assert "mlflow.register_model(" in told
    logging.getLogger("mlflow").removeHandler(handler)
    assert logged == []  # SageMaker's plugin has nothing to say of another server


def test_what_is_not_of_this_model_or_not_good_enough_is_refused(
    trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["register"]) == 2
    assert "--without-evaluation" in capsys.readouterr().err
    measured(evaluation("s3://my-bucket/older/output/model.tar.gz"))
    assert cli.run(["register"]) == 2
    assert "is of s3://my-bucket/older/output/model.tar.gz" in capsys.readouterr().err
    measured(evaluation(trained, passed=False))
    assert cli.run(["register", "--approval", "approved"]) == 3
    assert "missed its gates: accuracy" in capsys.readouterr().err
    sagemaker = make_client("sagemaker")
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []

    sagemaker.create_model_package_group(
        ModelPackageGroupName="mine", Tags=[{"Key": TAG_KEY, "Value": "theirs"}]
    )
    assert cli.run(["register"]) == 1
    assert "belongs to the job 'theirs'" in capsys.readouterr().err
    assert cli.run(["deploy", "--registered"]) == 1
    assert "belongs to the job 'theirs'" in capsys.readouterr().err
    assert cli.run(["register", "--adopt", "--without-evaluation"]) == 0
    assert "registered mine version 1" in capsys.readouterr().out


def test_local_targets_have_no_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB)
    for command in (["register"], ["deploy", "--registered"], ["deploy", "--registered", "theirs"]):
        assert cli.run([*command, "--target", "process"]) == 2
        assert "the model registry is SageMaker's" in capsys.readouterr().err
