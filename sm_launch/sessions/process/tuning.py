"""Hyperparameter tuning jobs: create, describe, stop, list, and their training jobs."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from sm_launch.sessions.errors import RESOURCE_IN_USE, ServiceError
from sm_launch.sessions.process import detached, search
from sm_launch.sessions.process.base import Request, Response, arn, described, page, require_command
from sm_launch.sessions.process.store import TUNING_JOBS, Record, State
from sm_launch.sessions.process.training import TrainingJobs
from sm_launch.sessions.process.tuning_run import (
    failure_of_dead_supervisor,
    objective_value,
    trial_request,
)

_STATUS = "HyperParameterTuningJobStatus"
_NAME = "HyperParameterTuningJobName"


class TuningJobs(TrainingJobs):
    """Random and grid search over training jobs."""

    def create_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Start a tuning job; it runs on after the call, and so do its training jobs.

        Raises:
            RequestError, ServiceError: the request is not one that SageMaker takes, or it asks for
                what the process target has not (Bayesian, Hyperband, warm starts, early stopping).
        """
        operation = "CreateHyperParameterTuningJob"
        self._validator.check(operation, request)
        _refuse_what_needs_aws(request, operation)
        name = request[_NAME]
        # Every trial has the same inputs: what is wrong with one shall be said now.
        config, definition = request["HyperParameterTuningJobConfig"], _definition(request)
        self._check_training_request(trial_request(definition, config, name, {}), operation)
        require_command(self._settings.train_command, operation)
        now = time.time()
        resource = arn("hyper-parameter-tuning-job", name)
        state: State = {
            "HyperParameterTuningJobArn": resource,
            _STATUS: "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
            "trials": [],
        }
        contents = self._request_file({**request, "TrainingJobDefinition": definition})
        try:
            record, lock = self._store.create(TUNING_JOBS, name, contents, state)
        except FileExistsError:
            raise ServiceError(
                f"A tuning job with this name already exists ({resource})",
                operation,
                code=RESOURCE_IN_USE,
            ) from None
        detached.start(record, lock)
        return {"HyperParameterTuningJobArn": resource}

    def describe_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Status, counters and the best training job so far."""
        operation = "DescribeHyperParameterTuningJob"
        self._validator.check(operation, request)
        record, state = self._tuning_job(request[_NAME], operation)
        created: Request = record.read("request")["request"]
        echo = {key: value for key, value in created.items() if key != "Tags"}
        return {**echo, **_counters(state["trials"]), **described(state)}

    def stop_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Stop the running training jobs and start no more."""
        operation = "StopHyperParameterTuningJob"
        self._validator.check(operation, request)
        record, state = self._tuning_job(request[_NAME], operation)
        if state[_STATUS] not in {"InProgress", "Stopping"}:
            raise ServiceError(
                f"The request was rejected because the tuning job is in status {state[_STATUS]}.",
                operation,
            )
        record.request_stop()
        return {}

    def list_hyper_parameter_tuning_jobs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""
        self._validator.check("ListHyperParameterTuningJobs", request)
        summaries = []
        for record in self._store.records(TUNING_JOBS):
            found = self._find_tuning_job(record.name)
            if found is None:
                continue
            config = record.read("request")["request"]["HyperParameterTuningJobConfig"]
            summary = {_NAME: record.name, **_counters(found[1]["trials"]), **described(found[1])}
            for inner in ("BestTrainingJob", "FailureReason"):
                summary.pop(inner, None)
            summary |= {key: config[key] for key in ("Strategy", "ResourceLimits")}
            summaries.append(summary)
        chosen, more = page(summaries, request, name_key=_NAME, status_key=_STATUS)
        return {"HyperParameterTuningJobSummaries": chosen, **more}

    def list_training_jobs_for_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """The trials with their values and objectives, filtered and sorted as asked."""
        operation = "ListTrainingJobsForHyperParameterTuningJob"
        self._validator.check(operation, request)
        _, state = self._tuning_job(request[_NAME], operation)
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

    def _find_tuning_job(self, name: str) -> tuple[Record, State] | None:
        found = self._find(
            TUNING_JOBS, name, status_key=_STATUS, failure=lambda _: failure_of_dead_supervisor()
        )
        if found and found[1][_STATUS] == "InProgress" and found[0].stop_requested:
            found[1][_STATUS] = "Stopping"
        return found

    def _tuning_job(self, name: str, operation: str) -> tuple[Record, State]:
        found = self._find_tuning_job(name)
        if found is None:
            raise ServiceError(
                f"Amazon SageMaker can't find a tuning job with the name {name!r}.",
                operation,
                code="ResourceNotFound",
            )
        return found


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
