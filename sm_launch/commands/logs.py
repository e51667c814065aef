"""`sm-launch logs`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from sm_launch.aws_errors import LISTING, is_missing
from sm_launch.commands.options import echo_json, json_option, target_option
from sm_launch.config import Target, resolve_target
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.redaction import redact
from sm_launch.sessions import open_session

SECONDS_BETWEEN_LOOKS = 1.0
Reader = Callable[[str, Any], tuple[list[str], Any]]


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@target_option
@json_option
def logs(name: str, follow: bool, target: Target | None, as_json: bool) -> None:
    """Print the log of a training job, a transform job or an endpoint of that name."""
    session = open_session(resolve_target(None, target))
    reader, lines, cursor = _first(
        (session.training_log_lines, session.transform_log_lines, session.endpoint_log_lines), name
    )
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


def _first(readers: tuple[Reader, ...], name: str) -> tuple[Reader, list[str], Any]:
    """The reader that knows the name, with what it read."""
    *others, last = readers
    for reader in others:
        try:
            return reader, *reader(name, None)
        except LaunchError:
            continue
    try:
        return last, *last(name, None)
    except Exception as error:
        if not is_missing(error):
            raise
        raise LaunchError(
            "there is no training job, transform job or endpoint of this name",
            value=name,
            fix=LISTING,
        ) from None
