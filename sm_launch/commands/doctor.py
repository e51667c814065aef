"""`sm-launch doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@job_options
@json_option
def doctor(options: JobOptions, as_json: bool) -> int:
    """Check the machine and the AWS account; name the fix of everything that is missing.

    Works without job.yaml, credentials or Docker. Exit code 1 when the wanted target cannot work.
    """
    from sm_launch.account.doctor import examine_job

    context = options.find()
    wants_aws = (options.target or context.config.target) == "sagemaker"
    checks = []
    for check in examine_job(context, wants_aws=wants_aws):
        checks.append(check)
        if not as_json:
            state = click.style(f"{check.state:<8}", fg=COLOURS[check.state])
            click.echo(f"{state} {check.name:<22} {check.detail}")
            if check.fix:
                click.echo(f"{'':<32}fix: {check.fix}")
    if as_json:
        echo_json([asdict(check) for check in checks])
    return int(any(check.state == "problem" for check in checks))
