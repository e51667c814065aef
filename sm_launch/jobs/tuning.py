"""Tuning jobs: submit the request, follow it to its end, rank the trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sm_launch.aws.causes import explain_failure
from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError
from sm_launch.job import limits, naming
from sm_launch.jobs import training, tuning_requests
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target.context import JobContext

Description = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        job: name of its training job.
        status: TrainingJobStatus.
        values: what was tuned.
        objective: the final value of the objective; None where there is none (yet).
        seconds: how long it trained; None while it runs.
        reason: why it failed; empty otherwise.
    """

    job: str
    status: str
    values: dict[str, str]
    objective: float | None
    seconds: float | None
    reason: str


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        name: the tuning job.
        status: HyperParameterTuningJobStatus.
        metric: name of the objective.
        direction: Minimize or Maximize.
        trials: best first; those without an objective last.
        best_job: training job of the best trial; None where no trial has an objective.
    """

    name: str
    status: str
    metric: str
    direction: str
    trials: tuple[Trial, ...]
    best_job: str | None

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def prepare(
    context: JobContext, *, max_cost: float | None = None, upload: bool = True
) -> naming.Request:
    """Check, price and stage a sweep; its CreateHyperParameterTuningJob request under a new name.

    Takes the arguments of `training.prepare` and raises its errors.
    """
    settings = tuning_requests.require_sweep(context.config)
    training.check_early(context)
    context.tell_passed_over("tuning")
    training.tell_price(context, max_cost, settings.job_count)
    training.tell_single_try(context, "a sweep's trials run")
    name = tuning_requests.unique_name(context.config.name)
    single = training.request_of(context, context.stage(upload=upload), name)
    request = tuning_requests.create_tuning_job(context.config, name, single)
    context.check(("CreateHyperParameterTuningJob", request))
    return request


def start(context: JobContext, request: naming.Request) -> str:
    """Send what `prepare` made; the sweep's name."""
    context.session.create_hyper_parameter_tuning_job(**request)
    name: str = request["HyperParameterTuningJobName"]
    context.notify(f"sweep {name} started ({context.target})")
    return name


def wait(
    session: Session,
    name: str,
    on_look: Callable[[Description, list[Trial]], None] = lambda seen, trials: None,
) -> SweepResult:
    """Follow a tuning job to its end.

    Args:
        session: where it runs.
        name: of the tuning job.
        on_look: gets every description and the trials so far.

    Raises:
        LaunchError: it failed; the message holds the first failed trial's own words.
    """

    def look() -> tuple[Description, list[Trial]]:
        described = session.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return described, trials(session, name)

    def final(seen: tuple[Description, list[Trial]]) -> bool:
        return seen[0]["HyperParameterTuningJobStatus"] in limits.TUNING_FINAL_STATUSES

    for description, results in watch(look, final, session.seconds_between_looks):
        on_look(description, results)
    if description["HyperParameterTuningJobStatus"] == "Failed":
        raise _failure(session, name, description, results)
    return _result(name, description, results)


def trials(session: Session, name: str) -> list[Trial]:
    """Every training that a tuning job has started, in the order of its start."""
    summaries = every(
        session.list_training_jobs_for_hyper_parameter_tuning_job,
        "TrainingJobSummaries",
        HyperParameterTuningJobName=name,
        SortBy="CreationTime",
        SortOrder="Ascending",
    )
    return [_trial(summary) for summary in summaries]


def _trial(summary: Description) -> Trial:
    metric = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {})
    start, end = summary.get("TrainingStartTime"), summary.get("TrainingEndTime")
    return Trial(
        job=summary["TrainingJobName"],
        status=summary["TrainingJobStatus"],
        values=summary["TunedHyperParameters"],
        objective=metric.get("Value"),
        seconds=(end - start).total_seconds() if start and end else None,
        reason=summary.get("FailureReason", ""),
    )


def _result(name: str, description: Description, trials: list[Trial]) -> SweepResult:
    objective = description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    sign = -1 if objective["Type"] == "Maximize" else 1

    def rank(trial: Trial) -> tuple[bool, float]:
        return trial.objective is None, sign * (trial.objective or 0.0)

    return SweepResult(
        name=name,
        status=description["HyperParameterTuningJobStatus"],
        metric=objective["MetricName"],
        direction=objective["Type"],
        trials=tuple(sorted(trials, key=rank)),
        best_job=description.get("BestTrainingJob", {}).get("TrainingJobName"),
    )


def _failure(
    session: Session, name: str, description: Description, trials: list[Trial]
) -> LaunchError:
    reason = description.get("FailureReason") or "no reason given"
    failed = next((trial for trial in trials if trial.status == "Failed"), None)
    if failed is None:
        return LaunchError(f"sweep {name} failed: {reason}", fix="mend the cause and run it again")
    message, step = explain_failure(
        f"sweep {name} failed: {reason}\n  first failed training, {failed.job}",
        failed.reason,
        lambda: session.training_log_lines(failed.job, None)[0],
    )
    return LaunchError(message, fix=f"{step}, and run the sweep again")
