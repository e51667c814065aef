"""`sm-launch transform`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sm_launch import requests, served_models
from sm_launch.commands.options import (
    Workplace,
    announce_image,
    dry_run_option,
    echo_json,
    job_options,
    json_option,
    next_command,
    open_workplace,
)
from sm_launch.config import Target
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting_requests import TransformInputs
from sm_launch.progress import progress

CONTENT_TYPES = {
    ".jsonl": "application/jsonlines",
    ".json": "application/json",
    ".csv": "text/csv",
    ".txt": "text/plain",
}


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
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
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
    from sm_launch import transforms

    workplace = open_workplace(config_path, overrides, target)
    session = workplace.session()
    if attach:
        _report(_follow(workplace, attach, config_path), as_json=as_json)
        return
    if source is None:
        raise UserInputError("is needed", field="INPUT", fix="name a file, directory or s3:// URI")
    served = served_models.find(workplace, job=job, model_data=model_data, upload=not dry_run)
    for words in served.warnings:
        click.echo(f"warning: {words}", err=True)
    name = requests.unique_name(workplace.config.name)
    steps = transforms.build_requests(
        workplace.config,
        name,
        model_data=served.uri,
        image=workplace.serving_image,
        role=workplace.hosting_role,
        inputs=_inputs(workplace, name, source, output, content_type, upload=not dry_run),
    )
    if dry_run:
        echo_json(dict(steps))
        return
    if workplace.target == "sagemaker" and (words := transforms.warning(workplace.config)):
        click.echo(f"warning: {words}", err=True)
    announce_image(workplace, workplace.serving_image)
    transforms.start(session, steps)
    click.echo(f"transform job {name} started ({workplace.target})", err=True)
    if detach:
        if as_json:
            echo_json({"TransformJobName": name})
        else:
            click.echo(name)
        return
    description = _follow(workplace, name, config_path)
    _report(description, as_json=as_json)


def _follow(workplace: Workplace, name: str, config_path: Path) -> dict[str, Any]:
    from sm_launch import transforms

    session = workplace.session()
    try:
        with progress(f"Transform {name}") as bar:
            description = transforms.wait(
                session,
                name,
                lambda seen: bar.update(description=f"Transform: {seen['TransformJobStatus']}"),
            )
    except KeyboardInterrupt:
        again = next_command(
            "transform", "--attach", name, config_path=config_path, place=workplace
        )
        click.echo(
            f"\ndetached: {name} goes on\n  come back:  {again}\n"
            f"  stop it:    {next_command('stop', name, place=workplace)}",
            err=True,
        )
        raise
    except LaunchError:
        transforms.remove_model(session, name)
        raise
    transforms.remove_model(session, name)
    return description


def _inputs(
    workplace: Workplace,
    name: str,
    source: str,
    output: str | None,
    content_type: str | None,
    *,
    upload: bool,
) -> TransformInputs:
    stage = workplace.stage(upload=upload)
    if not source.startswith("s3://"):
        path = Path(source).expanduser().resolve()
        if not path.exists():
            raise UserInputError("no such file or directory", field="INPUT", value=source)
        source = str(path)
    kind = content_type or _guess(source)
    if output is None:
        output = f"{stage.output('transforms')}/{name}"
    elif "://" not in output:
        output = Path(output).expanduser().resolve().as_uri()
    return TransformInputs(stage.channel("transform", source), output, kind)


def _guess(source: str) -> str:
    path = Path(source)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    endings = {file.suffix for file in files if file.suffix in CONTENT_TYPES}
    if len(endings) != 1:
        raise UserInputError(
            "the content type of the input is not clear",
            field="--content-type",
            value=source,
            fix=f"name it, such as --content-type {CONTENT_TYPES['.jsonl']}",
        )
    return CONTENT_TYPES[endings.pop()]


def _report(description: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(description)
    else:
        name, status = description["TransformJobName"], description["TransformJobStatus"]
        click.echo(f"transform job {name}: {status}")
        click.echo(f"  answers: {description['TransformOutput']['S3OutputPath']}")
    if description["TransformJobStatus"] == "Stopped":
        raise LaunchError(f"transform job {description['TransformJobName']} was stopped")
