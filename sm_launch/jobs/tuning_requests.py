"""CreateHyperParameterTuningJob, as a pure function of job.yaml and its training request."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job import limits, naming
from sm_launch.job.config import JobConfig
from sm_launch.job.hyperparameters import check_hyperparameters, is_integer, metric_definitions
from sm_launch.job.passthrough import members, merged
from sm_launch.job.sweep import Range, Sweep
from sm_launch.job.training import HyperparameterValue
from sm_launch.jobs import requests

Request = naming.Request
_SCALES = {
    "auto": "Auto",
    "linear": "Linear",
    "log": "Logarithmic",
    "reverse-log": "ReverseLogarithmic",
}
# What a trial has of a training request, and what it has not.
_NOT_IN_TRIALS = ("TrainingJobName", "HyperParameters", "Tags", "TensorBoardOutputConfig")


def unique_name(base: str, now: datetime | None = None) -> str:
    """A tuning job's name; SageMaker allows it 32 characters only."""
    return naming.unique_name(base, now, length=limits.TUNING_NAME_LENGTH)


def require_sweep(config: JobConfig) -> Sweep:
    """The sweep of job.yaml, with everything checked that needs no machine.

    Raises:
        UserInputError: there is none, or it names hyperparameters, values or a metric that the
            training method does not know.
    """
    sweep = config.sweep
    if sweep is None:
        raise UserInputError(
            "is missing in job.yaml",
            field="sweep",
            fix="name what to vary, such as sweep: {parameters: {learning_rate: "
            "{min: 1e-5, max: 1e-4, scale: log}}}",
        )
    _require_metric(config, sweep)
    fixed = config.training.hyperparameters
    method = config.training.method
    for name, values in sweep.parameters.items():
        for value in [values.min, values.max] if isinstance(values, Range) else values:
            check_hyperparameters(method, {**fixed, name: _settled(method, name, value)})
    return sweep


def create_tuning_job(config: JobConfig, name: str, training: Request) -> Request:
    """CreateHyperParameterTuningJob.

    Args:
        config: its `sweep` says what to vary.
        name: of the tuning job.
        training: the CreateTrainingJob request of a single training.

    Raises:
        UserInputError: the sweep names what does not exist.
    """
    sweep = require_sweep(config)
    _require_fields_of_trials(config)
    definition = {key: value for key, value in training.items() if key not in _NOT_IN_TRIALS}
    definition["StaticHyperParameters"] = {
        key: value
        for key, value in training["HyperParameters"].items()
        if key not in sweep.parameters
    }
    request: Request = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": _search(config, sweep),
        "TrainingJobDefinition": definition,
        "Tags": training["Tags"],
    }
    return merged(request, config.sagemaker.tuning)


def _require_fields_of_trials(config: JobConfig) -> None:
    """Raise UserInputError for a field of a training that the trainings of a sweep do not have."""
    given = {name: v for name, v in config.sagemaker.training.items() if v is not None}
    foreign = given and sorted(given.keys() - members("HyperParameterTrainingJobDefinition"))
    if foreign:
        raise UserInputError(
            "the trainings of a sweep have no such field",
            field=f"sagemaker.training.{foreign[0]}",
            value=given[foreign[0]],
            fix=f"--set sagemaker.training.{foreign[0]}=null leaves it out of the sweep",
        )


def _search(config: JobConfig, sweep: Sweep) -> Request:
    resources: Request = {"MaxParallelTrainingJobs": min(sweep.max_parallel_jobs, sweep.job_count)}
    if sweep.strategy != "grid":  # a grid's size follows from its values
        resources["MaxNumberOfTrainingJobs"] = sweep.max_jobs
    if sweep.max_runtime_seconds:
        resources["MaxRuntimeInSeconds"] = sweep.max_runtime_seconds
    request: Request = {
        "Strategy": sweep.strategy.title(),
        "HyperParameterTuningJobObjective": {
            "Type": sweep.goal.title(),
            "MetricName": sweep.objective,
        },
        "ResourceLimits": resources,
        "ParameterRanges": _ranges(config.training.method, sweep),
    }
    if sweep.early_stopping:
        request["TrainingJobEarlyStoppingType"] = "Auto"
    if sweep.target is not None:
        request["TuningJobCompletionCriteria"] = {"TargetObjectiveMetricValue": sweep.target}
    if sweep.seed is not None:
        request["RandomSeed"] = sweep.seed
    return request


def _ranges(method: str, sweep: Sweep) -> Request:
    ranges: dict[str, list[Request]] = {}
    for name, values in sweep.parameters.items():
        if isinstance(values, Range):
            kind = "Integer" if is_integer(method, name) else "Continuous"
            ends = (_settled(method, name, values.min), _settled(method, name, values.max))
            entry: Request = {
                "Name": name,
                "MinValue": str(ends[0]),
                "MaxValue": str(ends[1]),
                "ScalingType": _SCALES[values.scale],
            }
        else:
            kind = "Categorical"
            encoded = [requests.encode_hyperparameters({name: value})[name] for value in values]
            entry = {"Name": name, "Values": encoded}
        ranges.setdefault(f"{kind}ParameterRanges", []).append(entry)
    return ranges


def _settled(method: str, name: str, value: Any) -> HyperparameterValue:
    """The value with the type that the hyperparameter has: a range's ends are read as floats."""
    if isinstance(value, float) and value.is_integer() and is_integer(method, name):
        return int(value)
    settled: HyperparameterValue = value
    return settled


def _require_metric(config: JobConfig, sweep: Sweep) -> None:
    training = config.training
    definitions = metric_definitions(training.method, training.hyperparameters)
    known = [each["Name"] for each in definitions]
    if sweep.objective not in known:
        raise UserInputError(
            f"is no metric that the method {training.method} logs",
            field="sweep.objective",
            value=sweep.objective,
            fix=f"choose one of {', '.join(known)}",
        )
