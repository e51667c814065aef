"""`sm-launch train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sm_launch import matrix, requests, training
from sm_launch.commands.options import (
    Workplace,
    announce_image,
    check_early,
    dry_run_option,
    echo_json,
    job_options,
    json_option,
    next_command,
    open_workplace,
)
from sm_launch.config import JobConfig, Target
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.redaction import redact


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
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
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
    workplace = open_workplace(config_path, overrides, target)
    if resume and attach:
        raise UserInputError("give --resume or --attach, not both", field="--resume", value=resume)
    if workplace.config.matrix and not attach:
        matrix.refuse_resuming(resume)
        jobs = matrix.expand(workplace.config)
        _train_matrix(workplace, jobs, max_cost, dry_run=dry_run, detach=detach, as_json=as_json)
        return
    session = workplace.session() if not dry_run else None
    name = attach or requests.unique_name(workplace.config.name)
    if not attach:
        check_early(workplace)
        for words in training.data_warnings(workplace.config):
            click.echo(f"warning: {words}", err=True)
        if workplace.target == "sagemaker":
            _price(workplace.config, max_cost)
        kept = training.checkpoints_of(workplace.session(), resume) if resume else None
        stage = workplace.stage(upload=not dry_run)
        request = training.request_of(workplace, stage, name, checkpoints=kept)
        if session is None:
            echo_json(request)
            return
        session.create_training_job(**request)
        announce_image(workplace, request["AlgorithmSpecification"]["TrainingImage"])
        click.echo(f"training job {name} started ({workplace.target})", err=True)
    assert session is not None
    if detach:
        if as_json:
            echo_json({"TrainingJobName": name})
        else:
            click.echo(name)
        return
    try:
        description = _follow(session, name, raw=raw)
    except KeyboardInterrupt:
        click.echo(
            f"\ndetached: {name} goes on\n"
            f"  come back:  "
            f"{next_command('train', '--attach', name, config_path=config_path, place=workplace)}\n"
            f"  stop it:    {next_command('stop', name, place=workplace)}",
            err=True,
        )
        raise
    _report(description, as_json=as_json)


def _price(config: JobConfig, max_cost: float | None) -> None:
    from sm_launch.estimate import require_cost

    estimated = require_cost(config, max_cost or config.training.max_cost_usd)
    if estimated:
        click.echo(f"price: {estimated.line}", err=True)


def _train_matrix(
    workplace: Workplace,
    jobs: list[matrix.Job],
    max_cost: float | None,
    *,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    assert workplace.config.matrix is not None
    for job in jobs:
        check_early(replace(workplace, config=job.config))
    for words in dict.fromkeys(w for job in jobs for w in training.data_warnings(job.config)):
        click.echo(f"warning: {words}", err=True)
    if workplace.target == "sagemaker":
        _price_all([job.config for job in jobs], max_cost)
    stage = workplace.stage(upload=not dry_run)
    # All are built before the first starts: a mistake in the last must not cost the others.
    built = matrix.requests_of(workplace, stage, jobs)
    if dry_run:
        echo_json(list(built.values()))
        return
    announce_image(workplace, workplace.training_image)
    most = workplace.config.matrix.max_parallel_jobs
    try:
        matrix.run(
            workplace.session(),
            jobs,
            lambda job: built[job.name],
            most,
            lambda job: click.echo(f"{job.name}: {job.status}  {_values(job)}", err=True),
            follow=not detach,
        )
    except KeyboardInterrupt:
        going = [job.name for job in jobs if job.status == "InProgress"]
        left = sum(job.status == "Waiting" for job in jobs)
        stop = next_command("stop", *going, place=workplace)
        click.echo(f"\ndetached: {len(going)} jobs go on, {left} were not started\n"
                   f"  stop them:  {stop}", err=True)  # fmt: skip
        raise
    _report_matrix(jobs, as_json=as_json)


def _values(job: matrix.Job) -> str:
    return " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in job.values.items())


def _price_all(configs: list[JobConfig], max_cost: float | None) -> None:
    from sm_launch.estimate import require_cost_of_all

    limit = max_cost or configs[0].training.max_cost_usd
    line = require_cost_of_all(configs, limit)
    click.echo(f"price: {line}", err=True)


def _report_matrix(jobs: list[matrix.Job], *, as_json: bool) -> None:
    if as_json:
        echo_json([job.as_dict() for job in jobs])
    else:
        for line in matrix.table(jobs):
            click.echo(line)
    matrix.require_completed(jobs)


def _follow(session: Any, name: str, *, raw: bool) -> dict[str, Any]:
    if raw:
        return training.wait(session, name, _print_lines)
    from sm_launch.live import follow_view

    with follow_view(name) as show:
        return training.wait(session, name, show)


def _print_lines(seen: training.Observation) -> None:
    for line in seen.lines:
        click.echo(redact(line))


def _report(description: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(description)
        return
    name, status = description["TrainingJobName"], description["TrainingJobStatus"]
    click.echo(f"training job {name}: {status}")
    for metric in description.get("FinalMetricDataList", []):
        click.echo(f"  {metric['MetricName']:<28} {metric['Value']:.4f}")
    if status == "Stopped":
        hint = training.resume_hint(description)
        raise LaunchError(f"training job {name} was stopped before its end", fix=hint or None)
    click.echo(f"  model: {description['ModelArtifacts']['S3ModelArtifacts']}")
