"""`sm-launch transform`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from sm_launch.commands.options import (
    JobOptions,
    dry_run_option,
    echo_json,
    echo_name,
    job_options,
    json_option,
)
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import transforms
from sm_launch.progress import progress


@click.command()
@click.argument("source", metavar="INPUT", required=False)
@job_options
@click.option("--output", metavar="URI", help="Where answers go. Default: below the job's own.")
@click.option("--content-type", help="Of the input. Default: by the files' ending.")
@click.option("--job", metavar="JOB", help="Training job to use. Default: the newest completed.")
@click.option("--model-data", metavar="URI", help="model.tar.gz, model directory or s3:// URI.")
@click.option("--detach", is_flag=True, help="Start the job and return at once.")
@click.option("--attach", metavar="NAME", help="Follow a transform job that is running already.")
@dry_run_option
@json_option
def transform(
    source: str | None,
    options: JobOptions,
    output: str | None,
    content_type: str | None,
    job: str | None,
    model_data: str | None,
    detach: bool,
    attach: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a trained model over a file or a directory, without an endpoint.

    INPUT is a path or an s3:// URI; every file x gets an answer x.out.
    """
    context = options.open()
    if attach:
        name = attach
    else:
        if source is None:
            fix = "name a file, directory or s3:// URI"
            raise UserInputError("is needed", field="INPUT", fix=fix)
        planned = transforms.prepare(
            context,
            source,
            output=output,
            content_type=content_type,
            job=job,
            model_data=model_data,
            upload=not dry_run,
        )
        if dry_run:
            echo_json(planned.by_method())
            return
        name = transforms.start(context, planned)
        if detach:
            echo_name("TransformJobName", name, as_json=as_json)
            return
    with options.detachable(context, "transform", name), progress(f"Transform {name}") as bar:
        description = transforms.finish(
            context.session,
            name,
            lambda seen: bar.update(description=f"Transform: {seen['TransformJobStatus']}"),
        )
    _report(description, as_json=as_json)


def _report(description: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(description)
    else:
        name, status = description["TransformJobName"], description["TransformJobStatus"]
        click.echo(f"transform job {name}: {status}")
        answers = description["TransformOutput"]["S3OutputPath"]
        click.echo(f"  answers: {answers}")
        errors = _errors(answers)
        if errors:
            click.echo(f'  {errors:,} of them: {{"error": …}}, the line had no answer', err=True)
    if description["TransformJobStatus"] == "Stopped":
        raise LaunchError(f"transform job {description['TransformJobName']} was stopped")


def _errors(answers: str) -> int:
    """How many lines of answers on this machine are errors; on S3 nobody has counted them."""
    if not answers.startswith("file://"):
        return 0
    count = 0
    for file in Path(unquote(urlsplit(answers).path)).rglob("*.out"):
        with file.open("rb") as lines:
            count += sum(line.startswith(b'{"error"') for line in lines)
    return count
