"""A job.yaml as a SageMaker Pipeline: prepare, train, gate, register.

Source of the definition's form: SageMaker Pipelines, "Pipeline definition JSON schema", version
2020-12-01. Steps take the requests of the jobs that they start, without the jobs' names; what is
known only when the pipeline runs stands in them as `Get` or `Std:Join`.

The gate is held against the metrics that training itself measures on the test rows: they are those
of `sm-launch evaluate` (which compares both), and cost no second instance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.aws.paging import every
from sm_launch.errors import UserInputError
from sm_launch.hosting import registry
from sm_launch.job import naming
from sm_launch.job.config import JobConfig
from sm_launch.jobs import data_preparation, processing, training
from sm_launch.target import ownership
from sm_launch.target.checking import refuse_secrets
from sm_launch.target.context import JobContext
from sm_launch.target.data_sets import channels_of
from sm_launch.target.reach import NOWHERE

VERSION = "2020-12-01"
PREPARE, TRAIN, GATE, REGISTER, REFUSE = "Prepare", "Train", "Gate", "Register", "BelowTheGate"
# What the evaluation and the training's test metrics call the same, macro averages by short names.
MEASURED = ("accuracy", "exact_match", "f1", "mae", "precision", "recall")

_EXECUTION = {"Get": "Execution.PipelineExecutionId"}
_PREPARED = f"{NOWHERE}/prepared"
_CHECKPOINTS = f"{NOWHERE}/checkpoints"
_JOB = "arn:aws:sagemaker:us-east-1:000000000000:training-job/pipeline"
# Of an archive and of a prefix, which CreateModel takes in different fields.
_MODEL = {True: f"{NOWHERE}/model.tar.gz", False: f"{NOWHERE}/model/"}
Gates = Mapping[tuple[str, bool], float]
"""Training's metric, and whether the limit is one from above, to the limit."""


@dataclass(frozen=True)
class Pipeline:
    """What is written or sent.

    Attributes:
        name: of the pipeline.
        definition: the document.
        request: CreatePipeline, with the definition as JSON.
        group: CreateModelPackageGroup of the group that the last step registers in.
    """

    name: str
    definition: dict[str, Any]
    request: naming.Request
    group: naming.Request

    def write(self, file: Path) -> None:
        """The definition, for another tool to make the pipeline of."""
        file.write_text(json.dumps(self.definition, indent=2) + "\n", encoding="utf-8")


def prepare(context: JobContext, *, name: str | None = None, upload: bool = True) -> Pipeline:
    """The pipeline of a job.yaml.

    Args:
        context: the job, on SageMaker.
        name: of the pipeline; default: job.yaml's.
        upload: send data and code to S3; False only names their places.

    Raises:
        UserInputError: a local target, a gate that training does not measure, or anything that
            the job's own requests are refused for.
    """
    if not context.on_aws:
        raise UserInputError(
            f"pipelines are SageMaker's, and the target {context.target} has none",
            field="--target",
            value=context.target,
            fix="give --target sagemaker",
        )
    config, name = context.config, name or context.config.name
    gates = _gates(config)
    refuse_secrets(config, "a pipeline's definition")
    training.tell_price(context, None)
    planned = _planned(context, name, gates, upload=False)  # refused before anything is sent
    return _planned(context, name, gates, upload=True) if upload else planned


def _planned(context: JobContext, name: str, gates: Gates, *, upload: bool) -> Pipeline:
    config = context.config
    prepared = _processing(context, upload=upload)
    trained = _training(context, prepared is not None, upload=upload)
    if gates:
        _require_test_rows(trained)
    else:
        context.warn("evaluation has no gate (fail_under): each trained model is registered")
    if upload and not config.aws.pipeline_role:
        context.warn("aws.pipeline_role is not set: the pipeline starts its jobs with "
                     "aws.training_role, which must be allowed to (`sm-launch setup` makes a role "
                     "for it)")  # fmt: skip
    package = _package(context, name)
    group = registry.group_request(config, package["ModelPackageGroupName"])
    definition = _definition(config, prepared, trained, package, gates)
    request: naming.Request = {
        "PipelineName": name,
        "PipelineDefinition": json.dumps(definition),
        "RoleArn": config.aws.pipeline_role or context.training_role,
        "Tags": naming.tags(config),
    }
    context.check(
        *([("CreateProcessingJob", prepared.request)] if prepared else []),
        ("CreateTrainingJob", trained),
        ("CreateModelPackageGroup", group),
        ("CreateModelPackage", package),
        ("CreatePipeline", {**request, "ClientRequestToken": "0" * 32}),
    )
    return Pipeline(name, definition, request, group)


def _package(context: JobContext, name: str) -> naming.Request:
    config = context.config
    told = {"sm-launch:job": config.name, "sm-launch:pipeline": name,
            "method": config.training.method}  # fmt: skip
    inputs = registry.PackageInputs(
        model_data=_MODEL[config.training.compress_model],
        image=context.serving_image,
        approval=config.registry.approval,
        description=f"{config.name}, by the pipeline {name}",
        lineage={"GeneratedBy": _JOB},
        properties=told,
    )
    return registry.package_request(config, registry.group_of(config), inputs)


def upsert(context: JobContext, pipeline: Pipeline, *, adopt: bool = False) -> tuple[str, bool]:
    """Make the pipeline, or give the one of that name the new definition.

    Returns:
        Its ARN, and whether it is new.

    Raises:
        LaunchError: a pipeline or group of that name is another job's.
    """
    session: Any = context.session
    group = str(pipeline.group["ModelPackageGroupName"])
    former = _arn(session, pipeline.name)
    if former and adopt:
        ownership.adopt(session, former, context.config)
    elif former:
        ownership.require_own(session, "pipeline", pipeline.name, former, context.config)
    if not registry.exists(session, group):
        session.create_model_package_group(**pipeline.group)
    elif adopt:
        registry.adopt(context, group)
    else:
        registry.require_own(context, group, consent="take it over with --adopt")
    if former is None:
        return str(session.create_pipeline(**pipeline.request)["PipelineArn"]), True
    kept = {key: value for key, value in pipeline.request.items() if key != "Tags"}
    return str(session.update_pipeline(**kept)["PipelineArn"]), False


def _arn(session: Any, name: str) -> str | None:
    listed = every(session.list_pipelines, "PipelineSummaries", PipelineNamePrefix=name)
    return next((each["PipelineArn"] for each in listed if each["PipelineName"] == name), None)


def _gates(config: JobConfig) -> dict[tuple[str, bool], float]:
    wanted = config.evaluation
    gates = {}
    for section, at_most in ((wanted.fail_under, False), (wanted.fail_over, True)):
        for metric, limit in section.items():
            short = metric.removesuffix("_macro")
            if short not in MEASURED:
                raise UserInputError(
                    "is not measured by training, which the pipeline's gate goes by",
                    field=f"evaluation.{'fail_over' if at_most else 'fail_under'}",
                    value=metric,
                    fix=f"hold a pipeline to {', '.join(MEASURED)}; `--set` takes another gate out",
                )
            gates[f"test:{short}", at_most] = limit
    return gates


def _processing(context: JobContext, *, upload: bool) -> data_preparation.Processing | None:
    """The preparation of raw data; None where job.yaml names the channels."""
    if context.config.data is None or context.config.training.channels:
        return None
    return data_preparation.prepare_processing(context, upload=upload)


def _training(context: JobContext, prepared: bool, *, upload: bool) -> naming.Request:
    """CreateTrainingJob, with stand-ins for what an execution fills in."""
    config = context.config
    if config.matrix is not None:
        context.warn("matrix is passed over: a pipeline trains one model")
    training.tell_single_try(context, "a pipeline's training runs")
    locations = processing.channels(config, _PREPARED) if prepared else None
    request = training.request_of(
        context, context.stage(upload=upload), "pipeline", locations=locations
    )
    request.pop("CheckpointConfig", None)
    if config.training.spot or config.training.checkpoints:
        request["CheckpointConfig"] = {"S3Uri": _CHECKPOINTS}
    return request


def _require_test_rows(request: naming.Request) -> None:
    channels = {each["ChannelName"] for each in request.get("InputDataConfig", [])}
    if not channels_of(channels, "test"):
        raise UserInputError(
            "needs test rows, which training measures the gate on",
            field="evaluation.fail_under",
            fix="keep a share of the data with data.split.test, or name a channel test",
        )


def _definition(
    config: JobConfig,
    prepared: data_preparation.Processing | None,
    trained: naming.Request,
    package: naming.Request,
    gates: Gates,
) -> dict[str, Any]:
    output = str(trained["OutputDataConfig"]["S3OutputPath"])
    model = {"Get": f"Steps.{TRAIN}.ModelArtifacts.S3ModelArtifacts"}
    late: dict[str, Any] = {
        _MODEL[config.training.compress_model]: model,
        _JOB: {"Get": f"Steps.{TRAIN}.TrainingJobArn"},
        _CHECKPOINTS: _joined(f"{output.rstrip('/')}/checkpoints", _EXECUTION),
    }
    steps = []
    if prepared is not None:
        place = prepared.output.rpartition("/")[0]
        late[prepared.output] = _joined(place, _EXECUTION)
        written = {
            "Get": f"Steps.{PREPARE}.ProcessingOutputConfig.Outputs['prepared'].S3Output.S3Uri"
        }
        for uri in processing.channels(config, _PREPARED).values():
            late[uri] = _joined(written, uri.removeprefix(f"{_PREPARED}/"))
        steps.append(_step(PREPARE, "Processing", prepared.request, late))
    steps.append(_step(TRAIN, "Training", trained, late))
    metrics = {f"test-{metric[5:]}": _text(_metric(metric)) for metric, _ in gates}
    told = {**package["CustomerMetadataProperties"], **metrics}
    register = _step(
        REGISTER, "RegisterModel", {**package, "CustomerMetadataProperties": told}, late
    )
    steps.append(_gate(gates, register) if gates else register)
    return {
        "Version": VERSION,
        "Metadata": {"sm-launch:job": config.name},
        "Parameters": [],
        "PipelineExperimentConfig": {
            "ExperimentName": {"Get": "Execution.PipelineName"},
            "TrialName": {"Get": "Execution.PipelineExecutionId"},
        },
        "Steps": steps,
    }


def _step(name: str, kind: str, request: naming.Request, late: Mapping[str, Any]) -> dict[str, Any]:
    """A step that starts what the request asks for; the pipeline names it."""
    named = ("TrainingJobName", "ProcessingJobName")
    arguments = {key: _filled(value, late) for key, value in request.items() if key not in named}
    return {"Name": name, "Type": kind, "Arguments": arguments}


def _filled(value: Any, late: Mapping[str, Any]) -> Any:
    """A request in which stand-ins have given way to what the pipeline knows later."""
    if isinstance(value, dict):
        return {key: _filled(item, late) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, late) for item in value]
    return late.get(value, value) if isinstance(value, str) else value


def _joined(*parts: Any) -> dict[str, Any]:
    return {"Std:Join": {"On": "/", "Values": list(parts)}}


def _text(value: Any) -> dict[str, Any]:
    """A number as the text that a property wants."""
    return {"Std:Join": {"On": "", "Values": [value]}}


def _metric(name: str) -> dict[str, str]:
    return {"Get": f"Steps.{TRAIN}.FinalMetricDataList['{name}'].Value"}


def _gate(gates: Gates, register: Mapping[str, Any]) -> dict[str, Any]:
    """All of the limits, or the execution fails and says which they were."""
    conditions = [
        {
            "Type": "LessThanOrEqualTo" if at_most else "GreaterThanOrEqualTo",
            "LeftValue": _metric(metric),
            "RightValue": limit,
        }
        for (metric, at_most), limit in gates.items()
    ]
    told: list[Any] = ["the model does not reach the demanded quality:"]
    for (metric, at_most), limit in gates.items():
        told += [f"{metric} =", _metric(metric), f"{'<=' if at_most else '>='} {limit:g}"]
    failure = {
        "Name": REFUSE,
        "Type": "Fail",
        "Arguments": {"ErrorMessage": {"Std:Join": {"On": " ", "Values": told}}},
    }
    return {
        "Name": GATE,
        "Type": "Condition",
        "Arguments": {"Conditions": conditions, "IfSteps": [register], "ElseSteps": [failure]},
    }
