"""Hyperparameter tuning jobs: create, describe, stop, list, and their training jobs."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import store
from sm_launch.sessions.process.base import Machine, Request, Response, described, page
from sm_launch.sessions.process.jobs import search
from sm_launch.sessions.process.jobs.training import TrainingJobs
from sm_launch.sessions.process.jobs.tuning_run import objective_value, trial_request
from sm_launch.sessions.process.resources import Jobs
from sm_launch.sessions.process.store import Record, State


class TuningJobs(Jobs):
    """Random and grid search over training jobs."""

    directory = store.TUNING_JOBS
    resource = "hyper-parameter-tuning-job"
    word = "tuning job"
    prefix = "HyperParameterTuningJob"
    listed = "HyperParameterTuningJobSummaries"
    summary = ("HyperParameterTuningJobStatus", "CreationTime", "LastModifiedTime",
               "HyperParameterTuningEndTime")  # fmt: skip
    end = ("HyperParameterTuningEndTime", "LastModifiedTime")
    after_death = ". Training jobs that it had started run on."
    missing = ("Amazon SageMaker can't find a tuning job with the name {name!r}.",
               "ResourceNotFound")  # fmt: skip

    def __init__(self, machine: Machine, training: TrainingJobs) -> None:
        super().__init__(machine)
        self._training = training

    def create(self, **request: Any) -> Response:
        """Start a tuning job; it runs on after the call, and so do its training jobs.

        Raises:
            RequestError, ServiceError: the request is not one that SageMaker takes, or it asks for
                what the process target has not (Bayesian, Hyperband, warm starts, early stopping).
        """
        operation = "CreateHyperParameterTuningJob"
        self._machine.validator.check(operation, request)
        _refuse_what_needs_aws(request, operation)
        # Every trial has the same inputs: what is wrong with one shall be said now.
        config, definition = request["HyperParameterTuningJobConfig"], _definition(request)
        self._training.check(
            trial_request(definition, config, request[self.name_key], {}), operation
        )
        state = {"LastModifiedTime": time.time(), "trials": []}
        started = self.begin({**request, "TrainingJobDefinition": definition}, {}, state)
        return {"HyperParameterTuningJobArn": started}

    def description(self, record: Record, state: State) -> Response:
        """With counters of the training jobs."""
        return {**super().description(record, state), **_counters(state["trials"])}

    def summarize(self, record: Record, state: State) -> Response:
        """Likewise, and with how it searches."""
        config = record.read("request")["request"]["HyperParameterTuningJobConfig"]
        return {
            **super().summarize(record, state),
            **_counters(state["trials"]),
            **{key: config[key] for key in ("Strategy", "ResourceLimits")},
        }

    def trials(self, **request: Any) -> Response:
        """The training jobs with their values and objectives, filtered and sorted as asked."""
        operation = "ListTrainingJobsForHyperParameterTuningJob"
        self._machine.validator.check(operation, request)
        _, state = self.get(request[self.name_key], operation)
        trials = [described(trial) for trial in state["trials"]]
        by_objective = request.get("SortBy") == "FinalObjectiveMetricValue"
        if by_objective:
            trials = [trial for trial in trials if trial["ObjectiveStatus"] == "Succeeded"]
        chosen, more = page(
            trials,
            request,
            name_key="TrainingJobName",
            status_key="TrainingJobStatus",
            sort_key=objective_value if by_objective else None,
        )
        return {"TrainingJobSummaries": chosen, **more}


def _definition(request: Request) -> Request:
    """TrainingJobDefinition with a ResourceConfig, whichever way that was given."""
    definition: Request = request["TrainingJobDefinition"]
    if "HyperParameterTuningResourceConfig" not in definition:
        return definition
    given = definition["HyperParameterTuningResourceConfig"]
    first = {**given, **given.get("InstanceConfigs", [{}])[0]}
    keys = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")
    return {**definition, "ResourceConfig": {key: first[key] for key in keys if key in first}}


def _counters(trials: list[State]) -> Response:
    status = Counter(trial["TrainingJobStatus"] for trial in trials)
    objective = Counter(trial["ObjectiveStatus"] for trial in trials)
    return {
        "TrainingJobStatusCounters": {
            "Completed": status["Completed"],
            "InProgress": status["InProgress"] + status["Stopping"],
            "RetryableError": 0,
            "NonRetryableError": status["Failed"],
            "Stopped": status["Stopped"],
        },
        "ObjectiveStatusCounters": {
            key: objective[key] for key in ("Succeeded", "Pending", "Failed")
        },
    }


def _refuse_what_needs_aws(request: Request, operation: str) -> None:
    problem = _problem_with_job(request) or _problem_with_search(
        request["HyperParameterTuningJobConfig"], request.get("TrainingJobDefinition", {})
    )
    if problem:
        raise ServiceError(problem, operation)


def _problem_with_job(request: Request) -> str | None:
    for key in ("WarmStartConfig", "Autotune", "TrainingJobDefinitions"):
        if key in request:
            return f"the process target has no {key}"
    if "TrainingJobDefinition" not in request:
        return "TrainingJobDefinition is missing"
    definition = request["TrainingJobDefinition"]
    for key in ("HyperParameterRanges", "TuningObjective", "DefinitionName"):
        if key in definition:
            return f"TrainingJobDefinition.{key} belongs to TrainingJobDefinitions"
    return None


def _problem_with_search(config: Request, definition: Request) -> str | None:
    strategy = config["Strategy"]
    if strategy not in {"Random", "Grid"}:
        return f"the process target searches with Strategy Random or Grid, not {strategy}"
    if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        return "the process target does not stop trials early: TrainingJobEarlyStoppingType Off"
    unknown = set(config.get("TuningJobCompletionCriteria", {})) - {"TargetObjectiveMetricValue"}
    if unknown:
        return f"the process target has no TuningJobCompletionCriteria.{min(unknown)}"
    if "AutoParameters" in config.get("ParameterRanges", {}):
        return "the process target has no ParameterRanges.AutoParameters"
    if "HyperParameterTuningJobObjective" not in config:
        return "HyperParameterTuningJobObjective is missing"
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    definitions = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    defined = [each["Name"] for each in definitions]
    if metric not in defined:
        return f"the objective metric {metric!r} is none of the MetricDefinitions: {defined}"
    ranges = config.get("ParameterRanges", {})
    static = definition.get("StaticHyperParameters", {})
    both = [
        parameter["Name"]
        for kind in ranges.values()
        for parameter in kind
        if parameter["Name"] in static
    ]
    if both:
        return f"{both[0]!r} is both in StaticHyperParameters and in ParameterRanges"
    return search.problem_with(ranges, strategy)
