"""`sm-launch list`."""

from __future__ import annotations

import click

from sm_launch.account import listing
from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option


@click.command("list")
@click.option("--name", default="", help="Only names that contain this.")
@job_options
@json_option
def list_(name: str, options: JobOptions, as_json: bool) -> None:
    """List training jobs, sweeps, transform jobs and endpoints, newest first."""
    summaries = listing.summaries(options.find(), name)
    if as_json:
        echo_json(summaries)
        return
    _table("Training jobs", summaries["TrainingJobs"], "TrainingJob")
    for title, kind in (("Sweeps", "HyperParameterTuningJob"), ("Transform jobs", "TransformJob")):
        if summaries[f"{kind}s"]:
            _table(title, summaries[f"{kind}s"], kind)
    _table("Endpoints", summaries["Endpoints"], "Endpoint")
    if summaries.get("ModelPackageGroups"):
        _table("Model package groups", summaries["ModelPackageGroups"], "ModelPackageGroup")


def _table(title: str, rows: listing.Summaries, kind: str) -> None:
    click.secho(f"{title} ({len(rows)})", bold=True)
    for row in rows:
        created = row["CreationTime"].strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"  {row[f'{kind}Name']:<64} {row[f'{kind}Status']:<11} {created}")
