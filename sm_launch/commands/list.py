"""`sm-launch list`."""

from __future__ import annotations

from typing import Any

import click

from sm_launch.account import listing
from sm_launch.account.overview import item_of
from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option


@click.command("list")
@click.option("--name", default="", help="Only names that contain this.")
@job_options
@json_option
def list_(name: str, options: JobOptions, as_json: bool) -> None:
    """List what there is of all projects, newest first; `status` shows one, with its cost.

    Training jobs, sweeps, transform jobs, endpoints; on SageMaker also processing jobs, model
    package groups, pipelines and schedules that start trainings.
    """
    summaries = listing.summaries(options.find(), name)
    if as_json:
        echo_json(summaries)
        return
    for kind, rows in summaries.items():
        if rows or kind in _ALWAYS:
            click.secho(f"{_TITLES[kind]} ({len(rows)})", bold=True)
        for row in rows:
            click.echo(_line(kind, row))


_TITLES = {"TrainingJobs": "Training jobs", "HyperParameterTuningJobs": "Sweeps",
           "TransformJobs": "Transform jobs", "ProcessingJobs": "Processing jobs",
           "Endpoints": "Endpoints", "ModelPackageGroups": "Model package groups",
           "Pipelines": "Pipelines", "Schedules": "Schedules"}  # fmt: skip
_ALWAYS = ("TrainingJobs", "Endpoints")


def _line(kind: str, row: dict[str, Any]) -> str:
    item = item_of(kind, row)
    created = item.created.strftime("%Y-%m-%d %H:%M:%S")
    return f"  {item.name:<64} {item.status:<11} {created}"
