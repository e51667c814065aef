"""`sm-launch doctor`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from sm_launch.commands.options import echo_json, find_workplace, job_options, json_option
from sm_launch.config import Target

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@job_options
@json_option
def doctor(
    config_path: Path, overrides: tuple[str, ...], target: Target | None, as_json: bool
) -> int:
    """Check the machine and the AWS account; name the fix of everything that is missing.

    Works without job.yaml, credentials or Docker. Exit code 1 when the wanted target cannot work.
    """
    from sm_launch.aws_clients import make_client
    from sm_launch.doctor import examine

    place = find_workplace(config_path, overrides, target)
    config = place.config
    wants_aws = (target or config.target) == "sagemaker"
    # A doctor should not keep anybody waiting.
    clients = partial(make_client, attempts=2, owners=config.aws.bucket_owners)
    checks = []
    known = None if place.any_job else config
    region = config.aws.region
    for check in examine(known, wants_aws=wants_aws, clients=clients, region=region):
        checks.append(check)
        if not as_json:
            state = click.style(f"{check.state:<8}", fg=COLOURS[check.state])
            click.echo(f"{state} {check.name:<22} {check.detail}")
            if check.fix:
                click.echo(f"{'':<32}fix: {check.fix}")
    if as_json:
        echo_json([asdict(check) for check in checks])
    return int(any(check.state == "problem" for check in checks))
