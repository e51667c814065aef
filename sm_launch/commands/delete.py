"""`sm-launch delete`."""

from __future__ import annotations

import click

from sm_launch.account import deletion
from sm_launch.commands.options import (
    JobOptions,
    adopt_option,
    agree,
    echo_json,
    job_options,
    json_option,
)
from sm_launch.hosting.endpoints import Deletion


@click.command()
@click.argument("names", nargs=-1, metavar="[ENDPOINTS]...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@adopt_option
@job_options
@json_option
def delete(
    names: tuple[str, ...], yes: bool, adopt: bool, options: JobOptions, as_json: bool
) -> None:
    """Delete endpoints, each with its configuration and models.

    Without names: the endpoint of job.yaml. What sm-launch did not make stays, and so does a model
    that another endpoint runs. Exit code 1 where there is no endpoint of a name.
    """
    context = options.of(names)

    def confirm(names: list[str]) -> None:
        if context.on_aws and not yes:
            agree(f"Delete {', '.join(names)} on {context.where}?")

    def tell(done: Deletion) -> None:
        for line in done.done if not as_json else ():
            click.echo(f"deleted {line}")
        for line in done.left:
            click.echo(f"left alone: {line}", err=True)

    result = deletion.delete(context, names, adopt=adopt, confirm=confirm, on_deletion=tell)
    if as_json:
        echo_json({"deleted": result.deleted, "left": result.left, "missing": result.missing})
    result.require_all(context.where)
