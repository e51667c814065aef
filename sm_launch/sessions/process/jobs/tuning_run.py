"""One hyperparameter tuning job: trials are training jobs of their own, so many at a time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any

from sm_launch.errors import LaunchError
from sm_launch.job.limits import TRAINING_FINAL_STATUSES as FINAL
from sm_launch.sessions.process import uris
from sm_launch.sessions.process.base import Machine, Settings
from sm_launch.sessions.process.jobs import search
from sm_launch.sessions.process.jobs.training import TrainingJobs
from sm_launch.sessions.process.runs import POLL_SECONDS, Termination, shorten
from sm_launch.sessions.process.store import Record

_DEFAULT_TRIALS = 1

Trial = dict[str, Any]
"""A HyperParameterTrainingJobSummary."""


class TuningRun:
    """Runs the job of a record to its end; what happens is written to its state."""

    def __init__(self, record: Record, termination: Termination) -> None:
        loaded = record.read("request")
        self._record = record
        self._termination = termination
        self._definition: dict[str, Any] = loaded["request"]["TrainingJobDefinition"]
        self._config: dict[str, Any] = loaded["request"]["HyperParameterTuningJobConfig"]
        self._arn: str = record.read("state")["HyperParameterTuningJobArn"]
        settings = Settings(**loaded["settings"])
        self._jobs = TrainingJobs(Machine(record.path.parent.parent, settings))
        self._trials: list[Trial] = []

    def run(self) -> None:
        """To the end."""
        limits = self._config["ResourceLimits"]
        deadline = time.monotonic() + limits.get("MaxRuntimeInSeconds", float("inf"))
        candidates = takewhile(lambda _: not self._target_reached(), self._candidates())
        while True:
            if self._record.stop_requested or self._termination.requested:
                self._stop_trials()
                self._finish("Stopped")
                return
            if time.monotonic() > deadline:
                self._stop_trials()
                break
            room = limits["MaxParallelTrainingJobs"] - len(self._active())
            for values in islice(candidates, room):
                if problem := self._start(values):
                    self._stop_trials()
                    self._finish("Failed", reason=problem)
                    return
            if not self._active():
                break
            self._refresh()
            time.sleep(POLL_SECONDS)
        self._conclude()

    def _candidates(self) -> Iterator[search.Values]:
        ranges = self._config["ParameterRanges"]
        most = self._config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
        if self._config["Strategy"] == "Grid":
            return islice(search.grid(ranges), most)
        candidates = search.random_search(ranges, self._config.get("RandomSeed"))
        return islice(candidates, most or _DEFAULT_TRIALS)

    def _active(self) -> list[Trial]:
        return [trial for trial in self._trials if trial["TrainingJobStatus"] not in FINAL]

    def _start(self, values: search.Values) -> str | None:
        """Start a trial; returns why that was refused, if it was."""
        name = f"{self._record.name}-{len(self._trials) + 1:03d}-{uuid.uuid4().hex[:8]}"
        request = trial_request(self._definition, self._config, name, values)
        try:
            arn = self._jobs.start(request, TuningJobArn=self._arn)
        except LaunchError as error:
            return f"ClientError: training job {name} was refused: {error}"
        self._trials.append(
            {
                "TrainingJobName": name,
                "TrainingJobArn": arn,
                "CreationTime": time.time(),
                "TrainingJobStatus": "InProgress",
                "TunedHyperParameters": values,
                "ObjectiveStatus": "Pending",
            }
        )
        self._save()
        return None

    def _refresh(self) -> None:
        """Bring the trials' statuses and objectives up to date."""
        changed = False
        for trial in self._active():
            job = self._jobs.describe(TrainingJobName=trial["TrainingJobName"])
            if job["TrainingJobStatus"] != trial["TrainingJobStatus"]:
                trial.update(self._outcome(job))
                changed = True
        if changed:
            self._save()

    def _outcome(self, job: dict[str, Any]) -> Trial:
        status = job["TrainingJobStatus"]
        outcome: Trial = {"TrainingJobStatus": status}
        for key in ("TrainingStartTime", "TrainingEndTime"):
            if key in job:
                outcome[key] = job[key].timestamp()
        if "FailureReason" in job:
            outcome["FailureReason"] = job["FailureReason"]
        if status not in FINAL:
            return outcome
        objective = self._config["HyperParameterTuningJobObjective"]
        values = {
            metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", [])
        }
        if objective["MetricName"] not in values:
            return {**outcome, "ObjectiveStatus": "Failed"}
        outcome["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "Type": objective["Type"],
            "MetricName": objective["MetricName"],
            "Value": values[objective["MetricName"]],
        }
        return {**outcome, "ObjectiveStatus": "Succeeded"}

    def _best(self) -> Trial | None:
        completed = [
            trial
            for trial in self._trials
            if trial["TrainingJobStatus"] == "Completed" and trial["ObjectiveStatus"] == "Succeeded"
        ]
        maximize = self._config["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
        completed.sort(key=objective_value, reverse=maximize)
        return completed[0] if completed else None

    def _target_reached(self) -> bool:
        criteria = self._config.get("TuningJobCompletionCriteria", {})
        best = self._best()
        if "TargetObjectiveMetricValue" not in criteria or best is None:
            return False
        target, value = criteria["TargetObjectiveMetricValue"], objective_value(best)
        if self._config["HyperParameterTuningJobObjective"]["Type"] == "Maximize":
            return bool(value >= target)
        return bool(value <= target)

    def _stop_trials(self) -> None:
        for trial in self._active():
            self._jobs.stop(TrainingJobName=trial["TrainingJobName"])
        while self._active():
            self._refresh()
            time.sleep(POLL_SECONDS)

    def _conclude(self) -> None:
        if self._best() is not None:
            self._finish("Completed")
            return
        metric = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        reasons = [trial["FailureReason"] for trial in self._trials if "FailureReason" in trial]
        first = f" The first failure: {reasons[0]}" if reasons else ""
        text = f"No training job completed with the objective metric {metric!r}.{first}"
        self._finish("Failed", reason=text)

    def _save(self) -> None:
        best = self._best()
        self._record.update(trials=self._trials, BestTrainingJob=best, LastModifiedTime=time.time())

    def _finish(self, status: str, *, reason: str | None = None) -> None:
        now = time.time()
        self._record.update(
            HyperParameterTuningJobStatus=status,
            FailureReason=shorten(reason) if reason else None,
            HyperParameterTuningEndTime=now,
            LastModifiedTime=now,
        )


def objective_value(trial: Trial) -> float:
    """The final objective of a trial whose ObjectiveStatus is Succeeded."""
    value: float = trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return value


def trial_request(
    definition: dict[str, Any], config: dict[str, Any], name: str, values: search.Values
) -> dict[str, Any]:
    """The CreateTrainingJob request of one trial, as the service makes it."""
    request = {
        key: value
        for key, value in definition.items()
        if key not in {"StaticHyperParameters", "HyperParameterTuningResourceConfig"}
    }
    request["TrainingJobName"] = name
    request["HyperParameters"] = {
        **definition.get("StaticHyperParameters", {}),
        **values,
        "_tuning_objective_metric": config["HyperParameterTuningJobObjective"]["MetricName"],
    }
    if "CheckpointConfig" in definition:
        # Trials must not resume from each other's checkpoints.
        own = uris.join(definition["CheckpointConfig"]["S3Uri"], name)
        request["CheckpointConfig"] = {**definition["CheckpointConfig"], "S3Uri": own}
    return request
