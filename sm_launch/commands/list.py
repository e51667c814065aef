"""`sm-launch list`."""

from __future__ import annotations

from typing import Any

import click

from sm_launch.commands.options import echo_json, json_option, target_option
from sm_launch.config import Target, resolve_target
from sm_launch.sessions import open_session


@click.command("list")
@click.option("--name", default="", help="Only names that contain this.")
@target_option
@json_option
def list_(name: str, target: Target | None, as_json: bool) -> None:
    """List training jobs, sweeps, transform jobs and endpoints, newest first."""
    session = open_session(resolve_target(None, target))
    query: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    if name:
        query["NameContains"] = name
    jobs = session.list_training_jobs(**query)["TrainingJobSummaries"]
    sweeps = session.list_hyper_parameter_tuning_jobs(**query)["HyperParameterTuningJobSummaries"]
    transforms = session.list_transform_jobs(**query)["TransformJobSummaries"]
    endpoints = session.list_endpoints(**query)["Endpoints"]
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
