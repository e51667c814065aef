"""`sm-launch dashboard`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sm_launch.commands.options import (
    dry_run_option,
    echo_json,
    endpoint_option,
    job_options,
    json_option,
    open_workplace,
    require_sagemaker,
)
from sm_launch.config import Target


@click.command()
@job_options
@endpoint_option
@dry_run_option
@json_option
def dashboard(
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    endpoint: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the CloudWatch dashboard of an endpoint; it goes when the endpoint is deleted."""
    from sm_launch import alarms

    place = open_workplace(config_path, overrides, target)
    config = place.config
    name = endpoint or config.endpoint_name
    if dry_run:
        request = alarms.dashboard_request(config, name, config.aws.region or "REGION")
        echo_json({**request, "DashboardBody": json.loads(request["DashboardBody"])})
        return
    require_sagemaker(place, "a dashboard")
    made = alarms.put_dashboard(config, name)
    if as_json:
        echo_json(made)
        return
    click.echo(f"dashboard {made['name']}\n  {made['url']}")
    for message in made["messages"]:
        click.echo(f"  CloudWatch says: {message}", err=True)
