"""`sm-launch logs`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sm_launch.aws_errors import LISTING, is_missing
from sm_launch.commands.options import echo_json, find_workplace, job_options, json_option
from sm_launch.config import Target
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.redaction import redact

SECONDS_BETWEEN_LOOKS = 1.0
Reader = Callable[[str, Any], tuple[list[str], Any]]


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@job_options
@json_option
def logs(
    name: str,
    follow: bool,
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """Print the log of a training job, a transform job or an endpoint of that name."""
    place = find_workplace(config_path, overrides, target)
    session = place.session()
    readers = (session.training_log_lines, session.transform_log_lines, session.endpoint_log_lines)
    reader, lines, cursor = _first(readers, name, place.where)
    if as_json:
        if follow:
            raise UserInputError("has no end to wait for", field="--follow", fix="leave --json out")
        echo_json({"name": name, "lines": lines})
        return
    while True:
        for line in lines:
            click.echo(redact(line))
        if not follow:
            return
        time.sleep(getattr(session, "seconds_between_looks", SECONDS_BETWEEN_LOOKS))
        lines, cursor = reader(name, cursor)


def _first(readers: tuple[Reader, ...], name: str, where: str) -> tuple[Reader, list[str], Any]:
    """The reader that knows the name, with what it read."""
    for reader in readers:
        try:
            return reader, *reader(name, None)
        except LaunchError:
            continue
        except Exception as error:
            if not is_missing(error):
                raise
    raise LaunchError(
        f"there is no training job, transform job or endpoint of this name ({where})",
        value=name,
        fix=LISTING,
    )
