"""Many trainings from one job.yaml: a job for each combination, so many at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sm_launch.aws.causes import LAST_LOG_LINES
from sm_launch.aws.errors import explained
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import limits, naming
from sm_launch.job.config import JobConfig, with_overrides
from sm_launch.jobs import training
from sm_launch.report.numbers import decimal
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target.context import JobContext


@dataclass
class Job:
    """One training of a matrix.

    Attributes:
        name: of the training job.
        config: job.yaml with this combination's values.
        values: the combination, dotted key to value.
        status: TrainingJobStatus; Waiting until it is started.
        description: the last DescribeTrainingJob answer.
        error: why it failed, or was not started; empty otherwise.
        request: its CreateTrainingJob request.
    """

    name: str
    config: JobConfig
    values: dict[str, Any]
    status: str = "Waiting"
    description: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    request: naming.Request = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)
    cursor: Any = None

    def as_dict(self) -> dict[str, Any]:
        """What `--json` shows."""
        metrics = {
            each["MetricName"]: each["Value"]
            for each in self.description.get("FinalMetricDataList", [])
        }
        model = self.description.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        return {
            "TrainingJobName": self.name,
            "TrainingJobStatus": self.status,
            "Values": self.values,
            "Metrics": metrics,
            "S3ModelArtifacts": model if self.status == "Completed" else None,
            "Error": self.error,
        }


def expand(config: JobConfig) -> list[Job]:
    """One job for each combination of `matrix.parameters`, each checked as a job.yaml of its own.

    Raises:
        UserInputError: a key does not exist, or a value is not one that it takes.
    """
    assert config.matrix is not None, "the caller looks"
    parameters = config.matrix.parameters
    now = datetime.now(UTC)
    jobs = []
    for index, values in enumerate(itertools.product(*parameters.values())):
        chosen = dict(zip(parameters, values, strict=True))
        settings = tuple(f"{key}={json.dumps(value)}" for key, value in chosen.items())
        # A millisecond apart: the time is what makes names unique.
        name = naming.unique_name(config.name, now + timedelta(milliseconds=index))
        jobs.append(Job(name, with_overrides(config, settings), chosen))
    return jobs


def refuse_resuming(job: str | None) -> None:
    """Raise UserInputError where a matrix is to go on from one job's checkpoints."""
    if job:
        raise UserInputError(
            "goes on with one job, and job.yaml has a matrix of them",
            field="--resume",
            value=job,
            fix="give --set matrix=null and the values of that job with --set",
        )


def prepare(
    context: JobContext,
    *,
    resume: str | None = None,
    max_cost: float | None = None,
    upload: bool = True,
) -> list[Job]:
    """Check, price and stage every job: a mistake in the last one must not cost the others.

    Takes the arguments of `training.prepare` and raises its errors.
    """
    refuse_resuming(resume)
    jobs = expand(context.config)
    for job in jobs:
        training.check_early(replace(context, config=job.config))
    context.warn(*dict.fromkeys(w for job in jobs for w in training.data_warnings(job.config)))
    if context.on_aws:
        from sm_launch.job.costs import require_cost_of_all

        limit = max_cost or context.config.training.max_cost_usd
        configs = [job.config for job in jobs]
        line = require_cost_of_all(configs, context.prices_of(*configs), limit)
        context.notify(f"price: {line}")
    stage = context.stage(upload=upload)
    for job in jobs:
        job.request = training.request_of(context, stage, job.name, config=job.config)
    return jobs


def require_completed(jobs: list[Job]) -> None:
    """Raise LaunchError where a job failed, was refused or stopped; the message says why."""
    bad = [job for job in jobs if job.status not in {"Completed", "InProgress"}]
    if bad:
        why = "\n".join(job.error or f"training job {job.name} was stopped" for job in bad)
        raise LaunchError(f"{len(bad)} of {len(jobs)} training jobs did not complete:\n{why}")


def run(
    context: JobContext,
    jobs: list[Job],
    on_change: Callable[[Job], None] = lambda job: None,
    *,
    follow: bool = True,
) -> None:
    """Start the jobs and follow them to their ends; one that fails does not hold up the others.

    Args:
        context: where they run; its `matrix` says how many at a time.
        jobs: what `prepare` made; they get their status, description and error.
        on_change: gets a job whenever its status has changed.
        follow: False starts all of them at once and returns.
    """
    assert context.config.matrix is not None, "the caller looks"
    session, most = context.session, context.config.matrix.max_parallel_jobs
    context.announce_image(context.training_image)
    waiting = iter(jobs)

    def turn() -> bool:
        """Look at what runs and start what may; whether nothing is left to do."""
        for job in _running(jobs):
            if _look(session, job):
                on_change(job)
        for job in itertools.islice(waiting, None if not follow else most - len(_running(jobs))):
            _start(session, job)
            on_change(job)
        return not follow or not (_running(jobs) or any(job.status == "Waiting" for job in jobs))

    for _ in watch(turn, bool, session.seconds_between_looks):
        pass


def _running(jobs: list[Job]) -> list[Job]:
    over = limits.TRAINING_FINAL_STATUSES | {"Waiting", "Refused"}
    return [job for job in jobs if job.status not in over]


def _start(session: Session, job: Job) -> None:
    try:
        session.create_training_job(**job.request)
        job.status = "InProgress"
    except Exception as error:
        job.status, job.error = "Refused", str(explained(error))


def _look(session: Session, job: Job) -> bool:
    before = job.status
    job.description = session.describe_training_job(TrainingJobName=job.name)
    lines, job.cursor = session.training_log_lines(job.name, job.cursor)
    job.tail = [*job.tail, *lines][-LAST_LOG_LINES:]
    job.status = job.description["TrainingJobStatus"]
    if job.status == "Failed":
        job.error = str(training.failure(session, job.name, job.description, job.tail))
    return job.status != before


def table(jobs: list[Job]) -> Iterator[str]:
    """Lines of a table: the combination, the status, the final metrics."""
    keys = list(jobs[0].values)
    names = sorted({name for job in jobs for name in job.as_dict()["Metrics"] if "eval:" in name})
    rows = [[*(key.rsplit(".", 1)[-1] for key in keys), "status", *names, "training job"]]
    for job in jobs:
        metrics = job.as_dict()["Metrics"]
        values = [str(job.values[key]) for key in keys]
        shown = [decimal(metrics[name]) if name in metrics else "-" for name in names]
        rows.append([*values, job.status, *shown, job.name])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
