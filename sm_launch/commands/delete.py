"""`sm-launch delete`."""

from __future__ import annotations

from pathlib import Path

import click

from sm_launch import endpoints
from sm_launch.commands.options import job_options
from sm_launch.config import Target, load_config, resolve_target
from sm_launch.sessions import open_session


@click.command()
@click.argument("names", nargs=-1, metavar="[ENDPOINTS]...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@job_options
def delete(
    names: tuple[str, ...],
    yes: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
) -> None:
    """Delete endpoints, each with its configuration and model.

    Without names: the endpoint of job.yaml, if there is one.
    """
    config = None if names else load_config(config_path, overrides)
    settled = resolve_target(config, target)
    session = open_session(settled, region=config.aws.region if config else None)
    if config:
        names = (config.endpoint_name,) if endpoints.exists(session, config.endpoint_name) else ()
    for name in names:
        session.describe_endpoint(EndpointName=name)  # an unknown name fails before anything goes
    if names and settled == "sagemaker" and not yes:
        click.confirm(f"Delete {', '.join(names)} on SageMaker?", abort=True)
    for name in names:
        region = config.aws.region if config else None
        if settled == "sagemaker":
            from sm_launch import autoscaling

            for removed in autoscaling.remove(name, region):
                click.echo(f"deleted {removed}")
        for deleted in endpoints.delete(session, name):
            click.echo(f"deleted {deleted}")
        if settled == "sagemaker":
            from sm_launch import alarms

            gone, left = alarms.try_remove(name, region)
            for removed in gone:
                click.echo(f"deleted {removed}")
            if left:
                click.echo(f"warning: {left}", err=True)
