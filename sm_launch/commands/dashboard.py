"""`sm-launch dashboard`."""

from __future__ import annotations

import click

from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    endpoint_argument,
    job_options,
    json_option,
)


@click.command()
@job_options
@endpoint_argument
@dry_run_option
@json_option
def dashboard(options: JobOptions, endpoint: str | None, dry_run: bool, as_json: bool) -> None:
    """Make the CloudWatch dashboard of an endpoint; it goes when the endpoint is deleted."""
    from sm_launch.monitoring import alarms

    context = options.open()
    name = endpoint or context.config.endpoint_name
    if dry_run:
        echo_json(alarms.dashboard(context.config, name, context.region or "REGION"))
        return
    context.require_aws("a dashboard")
    made = alarms.put_dashboard(context.config, name)
    if as_json:
        echo_json(made)
        return
    click.echo(f"dashboard {made['name']}\n  {made['url']}")
    for message in made["messages"]:
        click.echo(f"  CloudWatch says: {message}", err=True)
