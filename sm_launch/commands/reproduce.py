"""`sm-launch reproduce`."""

from __future__ import annotations

import click

from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    echo_result,
    job_options,
    json_option,
)
from sm_launch.commands.train import follow


@click.command()
@click.argument("job")
@job_options
@click.option("--anyway", is_flag=True, help="Although its data, code or image has changed.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="NUMBER",
    help="By how much metrics may differ, on another machine. Default: 0, bit for bit.",
)
@click.option("--raw", is_flag=True, help="Print the container's log as it is, no live view.")
@click.option("--max-cost", type=float, metavar="USD", help="Refuse what could cost more.")
@dry_run_option
@json_option
def reproduce(
    job: str,
    options: JobOptions,
    anyway: bool,
    tolerance: float,
    raw: bool,
    max_cost: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a past training job again from its record: do weights and metrics agree?

    What has changed since (a channel's content, the image, code, libraries) is named before
    anything starts, and nothing starts without --anyway.
    """
    from sm_launch.jobs import reproduction

    context = options.of([job])
    planned = reproduction.prepare(context, job, anyway=anyway, max_cost=max_cost)
    if dry_run:
        echo_json(planned.request)
        return
    name = reproduction.start(context, planned)
    with options.detachable(context, "train", name):
        follow(context, name, raw=raw)
    outcome = reproduction.finish(context, planned, tolerance=tolerance)
    echo_result(outcome.as_dict(), outcome.lines(), as_json=as_json)
    outcome.require()
