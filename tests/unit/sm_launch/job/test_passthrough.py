"""Any field of SageMaker's requests from job.yaml: checked, merged last, told where it is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from pydantic import ValidationError

from sm_launch.aws.service_model import service_model
from sm_launch.errors import UserInputError
from sm_launch.hosting import component_requests, registry
from sm_launch.hosting import requests as hosting
from sm_launch.hosting.variants import TransformInputs
from sm_launch.job import limits
from sm_launch.job.config import JobConfig, load_config
from sm_launch.job.naming import LOCAL_ROLE
from sm_launch.job.passthrough import Passthrough, merged
from sm_launch.jobs import processing, training, tuning_requests
from sm_launch.sessions.validation import RequestValidator
from sm_launch.target.context import open_context

pytestmark = pytest.mark.slow  # botocore's service model is read

IMAGE = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/sm:1"


def job(**sections: Any) -> JobConfig:
    document = {"name": "mine", "target": "sagemaker", "training": {"image": IMAGE}, **sections}
    document |= {"aws": {"training_role": LOCAL_ROLE, "region": "eu-west-1"}}
    return JobConfig.model_validate({"data": {"input": "a.csv"}, **document})


def test_every_request_gets_its_fields() -> None:
    fields: dict[str, Any] = {
        "training": {"RemoteDebugConfig": {"EnableRemoteDebug": True},
                     "ResourceConfig": {"TrainingPlanArn": "arn:plan"}},
        "tuning": {"Autotune": {"Mode": "Enabled"}},
        "model": {"InferenceExecutionConfig": {"Mode": "Direct"}},
        "endpoint_config": {"ProductionVariants": [{"EnableSSMAccess": True}]},
        "endpoint": {"DeploymentConfig": {"AutoRollbackConfiguration": {
            "Alarms": [{"AlarmName": "a"}]}}},
        "component": {"Specification": {"ComputeResourceRequirements": {
            "MaxMemoryRequiredInMb": 9000}}},
        "transform": {"ModelClientConfig": {"InvocationsMaxRetries": 1}},
        "processing": {"ProcessingResources": {"ClusterConfig": {"InstanceCount": 2}}},
        "model_package": {"ModelLifeCycle": {"Stage": "Staging", "StageStatus": "Ready"}},
    }  # fmt: skip
    assert set(fields) == set(Passthrough.model_fields) == set(Passthrough.OPERATIONS)
    parameters = {"learning_rate": [1e-5]}
    config = job(
        sagemaker=fields,
        endpoint={"components": {}},
        sweep={"parameters": parameters, "strategy": "grid", "objective": "eval:loss"},
    )
    plain = job(sagemaker={**fields, "training": {}}, sweep=config.sweep)
    made: dict[str, dict[str, Any]] = {
        "training": training.example_request(open_context(config)),
        "tuning": _tuned(plain),
        "component": component_requests.create_base(config, "e", "m", None),
        "model": hosting.create_model(config, "m", model_data="s3://b/m.tar.gz", image="i"),
        "endpoint_config": hosting.create_endpoint_config(config, "c", "m"),
        "endpoint": hosting.create_endpoint(config, "e", "c"),
        "transform": hosting.create_transform_job(
            config, "t", "m", TransformInputs("s3://b/i", "s3://b/o", "text/csv")
        ),
        "processing": processing.build_request(
            config, "p", processing.ProcessingInputs({}, "s3://b/o", "i", "r")
        ),
        "model_package": registry.package_request(
            config, "g", registry.PackageInputs("s3://b/m.tar.gz", IMAGE, "pending")
        ),
    }
    for section, request in made.items():
        assert merged(request, fields[section]) == request, section
    resources = made["training"]["ResourceConfig"]
    assert resources["TrainingPlanArn"] == "arn:plan"
    assert resources["InstanceType"] == config.training.instances.type
    (variant,) = made["endpoint_config"]["ProductionVariants"]
    assert variant["EnableSSMAccess"] is True
    updated = component_requests.update_base(config, "e", "m", None)
    assert merged(updated, fields["component"]) == updated
    assert updated["Specification"]["ModelName"] == "m"


def test_lists_are_merged_by_the_names_of_their_entries() -> None:
    before = {"Channels": [{"ChannelName": "train", "Source": {"Uri": "s3://a", "Kind": "x"}},
                           {"ChannelName": "test"}], "Plain": [1]}  # fmt: skip
    extra = {"Channels": [{"ChannelName": "train", "Source": {"Kind": "ShardedByS3Key"}},
                          {"ChannelName": "more"}, {"InputMode": "File"}],
             "Plain": [2]}  # fmt: skip
    assert merged(before, extra) == {
        "Channels": [
            {"ChannelName": "train", "Source": {"Uri": "s3://a", "Kind": "ShardedByS3Key"},
             "InputMode": "File"},
            {"ChannelName": "test", "InputMode": "File"},
            {"ChannelName": "more", "InputMode": "File"},
        ],
        "Plain": [2],
    }  # fmt: skip
    assert before["Channels"][0]["Source"] == {"Uri": "s3://a", "Kind": "x"}
    assert merged({"A": {"B": 1, "C": 2}}, {"A": {"B": None}, "D": {"E": None, "F": 1}}) == {
        "A": {"C": 2}, "D": {"F": 1}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("section", "fields", "told"),
    [
        ("training", {"RemoteDebugConfg": {}}, "did you mean RemoteDebugConfig"),
        ("training", {"remote_debug_config": {}}, "did you mean RemoteDebugConfig"),
        ("training", {"ResourceConfig": {"TrainingPlanARN": "x"}}, "did you mean TrainingPlanArn"),
        ("training", {"InputDataConfig": [{"ChanelName": "x"}]}, r"InputDataConfig\.0\.ChanelName"),
        ("training", {"ResourceConfig": {"InstanceCount": "2"}}, "of the type integer"),
        ("training", {"ResourceConfig": {"InstanceCount": True}}, "of the type integer"),
        ("model", {"Containers": {}}, "of the type list"),
        ("endpoint", {"zzz": 1}, "known are EndpointName"),
        (
            "endpoint_config",
            {"ProductionVariants": [{"VariantName": "a", "RoutingConfg": {}}]},
            r"ProductionVariants\.0\.RoutingConfg; did you mean RoutingConfig",
        ),
        (
            "training",
            {"InputDataConfig": [{"DataSource": {"S3DataSource": {"S3DataTyp": "x"}}}]},
            r"0\.DataSource\.S3DataSource\.S3DataTyp; did you mean S3DataType",
        ),
        (
            "training",
            {"ResourceConfig": {"InstanceGroups": [{}, {"InstanceTypes": "x"}]}},
            r"InstanceGroups\.1\.InstanceTypes; did you mean InstanceType",
        ),
        ("training", {"InputDataConfig": ["train"]}, r"InputDataConfig\.0 must be of the type"),
        ("tuning", {"TrainingJobDefinition": {}}, r"sagemaker\.training"),
        (
            "tuning",
            {"HyperParameterTuningJobConfig": {"ResourceLimits": {"MaxNumberOfTrainingJobs": 9}}},
            r"sweep\.max_jobs",
        ),
        ("component", {"InferenceComponentName": "x"}, "launcher gives"),
        ("transform", {"TransformJobName": "x"}, "launcher gives TransformJobName"),
        ("processing", {"Tags": None}, limits.TAG_KEY),
        ("endpoint_config", {"Tags": [{"Key": limits.TAG_KEY, "Value": "x"}]}, limits.TAG_KEY),
    ],
)
def test_misspelt_fields_and_wrong_types_are_named(
    section: str, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        Passthrough.model_validate({section: fields})


@pytest.fixture
def newer_botocore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service model in which each request has a field, and a list's entries one, of tomorrow."""
    former = json.loads(json.dumps(Loader().load_service_model("sagemaker", "service-2")))
    operations = [*(Passthrough.OPERATIONS[name] for name in Passthrough.OPERATIONS)]
    places = [former["operations"][name]["input"]["shape"] for name in operations]
    for shape in (*places, "Channel", "ProductionVariant", "UpdateInferenceComponentInput"):
        former["shapes"][shape]["members"]["OfTomorrow"] = {"shape": "NewConfig"}
    of_text = {"Mode": {"shape": "String1024"}}
    former["shapes"]["NewConfig"] = {"type": "structure", "members": of_text}
    place = tmp_path / "sagemaker" / "2099-01-01"
    place.mkdir(parents=True)
    (place / "service-2.json").write_text(json.dumps(former))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    service_model.cache_clear()
    yield
    service_model.cache_clear()


@pytest.mark.usefixtures("newer_botocore")
def test_a_field_of_a_newer_botocore_works_in_every_request() -> None:
    field = {"OfTomorrow": {"Mode": "on"}}
    fields: dict[str, Any] = {section: dict(field) for section in Passthrough.OPERATIONS}
    fields["training"]["InputDataConfig"] = [{"ChannelName": "train", **field}]
    config = job(sagemaker=fields, endpoint={"components": {}})
    validator = RequestValidator("sagemaker")
    request = training.example_request(open_context(config))
    validator.check("CreateTrainingJob", request)
    assert request["OfTomorrow"] == {"Mode": "on"}
    assert request["InputDataConfig"][0]["OfTomorrow"] == {"Mode": "on"}
    component = component_requests.create_base(config, "e", "m", None)
    validator.check("CreateInferenceComponent", component)
    updated = component_requests.update_base(config, "e", "m", None)
    validator.check("UpdateInferenceComponent", updated)
    assert component["OfTomorrow"] == updated["OfTomorrow"] == {"Mode": "on"}
    with pytest.raises(ValidationError, match="OfTomorow; did you mean OfTomorrow"):
        Passthrough.model_validate({"model": {"OfTomorow": {}}})


def test_the_command_line_sets_a_field_too(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: m\n")
    override = "sagemaker.training.InfraCheckConfig.EnableInfraCheck=true"
    config = load_config(tmp_path / "job.yaml", (override,))
    assert config.sagemaker.training == {"InfraCheckConfig": {"EnableInfraCheck": True}}
    with pytest.raises(UserInputError, match="did you mean InfraCheckConfig"):
        load_config(tmp_path / "job.yaml", ("sagemaker.training.InfraChekConfig={}",))


def test_a_local_target_names_what_it_passes_over_once() -> None:
    told: list[str] = []
    given = {"training": {"RemoteDebugConfig": {}}, "model": {"EnableNetworkIsolation": True}}
    config = job(target="process", sagemaker=given)
    context = open_context(config, notify=lambda message, *, warning=False: told.append(message))
    for _ in range(2):
        training.check_early(context)
    assert context.config.sagemaker == Passthrough()
    assert "RemoteDebugConfig" not in training.example_request(context)
    (line,) = told
    assert line.startswith("sagemaker.training.RemoteDebugConfig: ")
    assert "process" in line


def test_a_sweep_refuses_what_its_trainings_do_not_have() -> None:
    sweep = {"parameters": {"learning_rate": [1e-5]}, "strategy": "grid", "objective": "eval:loss"}
    wrong = job(sweep=sweep, sagemaker={"training": {"RemoteDebugConfig": {}}})
    right = job(sweep=sweep, sagemaker={"training": {"ResourceConfig": {"TrainingPlanArn": "a"}}})
    with pytest.raises(UserInputError, match=r"sagemaker\.training\.RemoteDebugConfig"):
        _tuned(wrong)
    definition = _tuned(right)["TrainingJobDefinition"]
    assert definition["ResourceConfig"]["TrainingPlanArn"] == "a"


def _tuned(config: JobConfig) -> dict[str, Any]:
    single = training.example_request(open_context(config))
    return tuning_requests.create_tuning_job(config, "t", single)
