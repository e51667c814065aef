"""`sm-launch deploy`."""

from __future__ import annotations

import json

import click

from sm_launch.commands.options import (
    JobOptions,
    adopt_option,
    dry_run_option,
    echo_json,
    job_options,
    json_option,
)
from sm_launch.hosting import deployment
from sm_launch.job.config import JobConfig
from sm_launch.job.tasks import trial


@click.command()
@job_options
@click.option("--job", metavar="JOB", help="Training job to deploy. Default: the newest completed.")
@click.option(
    "--model-data",
    metavar="URI",
    help="model.tar.gz, model directory, s3:// URI, or hf://OWNER/NAME[@REVISION].",
)
@click.option(
    "--registered",
    is_flag=False,
    flag_value="",
    metavar="[GROUP]",
    help="The newest approved model of a model package group. Default: job.yaml's group.",
)
@click.option("--name", help="Endpoint name. Default: job.yaml's.")
@adopt_option
@dry_run_option
@json_option
def deploy(
    options: JobOptions,
    job: str | None,
    model_data: str | None,
    registered: str | None,
    name: str | None,
    adopt: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a trained model, or endpoint.model, behind an endpoint and wait until it answers."""
    context = options.open()
    planned = deployment.prepare(
        context,
        job=job,
        model_data=model_data,
        registered=registered,
        name=name,
        upload=not dry_run,
    )
    if dry_run:
        echo_json(deployment.by_method(context, planned))
        return
    description = deployment.start(context, planned, adopt=adopt)
    if as_json:
        echo_json(description)
        return
    name = description["EndpointName"]
    click.echo(f"endpoint {name}: {description['EndpointStatus']} ({context.target})")
    for title, arguments in {
        "try it": ["invoke", name, *_trial(context.config)],
        "measure it": ["evaluate", "--endpoint", name],
        "delete it": ["delete", name],
    }.items():
        command = options.next_command(*arguments, *context.options)
        click.echo(f"  {title + ':':<11} {command}")


def _trial(config: JobConfig) -> list[str]:
    """What the model can be asked, as `invoke` takes it."""
    inputs, parameters = trial(config.training.method, config.training.hyperparameters)
    asked = ["--text", inputs] if isinstance(inputs, str) else ["--inputs", json.dumps(inputs)]
    return asked if parameters is None else [*asked, "--parameters", json.dumps(parameters)]
