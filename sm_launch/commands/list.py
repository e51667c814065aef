"""`sm-launch list`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sm_launch.commands.options import echo_json, find_workplace, job_options, json_option
from sm_launch.config import Target
from sm_launch.paging import every


@click.command("list")
@click.option("--name", default="", help="Only names that contain this.")
@job_options
@json_option
def list_(
    name: str,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """List training jobs, sweeps, transform jobs and endpoints, newest first."""
    session = find_workplace(config_path, overrides, target).session()
    query: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    if name:
        query["NameContains"] = name
    jobs = list(every(session.list_training_jobs, "TrainingJobSummaries", **query))
    sweeps = list(
        every(session.list_hyper_parameter_tuning_jobs, "HyperParameterTuningJobSummaries", **query)
    )
    transforms = list(every(session.list_transform_jobs, "TransformJobSummaries", **query))
    endpoints = list(every(session.list_endpoints, "Endpoints", **query))
    if as_json:
        echo_json(
            {
                "TrainingJobs": jobs,
                "HyperParameterTuningJobs": sweeps,
                "TransformJobs": transforms,
                "Endpoints": endpoints,
            }
        )
        return
    _table("Training jobs", jobs, "TrainingJobName", "TrainingJobStatus")
    if sweeps:
        name_key = "HyperParameterTuningJobName"
        _table("Sweeps", sweeps, name_key, "HyperParameterTuningJobStatus")
    if transforms:
        _table("Transform jobs", transforms, "TransformJobName", "TransformJobStatus")
    _table("Endpoints", endpoints, "EndpointName", "EndpointStatus")


def _table(title: str, rows: list[dict[str, Any]], name: str, status: str) -> None:
    click.secho(f"{title} ({len(rows)})", bold=True)
    for row in rows:
        created = row["CreationTime"].strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"  {row[name]:<64} {row[status]:<11} {created}")
