"""`sm-launch logs`."""

from __future__ import annotations

import click

from sm_launch.account.logs import Log
from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option
from sm_launch.errors import UserInputError
from sm_launch.redaction import redact


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@job_options
@json_option
def logs(name: str, follow: bool, options: JobOptions, as_json: bool) -> None:
    """Print the log of a training job, a transform job or an endpoint of that name."""
    log = Log(options.find(), name)
    if as_json:
        if follow:
            raise UserInputError("has no end to wait for", field="--follow", fix="leave --json out")
        echo_json({"name": name, "lines": log.lines})
        return
    for line in log.follow() if follow else log.lines:
        click.echo(redact(line))
