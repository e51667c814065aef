"""`sm-launch gc`."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from sm_launch.commands.options import echo_json, json_option
from sm_launch.errors import UserInputError

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.command()
@click.option("--job", help="Only what belongs to this job.yaml's name.")
@click.option("--older-than", metavar="AGE", help="Only what is older, such as 12h, 3d or 2w.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only with this tag.")
@click.option(
    "--unused", is_flag=True, help="Only configurations, models and alarms without an endpoint."
)
@click.option("--region", help="Default: what the AWS configuration says.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def gc(
    job: str | None,
    older_than: str | None,
    tags: tuple[str, ...],
    unused: bool,
    region: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Find and delete endpoints, configurations, models and alarms that sm-launch made on AWS.

    Only what bears its tag is ever touched. Data and models on S3 stay.
    """
    from sm_launch import cleanup
    from sm_launch.aws_clients import make_client

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
    for item in found:
        price = (
            "price unknown" if item.dollars_an_hour is None else f"${item.dollars_an_hour:.2f}/h"
        )
        cost = f"{price:>14}" if item.kind == "endpoint" else " " * 14
        created = item.created.strftime("%Y-%m-%d %H:%M")
        click.echo(f"{item.kind:<23} {item.name:<50} {created} {cost} {item.status}", err=True)
    if not found or dry_run:
        click.echo(f"{len(found)} found", err=True)
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
