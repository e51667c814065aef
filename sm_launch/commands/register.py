"""`sm-launch register`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click

from sm_launch.commands.options import (
    JobOptions,
    adopt_option,
    dry_run_option,
    echo_json,
    job_options,
    json_option,
)


@click.command()
@job_options
@click.option("--job", metavar="JOB", help="Whose model. Default: the newest completed.")
@click.option("--model-data", metavar="URI", help="Or an artefact on S3.")
@click.option("--group", metavar="NAME", help="Model package group. Default: job.yaml's.")
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its evaluation.json. Default: WORK_DIR/NAME/report/evaluation.json.",
)
@click.option("--without-evaluation", is_flag=True, help="Register what nobody has measured.")
@click.option(
    "--approval",
    type=click.Choice(["pending", "approved", "rejected"]),
    help="Status of the version. Default: job.yaml's, else pending.",
)
@adopt_option
@dry_run_option
@json_option
def register(
    options: JobOptions,
    job: str | None,
    model_data: str | None,
    group: str | None,
    evaluation: Path | None,
    without_evaluation: bool,
    approval: str | None,
    adopt: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a model into SageMaker Model Registry, with its evaluation, data card and lineage."""
    from sm_launch.evaluation.job import registering

    request = registering.Request(
        job=job,
        model_data=model_data,
        group=group,
        evaluation=evaluation,
        without_evaluation=without_evaluation,
        approval=cast(Any, approval),
    )
    context = options.open()
    registration = registering.prepare(context, request, upload=not dry_run)
    if dry_run:
        echo_json(registration.by_method())
        return
    described = registering.start(context, registration, adopt=adopt)
    if as_json:
        echo_json(described)
        return
    version = described["ModelPackageVersion"]
    click.echo(
        f"registered {registration.group_name} version {version}: "
        f"{described['ModelApprovalStatus']}\n  {described['ModelPackageArn']}"
    )
    deploy = options.next_command("deploy", "--registered", *context.options)
    click.echo(f"  deploy the newest approved one:  {deploy}")
