"""`sm-launch gc`."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from sm_launch.commands.options import JobOptions, agree, echo_json, job_options, json_option
from sm_launch.errors import UserInputError

if TYPE_CHECKING:
    from sm_launch.account.cleanup import Leftover
    from sm_launch.job.instances import Prices

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.command()
@click.option("--job", help="Only what belongs to this job.yaml's name.")
@click.option("--older-than", metavar="AGE", help="Only what is older, such as 12h, 3d or 2w.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only with this tag.")
@click.option(
    "--unused",
    is_flag=True,
    help="Only configurations, models, alarms and dashboards without an endpoint.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@job_options
@json_option
def gc(
    job: str | None,
    older_than: str | None,
    tags: tuple[str, ...],
    unused: bool,
    dry_run: bool,
    yes: bool,
    options: JobOptions,
    as_json: bool,
) -> None:
    """Find and delete what sm-launch made on AWS.

    Endpoints, their configurations, models, alarms and dashboards, each with what it costs.

    Only what bears its tag is ever touched. Data and models on S3 stay. In processes: the records
    and logs of finished jobs, failed endpoints, and models that none runs; artefacts stay.
    """
    from sm_launch.account import cleanup

    context = options.find()

    def confirm(leftovers: list[Leftover]) -> None:
        if as_json and (dry_run or not leftovers):
            return
        _show(leftovers, context.prices)
        if leftovers and not dry_run and not yes:
            agree(f"Delete these {len(leftovers)}?")

    leftovers: list[Any] = cleanup.collect(
        context,
        job=job,
        older_than=_age(older_than),
        tags=_pairs(tags),
        unused=unused,
        # Here nothing is asked: without --yes it only shows what would go.
        delete=not dry_run and (yes or context.on_aws),
        confirm=confirm,
        on_deleted=lambda item: click.echo(f"deleted {item.kind} {item.name}", err=True),
    )
    if as_json:
        echo_json([asdict(item) for item in leftovers])
    elif not context.on_aws:
        _show_local(leftovers, only_look=dry_run or not yes)


def _show(leftovers: list[Leftover], prices: Prices) -> None:
    """A line for each, and what all of them cost."""
    from sm_launch.job.instances import HOURS_A_MONTH

    for item in leftovers:
        price = item.dollars_an_hour
        if price is None:
            cost = "price unknown"
        elif item.kind == "endpoint":
            cost = f"${price:.2f}/h"
        else:
            cost = f"${price * HOURS_A_MONTH:.2f}/month" if price else ""
        created = item.created.strftime("%Y-%m-%d %H:%M")
        line = f"{item.kind:<23} {item.name:<50} {created} {cost:>14} {item.status}"
        click.echo(line.rstrip(), err=True)
    total = HOURS_A_MONTH * sum(item.dollars_an_hour or 0.0 for item in leftovers)
    cost = f", about ${total:.2f} a month if left alone (list prices of {prices})" if total else ""
    click.echo(f"{len(leftovers)} found{cost}", err=True)


def _show_local(leftovers: list[Any], *, only_look: bool) -> None:
    word = "found" if only_look else "deleted"
    for item in leftovers:
        size = f"{item.size / 1e6:.1f} MB"
        click.echo(f"{word} {item.kind:<17} {item.name:<50} {size:>10}", err=True)
    hint = "; --yes deletes them" if only_look and leftovers else ""
    click.echo(f"{len(leftovers)} {word}{hint}", err=True)


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    age = re.fullmatch(r"(\d+)([mhdw])", text)
    if not age:
        raise UserInputError(
            "is not an age", field="--older-than", value=text, fix="such as 30m, 12h, 3d or 2w"
        )
    return timedelta(**{UNITS[age[2]]: int(age[1])})


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    for tag in tags:
        if "=" not in tag:
            raise UserInputError("must be KEY=VALUE", field="--tag", value=tag)
    return dict(tag.split("=", 1) for tag in tags)
