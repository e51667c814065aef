"""`pipeline` through the command line, against moto: a definition whose steps are real requests."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.job.limits import TAG_KEY
from sm_launch.sessions.validation import RequestValidator

sys.path.insert(0, str(Path(__file__).parent))

import simulator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

REGISTRY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
JOB = f"""
name: mine
target: sagemaker
data: {{input: raw.csv}}
training:
  model: org/tiny
  image: {REGISTRY}/sm-train:1
  instances: {{type: ml.m5.large}}
  spot: true
endpoint: {{image: "{REGISTRY}/sm-serve:1", instances: {{type: ml.m5.large}}}}
evaluation: {{fail_under: {{accuracy: 0.8, f1_macro: 0.7}}}}
registry: {{group: theirs}}
aws:
  bucket: my-bucket
  training_role: arn:aws:iam::123456789012:role/TrainingRole
  pipeline_role: arn:aws:iam::123456789012:role/PipelineRole
"""
NAMED = {"Processing": "ProcessingJobName", "Training": "TrainingJobName"}
LOADER = botocore.loaders.create_loader()


@pytest.fixture
def job(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: LOADER)
    Path("raw.csv").write_text("text,label\ngood,pos\nbad,neg\n")
    Path("job.yaml").write_text(JOB)
    where = {"LocationConstraint": "eu-central-1"}
    make_client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration=where)
    return tmp_path


def run(value: Any, asked: list[str]) -> Any:
    """What an execution would put in the place of expressions."""
    if isinstance(value, list):
        return [run(item, asked) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"}:
        asked.append(value["Get"])
        if value["Get"].endswith("Arn"):
            return "arn:aws:sagemaker:eu-central-1:123456789012:training-job/x"
        place = value["Get"].endswith(("S3Uri", "S3ModelArtifacts"))
        return "s3://got/model.tar.gz" if place else "4"
    if set(value) == {"Std:Join"}:
        joined = value["Std:Join"]
        return joined["On"].join(str(run(part, asked)) for part in joined["Values"])
    return {key: run(item, asked) for key, item in value.items()}


def check(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every step is a request that SageMaker takes, and asks only for steps before it."""
    validator, known = RequestValidator("sagemaker"), set()
    steps = list(simulator.steps_of(definition["Steps"]))
    filled = {}
    for step in steps:
        asked: list[str] = []
        filled[step["Name"]] = request = run(step["Arguments"], asked)
        if step["Type"] in simulator.STEPS:
            named = {NAMED[step["Type"]]: "x"} if step["Type"] in NAMED else {}
            validator.check(simulator.STEPS[step["Type"]], request | named)
        if step["Type"] != "Condition":
            places = {match[1] for get in asked if (match := re.match(r"Steps\.(\w+)\.", get))}
            assert places <= known
        known.add(step["Name"])
    return filled


def test_the_steps_are_the_job_s_own_requests(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["pipeline", "--dry-run"]) == 0
    written = json.loads(json.loads(capsys.readouterr().out)["PipelineDefinition"])
    filled = check(written)
    assert list(filled) == ["Prepare", "Train", "Gate", "Register", "BelowTheGate"]
    inputs = {each["InputName"] for each in filled["Prepare"]["ProcessingInputs"]}
    assert inputs == {"code", "input"}
    channels = {
        each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"]
        for each in filled["Train"]["InputDataConfig"]
    }
    assert channels["test"] == "s3://got/model.tar.gz/mine/data/test/"
    assert filled["Train"]["CheckpointConfig"]["S3Uri"].endswith("/jobs/checkpoints/4")
    conditions = written["Steps"][-1]["Arguments"]["Conditions"]
    got = [(each["Type"], each["LeftValue"]["Get"], each["RightValue"]) for each in conditions]
    assert got == [
        ("GreaterThanOrEqualTo", "Steps.Train.FinalMetricDataList['test:accuracy'].Value", 0.8),
        ("GreaterThanOrEqualTo", "Steps.Train.FinalMetricDataList['test:f1'].Value", 0.7),
    ]
    assert "test:f1 = 4 >= 0.7" in filled["BelowTheGate"]["ErrorMessage"]
    assert filled["Register"]["ModelPackageGroupName"] == "theirs"


def test_a_pipeline_is_made_and_updated(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sagemaker, store = make_client("sagemaker"), make_client("s3")
    own = ["--set", "training.channels={train: raw.csv, test: raw.csv}"]
    assert cli.run(["pipeline", "--write", "definition.json", *own]) == 0
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    filled = check(json.loads(Path("definition.json").read_text()))
    for each in filled["Train"]["InputDataConfig"]:
        uri = each["DataSource"]["S3DataSource"]["S3Uri"]
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        listed = store.list_objects_v2(
            Bucket=bucket, Prefix=prefix, ExpectedBucketOwner="123456789012"
        )
        assert listed["KeyCount"] == 1
    capsys.readouterr()
    assert cli.run(["pipeline", "--json", *own]) == 0
    assert json.loads(capsys.readouterr().out)["created"]
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    other = ["--set", "evaluation.fail_under={mae: 1}", "--set", "training.spot=false"]
    assert cli.run(["pipeline", *own, *other]) == 0
    assert "pipeline mine updated" in capsys.readouterr().out
    made = json.loads(sagemaker.describe_pipeline(PipelineName="mine")["PipelineDefinition"])
    assert "CheckpointConfig" not in check(made)["Train"]
    sagemaker.create_pipeline(
        PipelineName="other", RoleArn="arn:aws:iam::123456789012:role/TrainingRole",
        PipelineDefinition="{}", ClientRequestToken="0" * 32,
        Tags=[{"Key": TAG_KEY, "Value": "another"}],
    )  # fmt: skip
    assert cli.run(["pipeline", "--name", "other", *own]) == 1
    assert "belongs to the job 'another'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["evaluation.fail_under={latency_p95_ms: 9}"], "is not measured by training"),
        (["evaluation.fail_over={ece: 0.1}"], "evaluation.fail_over"),
        (["data.split={train: 0.9, validation: 0.1, test: 0}"], "needs test rows"),
        (["training.environment={TOKEN: 'secret:hub'}"], "would have to hold the secret"),
        (["training.instances.type=ml.m5.larg"], "is no instance type"),
        (["aws.pipeline_role=mine"], "aws.pipeline_role"),
        (["target=process"], "pipelines are SageMaker's"),
    ],
)
def test_what_a_pipeline_cannot_be_is_refused_before_anything_is_sent(
    job: Path, settings: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["pipeline", *(w for each in settings for w in ("--set", each))]) == 2
    assert told in capsys.readouterr().err
    assert make_client("sagemaker").list_pipelines()["PipelineSummaries"] == []


def test_channels_of_ones_own_need_no_preparation(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    channels = "training.channels={train: 's3://my-bucket/a/', test: 's3://my-bucket/b/'}"
    options = ["--set", channels, "--set", "evaluation.fail_under={}",
               "--set", "training.compress_model=false",
               "--set", "training.restarts=2"]  # fmt: skip
    assert cli.run(["pipeline", "--dry-run", *options]) == 0
    told = capsys.readouterr()
    assert "each trained model is registered" in told.err
    assert told.err.count("training.restarts: for `train` alone; a pipeline's training") == 1
    filled = check(json.loads(json.loads(told.out)["PipelineDefinition"]))
    assert list(filled) == ["Train", "Register"]
    (container,) = filled["Register"]["InferenceSpecification"]["Containers"]
    assert container["ModelDataSource"]["S3DataSource"]["CompressionType"] == "None"
