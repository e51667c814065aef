"""`sm-launch delete`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from sm_launch import endpoints
from sm_launch.aws_errors import is_missing
from sm_launch.commands.options import echo_json, job_options, json_option
from sm_launch.config import Target, load_config, resolve_target
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session


@click.command()
@click.argument("names", nargs=-1, metavar="[ENDPOINTS]...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@job_options
@json_option
def delete(
    names: tuple[str, ...],
    yes: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """Delete endpoints, each with its configuration and model.

    Without names: the endpoint of job.yaml, if there is one. One that is gone already is no error.
    """
    config = None if names else load_config(config_path, overrides)
    settled = resolve_target(config, target)
    session = open_session(settled, region=config.aws.region if config else None)
    if config:
        names = (config.endpoint_name,) if endpoints.exists(session, config.endpoint_name) else ()
    missing = [name for name in names if _is_gone(session, name)]
    names = tuple(name for name in names if name not in missing)
    for name in missing:
        click.echo(f"there is no endpoint {name} ({settled}): nothing to delete", err=True)
    if names and settled == "sagemaker" and not yes:
        click.confirm(f"Delete {', '.join(names)} on SageMaker?", abort=True, err=True)
    gone: list[str] = []
    for name in names:
        for line in delete_endpoint(session, name, settled, config.aws.region if config else None):
            gone.append(line)
            if not as_json:
                click.echo(f"deleted {line}")
    if as_json:
        echo_json({"deleted": gone, "missing": missing})


def _is_gone(session: Session, name: str) -> bool:
    try:
        session.describe_endpoint(EndpointName=name)
    except Exception as error:
        if not is_missing(error):
            raise
        return True
    return False


def delete_endpoint(
    session: Session, name: str, target: Target, region: str | None
) -> Iterator[str]:
    """Delete an endpoint and what belongs to it; a line for each thing that is gone."""
    if target != "sagemaker":
        yield from endpoints.delete(session, name)
        return
    from sm_launch import alarms, autoscaling

    yield from autoscaling.remove(name, region)
    yield from endpoints.delete(session, name)
    gone, left = alarms.try_remove(name, region)
    yield from gone
    if left:
        click.echo(f"warning: {left}", err=True)
