"""`sm-launch logs`."""

from __future__ import annotations

import click

from sm_launch.commands.options import echo_json, json_option, target_option
from sm_launch.config import Target, resolve_target
from sm_launch.errors import LaunchError
from sm_launch.redaction import redact
from sm_launch.sessions import open_session


@click.command()
@click.argument("name")
@target_option
@json_option
def logs(name: str, target: Target | None, as_json: bool) -> None:
    """Print the log of a training job or, if there is none of that name, of an endpoint."""
    session = open_session(resolve_target(None, target))
    try:
        lines, _ = session.training_log_lines(name, None)
    except LaunchError:
        lines, _ = session.endpoint_log_lines(name, None)
    if as_json:
        echo_json({"name": name, "lines": lines})
        return
    for line in lines:
        click.echo(redact(line))
