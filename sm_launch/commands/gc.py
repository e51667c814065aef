"""`sm-launch gc`."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sm_launch import contract
from sm_launch.commands.options import (
    Workplace,
    echo_json,
    find_workplace,
    job_options,
    json_option,
)
from sm_launch.config import Target
from sm_launch.errors import UserInputError

if TYPE_CHECKING:
    from sm_launch.cleanup import Leftover

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
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    as_json: bool,
) -> None:
    """Find and delete what sm-launch made on AWS.

    Endpoints, their configurations, models, alarms and dashboards, each with what it costs.

    Only what bears its tag is ever touched. Data and models on S3 stay. In processes: the records
    and logs of finished jobs, failed endpoints, and models that none runs; artefacts stay.
    """
    place = find_workplace(config_path, overrides, target)
    if place.target != "sagemaker":
        _local(place, job, _age(older_than), _pairs(tags), unused, dry_run or not yes, as_json)
        return
    from sm_launch import cleanup
    from sm_launch.aws_clients import make_client

    region = place.config.aws.region
    found = cleanup.find(
        make_client,
        region,
        job=job,
        older_than=_age(older_than),
        tags=_pairs(tags),
        unused=unused,
    )
    if as_json and (dry_run or not found):
        echo_json([asdict(item) for item in found])
        return
    _show(found)
    if not found or dry_run:
        return
    if not yes:
        click.confirm(f"Delete these {len(found)}?", abort=True, err=True)
    deleted: list[dict[str, Any]] = []
    for item in found:
        if cleanup.delete(make_client, item, region):
            deleted.append(asdict(item))
            click.echo(f"deleted {item.kind} {item.name}", err=True)
    if as_json:
        echo_json(deleted)


def _show(found: list[Leftover]) -> None:
    """A line for each, and what all of them cost."""
    from sm_launch.instances import HOURS_A_MONTH, PRICES_AS_OF, PRICES_REGION

    for item in found:
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
    total = HOURS_A_MONTH * sum(item.dollars_an_hour or 0.0 for item in found)
    priced = f"list prices of {PRICES_REGION}, {PRICES_AS_OF}"
    cost = f", about ${total:.2f} a month if left alone ({priced})" if total else ""
    click.echo(f"{len(found)} found{cost}", err=True)


def _local(
    place: Workplace,
    job: str | None,
    older_than: timedelta | None,
    tags: dict[str, str],
    unused: bool,
    only_look: bool,
    as_json: bool,
) -> None:
    """The same for this machine; without --yes it only shows what would go."""
    if unused:
        raise UserInputError("is for SageMaker only", field="--unused", fix="leave it out")
    session: Any = place.session()
    if not hasattr(session, "collect_garbage"):
        raise UserInputError("keeps nothing to collect", field="--target", value=place.target)
    wanted = {**tags, **({contract.TAG_KEY: job} if job else {})}
    found = session.collect_garbage(older_than or timedelta(), dry_run=only_look, tags=wanted)
    if as_json:
        echo_json([asdict(item) for item in found])
        return
    word = "found" if only_look else "deleted"
    for item in found:
        size = f"{item.size / 1e6:.1f} MB"
        click.echo(f"{word} {item.kind:<17} {item.name:<50} {size:>10}", err=True)
    hint = "; --yes deletes them" if only_look and found else ""
    click.echo(f"{len(found)} {word}{hint}", err=True)


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([mhdw])", text)
    if not found:
        raise UserInputError(
            "is not an age", field="--older-than", value=text, fix="such as 30m, 12h, 3d or 2w"
        )
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    for tag in tags:
        if "=" not in tag:
            raise UserInputError("must be KEY=VALUE", field="--tag", value=tag)
    return dict(tag.split("=", 1) for tag in tags)
