"""`sm-launch pipeline`."""

from __future__ import annotations

from pathlib import Path

import click

from sm_launch.commands.options import (
    JobOptions,
    adopt_option,
    dry_run_option,
    echo_json,
    echo_result,
    job_options,
    json_option,
)


@click.command()
@job_options
@click.option("--name", help="Of the pipeline. Default: job.yaml's name.")
@click.option(
    "--write",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the definition here, and make no pipeline.",
)
@adopt_option
@dry_run_option
@json_option
def pipeline(
    options: JobOptions,
    name: str | None,
    write: Path | None,
    adopt: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make or update a SageMaker Pipeline of job.yaml: prepare, train, gate, register.

    Data and code are uploaded, as the jobs' own commands do; nothing is started.
    """
    from sm_launch.hosting import pipelines

    context = options.open()
    planned = pipelines.prepare(context, name=name, upload=not dry_run)
    if dry_run:
        echo_json(planned.request)
        return
    if write:
        planned.write(write)
        echo_result({"definition": str(write)}, [f"definition: {write}"], as_json=as_json)
        return
    arn, new = pipelines.upsert(context, planned, adopt=adopt)
    told = {"PipelineArn": arn, "created": new}
    start = f"aws sagemaker start-pipeline-execution --pipeline-name {planned.name}"
    echo_result(
        told,
        [
            f"pipeline {planned.name} {'made' if new else 'updated'}\n  {arn}",
            f"  start it:  {start}",
        ],
        as_json=as_json,
    )
