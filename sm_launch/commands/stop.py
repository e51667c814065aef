"""`sm-launch stop`."""

from __future__ import annotations

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option
from sm_launch.jobs import stopping


@click.command()
@click.argument("jobs", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop was asked for.")
@job_options
@json_option
def stop(jobs: tuple[str, ...], no_wait: bool, options: JobOptions, as_json: bool) -> None:
    """Stop jobs of any kind, sweeps and pipelines; a training gets SIGTERM and keeps a checkpoint.

    JOBS are names: of training, processing and transform jobs, sweeps, or of a pipeline, whose
    running executions are meant. Without names: all of job.yaml that still runs. An endpoint goes
    on until `delete`, a schedule until `schedule --off`.
    """

    def tell(job: stopping.Stopped) -> None:
        if not as_json:
            click.echo(f"{job.kind} {job.name}: {job.status}")

    context = options.of(jobs)
    stopped = stopping.stop(context, jobs, wait=not no_wait, on_stopped=tell)
    if as_json:
        echo_json([job.as_dict() for job in stopped])
