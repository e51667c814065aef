"""`sm-launch train`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    echo_name,
    job_options,
    json_option,
    stop_command,
)
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.jobs import attempts, matrix, training
from sm_launch.redaction import redact
from sm_launch.report.numbers import decimal
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext


@click.command()
@job_options
@click.option("--raw", is_flag=True, help="Print the container's log as it is, no live view.")
@click.option("--detach", is_flag=True, help="Start the job and return at once.")
@click.option("--attach", metavar="JOB", help="Follow a job that is running already.")
@click.option("--resume", metavar="JOB", help="Go on from the checkpoints of a job that has ended.")
@click.option("--max-cost", type=float, metavar="USD", help="Refuse what could cost more.")
@dry_run_option
@json_option
def train(
    options: JobOptions,
    raw: bool,
    detach: bool,
    attach: str | None,
    resume: str | None,
    max_cost: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a training job and follow it to its end.

    Ctrl-C detaches: the job goes on, `sm-launch train --attach JOB` comes back to it and
    `sm-launch stop JOB` ends it. With `matrix` in job.yaml one job runs for each combination.
    """
    context = options.open()
    if resume and attach:
        raise UserInputError("give --resume or --attach, not both", field="--resume", value=resume)
    if context.config.matrix and not attach:
        jobs = matrix.prepare(context, resume=resume, max_cost=max_cost, upload=not dry_run)
        if dry_run:
            echo_json([job.request for job in jobs])
        else:
            _run_matrix(context, jobs, detach=detach, as_json=as_json)
        return
    if attach:
        name = attach
    else:
        plan = attempts.plan(context, resume=resume, max_cost=max_cost, upload=not dry_run)
        if dry_run:
            echo_json(plan.request)
            return
        if not detach:
            seen = partial(_followed, options, raw=raw)
            ended = attempts.run(plan, seen)
            _report(plan.context.session, ended, as_json=as_json)
            return
        attempts.warn_detached(context)
        name = attempts.start(plan)
    if detach:
        echo_name("TrainingJobName", name, as_json=as_json)
        return
    _report(context.session, _followed(options, context, name, raw=raw), as_json=as_json)


def _followed(options: JobOptions, context: JobContext, name: str, *, raw: bool) -> dict[str, Any]:
    with options.detachable(context, "train", name):
        return follow(context, name, raw=raw)


def _run_matrix(
    context: JobContext, jobs: list[matrix.Job], *, detach: bool, as_json: bool
) -> None:
    try:
        matrix.run(
            context,
            jobs,
            lambda job: click.echo(f"{job.name}: {job.status}  {_values(job)}", err=True),
            follow=not detach,
        )
    except KeyboardInterrupt:
        going = [job.name for job in jobs if job.status == "InProgress"]
        left = sum(job.status == "Waiting" for job in jobs)
        stop = stop_command(context, *going)
        click.echo(f"\ndetached: {len(going)} jobs go on, {left} were not started\n"
                   f"  stop them:  {stop}", err=True)  # fmt: skip
        raise
    if as_json:
        echo_json([job.as_dict() for job in jobs])
    else:
        for line in matrix.table(jobs):
            click.echo(line)
    matrix.require_completed(jobs)


def _values(job: matrix.Job) -> str:
    return " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in job.values.items())


def follow(context: JobContext, name: str, *, raw: bool) -> dict[str, Any]:
    """Show a job until it has ended; its last description."""
    if raw:
        return training.wait(context.session, name, _print_lines)
    from sm_launch.jobs.live import follow_view

    with follow_view(name) as show:
        return training.wait(context.session, name, show)


def _print_lines(seen: training.Observation) -> None:
    for line in seen.lines:
        click.echo(redact(line))


def _report(session: Session, description: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(description)
        return
    name, status = description["TrainingJobName"], description["TrainingJobStatus"]
    click.echo(f"training job {name}: {status}")
    for metric in description.get("FinalMetricDataList", []):
        click.echo(f"  {metric['MetricName']:<28} {decimal(metric['Value'])}")
    if status == "Stopped":
        hint = training.resume_hint(session, description)
        anew = "train anew; with training.checkpoints in job.yaml a stopped job can be resumed"
        raise LaunchError(f"training job {name} was stopped before its end", fix=hint or anew)
    click.echo(f"  model: {description['ModelArtifacts']['S3ModelArtifacts']}")
