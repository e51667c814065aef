"""Requests: SageMaker's own service model accepts every one that a job.yaml can lead to."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate
import pytest

from sm_launch.errors import UserInputError
from sm_launch.hosting import requests as hosting_requests
from sm_launch.job import limits, naming
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import check_hyperparameters, check_image_has
from sm_launch.job.tracking import check_tracking
from sm_launch.jobs import requests
from sm_launch.sessions.validation import RequestValidator

INPUTS = requests.TrainingInputs(
    channels={"train": "s3://bucket/train/", "model": "s3://bucket/model/"},
    output="s3://bucket/jobs",
    checkpoints="s3://bucket/checkpoints",
    model=None,
    metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
)


@pytest.fixture(scope="module")
def service() -> botocore.model.ServiceModel:
    loaded = botocore.loaders.Loader().load_service_model("sagemaker", "service-2")
    return botocore.model.ServiceModel(loaded)


def check(service: botocore.model.ServiceModel, operation: str, request: dict[str, Any]) -> None:
    shape = service.operation_model(operation).input_shape
    report = botocore.validate.ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()


def job(**sections: Any) -> JobConfig:
    return JobConfig.model_validate({"name": "mine", **sections})


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("isolation", [False, True])
@pytest.mark.parametrize("vpc", [False, True])
def test_training_requests_are_valid(
    service: botocore.model.ServiceModel, spot: bool, isolation: bool, vpc: bool
) -> None:
    network: dict[str, Any] = {"isolation": isolation, "encrypt_between_instances": True}
    if vpc:
        network |= {"subnets": ["subnet-1"], "security_groups": ["sg-1"]}
    for kms, compress, mode, warm in itertools.product(
        (None, "alias/mine"), (True, False), ("File", "FastFile"), (0, 600)
    ):
        config = job(
            training={
                "spot": spot,
                "network": network,
                "compress_model": compress,
                "input_mode": mode,
                "retries": 3,
                "environment": {"A": "b"},
                "instances": {"count": 2, "keep_alive_seconds": 0 if spot else warm},
            },
            aws={"kms_key": kms, "tags": {"team": "nlp"}},
        )
        request = requests.create_training_job(config, "mine-1", INPUTS)
        check(service, "CreateTrainingJob", request)
        assert request.get("EnableManagedSpotTraining", False) is spot
        assert ("MaxWaitTimeInSeconds" in request["StoppingCondition"]) is spot
        assert ("VpcConfig" in request) is vpc


@pytest.mark.parametrize("model_data", ["s3://b/m/model.tar.gz", "s3://b/m/"])
def test_deployment_requests_are_valid(
    service: botocore.model.ServiceModel, model_data: str
) -> None:
    config = job(
        endpoint={
            "inference_ami_version": "al2023-ami-sagemaker-inference-gpu-4-1",
            "environment": {"A": "b"},
            "network": {"isolation": True, "subnets": ["subnet-1"], "security_groups": ["sg-1"]},
        },
        aws={"kms_key": "alias/mine"},
    )
    model = hosting_requests.create_model(
        config, "m", model_data=model_data, image="i", role="arn:r" * 5
    )
    check(service, "CreateModel", model)
    check(
        service, "CreateEndpointConfig", hosting_requests.create_endpoint_config(config, "c", "m")
    )
    check(service, "CreateEndpoint", hosting_requests.create_endpoint(config, "e", "c"))
    assert ("ModelDataUrl" in model["PrimaryContainer"]) is model_data.endswith(".tar.gz")


def test_hyperparameters_are_strings_that_json_reads_back() -> None:
    values = {
        "a": 1,
        "b": 2.5e-5,
        "c": True,
        "d": None,
        "e": ["x", "y"],
        "f": "plain",
        "g": {"k": 1},
    }
    encoded = requests.encode_hyperparameters(values)
    assert all(isinstance(value, str) for value in encoded.values())
    assert encoded["f"] == "plain"
    assert {k: json.loads(v) for k, v in encoded.items() if k != "f"} == {
        key: value for key, value in values.items() if key != "f"
    }


def test_a_script_gets_the_arguments_that_its_user_wrote_and_no_other() -> None:
    values = {"sagemaker_program": "train.py", "epochs_of_mine": 3}
    check_hyperparameters("text-classification", values)
    config = job(training={"hyperparameters": values})
    request = requests.create_training_job(config, "mine-1", INPUTS)
    given = {"sagemaker_program": "train.py", "epochs_of_mine": "3"}
    if INPUTS.model:
        given["model_name_or_path"] = INPUTS.model
    assert request["HyperParameters"] == given


def test_names_fit_and_differ() -> None:
    now = datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert naming.unique_name("mine", now) == "mine-20300102-030405-678"
    long = naming.unique_name("a" * 80, now)
    assert len(long) == limits.NAME_LENGTH
    assert limits.NAME_PATTERN.fullmatch(long)


def test_spot_without_a_wait_gets_twice_the_runtime() -> None:
    config = job(training={"spot": True, "max_runtime_seconds": 100})
    request = requests.create_training_job(config, "mine-1", INPUTS)
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 200}


@pytest.mark.parametrize(
    ("report_to", "live"),
    [("tensorboard", True), (["wandb", "tensorboard"], True), ("all", True), ("none", False),
     ("wandb", False), (None, False)],
)  # fmt: skip
def test_tensorboard_s_files_are_copied_while_they_are_written(report_to: Any, live: bool) -> None:
    hyperparameters = {} if report_to is None else {"report_to": report_to}
    training = {"method": "sft", "hyperparameters": hyperparameters}
    config = JobConfig.model_validate({"name": "a", "training": training})
    request = requests.create_training_job(config, "a-1", INPUTS)
    expected = {"S3OutputPath": INPUTS.output, "LocalPath": "/opt/ml/output/data/tensorboard"}
    assert request.get("TensorBoardOutputConfig") == (expected if live else None)
    RequestValidator("sagemaker").check("CreateTrainingJob", request)
    here = replace(INPUTS, output="file:///tmp/jobs")
    assert "TensorBoardOutputConfig" not in requests.create_training_job(config, "a-1", here)


@pytest.mark.parametrize(
    "report_to", ["wandb", ["tensorboard", "dagshub"], "comet_ml", '["neptune"]']
)
def test_a_tracker_that_the_image_lacks_is_refused_on_the_laptop(report_to: Any) -> None:
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1"
    with pytest.raises(UserInputError, match=r"report_to.*needs the package"):
        check_image_has(image, {"report_to": report_to})
    check_image_has(image.replace("sm-train", "own-train"), {"report_to": report_to})
    for known in ("none", "all", "tensorboard", ["tensorboard", "mlflow"]):
        check_image_has(image, {"report_to": known})


SERVER = "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/runs"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/sm-train:1"


def tracked(report_to: Any = "mlflow", *, isolation: bool = False, **variables: str) -> JobConfig:
    training = {"method": "sft", "hyperparameters": {"report_to": report_to},
                "environment": variables, "network": {"isolation": isolation}}  # fmt: skip
    return JobConfig.model_validate({"name": "mine", "training": training})


@pytest.mark.parametrize(
    ("config", "image", "told"),
    [
        (tracked(), IMAGE, "is missing: MLflow would write into the container"),
        (tracked(["tensorboard", "mlflow"]), naming.LOCAL_TRAINING_IMAGE, "is missing"),
        (tracked(MLFLOW_TRACKING_URI="mlruns"), IMAGE, "a place in the container"),
        (tracked(MLFLOW_TRACKING_URI="file:///runs"), "sm-train:abc-cpu", "in the container"),
        (tracked(MLFLOW_TRACKING_URI="sqlite:///r.db"), IMAGE, "in the container"),
        (tracked("all", MLFLOW_TRACKING_URI="mlruns"), IMAGE, "a place in the container"),
        (tracked(MLFLOW_TRACKING_URI=SERVER.replace("tracking-", "")), IMAGE, "is no ARN"),
        (tracked(MLFLOW_TRACKING_URI=SERVER, isolation=True), IMAGE, "isolation lets nothing out"),
        (tracked(MLFLOW_TRACKING_URI=SERVER, MLFLOW_TAGS="team=nlp"), IMAGE, "a JSON object"),
    ],
)
def test_runs_that_nobody_would_find_are_refused(config: JobConfig, image: str, told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        check_tracking(config, image)


@pytest.mark.parametrize(
    ("config", "image"),
    [
        (tracked("none"), IMAGE),
        (tracked("all"), IMAGE),  # all that have a place
        (tracked(MLFLOW_TRACKING_URI=SERVER, MLFLOW_TAGS='{"team": "nlp"}'), IMAGE),
        (tracked(MLFLOW_TRACKING_URI=SERVER.replace("tracking-server", "app")), IMAGE),
        (tracked(MLFLOW_TRACKING_URI="https://runs.example:5000"), IMAGE),
        (tracked(MLFLOW_TRACKING_URI="env:MLFLOW"), IMAGE),
        (tracked(MLFLOW_TRACKING_URI="file:///runs"), naming.LOCAL_TRAINING_IMAGE),
    ],
)
def test_runs_with_a_place_are_not_refused(config: JobConfig, image: str) -> None:
    check_tracking(config, image)


def test_mlflow_is_told_of_the_job() -> None:
    config = tracked(MLFLOW_TRACKING_URI=SERVER)
    request = requests.create_training_job(config, "mine-1", INPUTS)
    assert request["Environment"] == {
        "MLFLOW_EXPERIMENT_NAME": "mine",
        "MLFLOW_TRACKING_URI": SERVER,
        "SM_TRAIN_MODEL_URI": f"{INPUTS.output}/{{training_job}}/output/model.tar.gz",
    }
    RequestValidator("sagemaker").check("CreateTrainingJob", request)
    named = tracked(MLFLOW_TRACKING_URI=SERVER, MLFLOW_EXPERIMENT_NAME="theirs")
    request = requests.create_training_job(named, "mine-1", INPUTS)
    assert request["Environment"]["MLFLOW_EXPERIMENT_NAME"] == "theirs"
    assert "Environment" not in requests.create_training_job(tracked("all"), "mine-1", INPUTS)
