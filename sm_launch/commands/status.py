"""`sm-launch status`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option

if TYPE_CHECKING:
    from sm_launch.account.overview import Item
    from sm_launch.target.context import JobContext


@click.command()
@click.argument("name", required=False)
@job_options
@json_option
def status(name: str | None, options: JobOptions, as_json: bool) -> None:
    """Show all of a project: what runs, what is over, what it has cost so far.

    NAME is the project's (default: that of job.yaml): what is called so, or begins with it and a
    hyphen. Costs are those of instances by AWS's list prices, without storage, logs and transfer.
    """
    from sm_launch.account.overview import overview

    context = options.of([name] if name else [])
    items = overview(context, name)
    if as_json:
        echo_json([asdict(item) for item in items])
        return
    click.echo(f"{name or context.config.name} ({context.target})")
    for kind, each in groupby(items, key=lambda item: item.kind):
        rows = list(each)
        click.secho(f"{kind}s ({len(rows)})", bold=True)
        for item in rows:
            click.echo(_line(item, priced=context.on_aws))
    if not items:
        click.echo("nothing of this name")
    if context.on_aws:
        _echo_total(context, items)


def _line(item: Item, *, priced: bool) -> str:
    created = item.created.strftime("%Y-%m-%d %H:%M:%S")
    line = f"  {item.name:<64} {item.status:<11} {created}"
    if not priced or item.dollars == 0:
        return line
    line += "  price unknown" if item.dollars is None else f"  ${item.dollars:.2f}"
    return line + (f", ${item.dollars_an_hour:.2f} an hour" if item.dollars_an_hour else "")


def _echo_total(context: JobContext, items: list[Item]) -> None:
    from sm_launch.account.overview import total

    so_far, an_hour, unknown = total(items)
    click.echo(f"so far: ${so_far:.2f}, and ${an_hour:.2f} an hour from now on")
    click.echo(
        f"  instances alone, by list prices of {context.prices}; endpoints as if they always had"
        " the instances of now"
    )
    if unknown:
        click.echo(f"  {unknown} not counted: no price of their instance type is known")
