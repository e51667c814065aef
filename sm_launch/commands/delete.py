"""`sm-launch delete`."""

from __future__ import annotations

from pathlib import Path

import click

from sm_launch import endpoints
from sm_launch.aws_errors import is_missing
from sm_launch.commands.options import (
    Workplace,
    adopt_option,
    echo_json,
    find_workplace,
    job_options,
    json_option,
    open_workplace,
)
from sm_launch.config import Target
from sm_launch.errors import LaunchError
from sm_launch.sessions.protocol import Session


@click.command()
@click.argument("names", nargs=-1, metavar="[ENDPOINTS]...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@adopt_option
@job_options
@json_option
def delete(
    names: tuple[str, ...],
    yes: bool,
    adopt: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """Delete endpoints, each with its configuration and models.

    Without names: the endpoint of job.yaml. What sm-launch did not make stays, and so does a model
    that another endpoint runs. Exit code 1 where there is no endpoint of a name.
    """
    place = (find_workplace if names else open_workplace)(config_path, overrides, target)
    session = place.session()
    wanted = names or (place.config.endpoint_name,)
    missing = [name for name in wanted if _is_gone(session, name)]
    found = [name for name in wanted if name not in missing]
    for name in found:  # a foreign one is refused before anything goes
        endpoints.require_own(place, name, adopt=adopt)
    if found and place.target == "sagemaker" and not yes:
        click.confirm(f"Delete {', '.join(found)} on {place.where}?", abort=True, err=True)
    gone: list[str] = []
    left: list[str] = []
    for name in found:
        done = delete_endpoint(place, name, adopt=adopt)
        gone += done.done
        left += done.left
        for line in done.done if not as_json else ():
            click.echo(f"deleted {line}")
        for line in done.left:
            click.echo(f"left alone: {line}", err=True)
    if as_json:
        echo_json({"deleted": gone, "left": left, "missing": missing})
    if missing:
        raise LaunchError(
            f"there is no endpoint {', '.join(missing)} ({place.where}): nothing to delete",
            fix="check the name with `sm-launch list`; --target and --region look elsewhere",
        )


def _is_gone(session: Session, name: str) -> bool:
    try:
        session.describe_endpoint(EndpointName=name)
    except Exception as error:
        if not is_missing(error):
            raise
        return True
    return False


def delete_endpoint(place: Workplace, name: str, *, adopt: bool = False) -> endpoints.Deletion:
    """Delete an endpoint and what belongs to it."""
    session = place.session()
    if place.target != "sagemaker":
        return endpoints.delete(session, name, adopt=adopt)
    from sm_launch import alarms, autoscaling

    region = place.config.aws.region
    scaling = list(autoscaling.remove(name, region))
    deletion = endpoints.delete(session, name, adopt=adopt)
    gone, left = alarms.try_remove(name, region)
    return endpoints.Deletion(
        [*scaling, *deletion.done, *gone], [*deletion.left, *([left] if left else [])]
    )
