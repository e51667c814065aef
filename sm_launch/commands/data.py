"""`sm-launch data`."""

from __future__ import annotations

import click

from sm_launch.commands.options import (
    JobOptions,
    echo_json,
    echo_result,
    job_options,
    json_option,
    stop_command,
)
from sm_launch.errors import LaunchError, UserInputError


@click.group()
def data() -> None:
    """Prepare data: inspect, validate, clean, split, write, preview and upload the channels."""


@data.command()
@job_options
@click.option(
    "--processing-job", is_flag=True, help="Do it on SageMaker, in the training image; data on S3."
)
@click.option("--dry-run", is_flag=True, help="With --processing-job: print the request and stop.")
@json_option
def prepare(
    options: JobOptions,
    processing_job: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Clean the raw data, split it and write the train, validation and test channels.

    Rows that cannot be used go to rejected.jsonl, each with its reason.
    """
    from sm_launch.jobs import data_preparation

    if processing_job:
        _prepare_on_sagemaker(options, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        raise UserInputError("goes with --processing-job", field="--dry-run",
                             fix="`sm-launch data validate` tries a preparation")  # fmt: skip
    report = data_preparation.prepare(options.load())
    lines = [report.render(), f"  next: {options.next_command('train')}"]
    echo_result(report.as_dict(), lines, as_json=as_json)


@data.command()
@job_options
@json_option
def validate(options: JobOptions, as_json: bool) -> None:
    """Say what `data prepare` would do, and write no channel.

    Exit code 0: it would succeed; 2: it would refuse the data, with the reason.
    """
    from sm_launch.jobs import data_preparation

    config = options.load()
    data_preparation.data_section(config)
    try:
        report = data_preparation.validate(config)
    except LaunchError as error:
        if as_json:
            echo_json({"valid": False, "error": error.message, "field": error.field})
        raise
    lines = [report.render(written=False), f"  next: {options.next_command('data', 'prepare')}"]
    echo_result({"valid": True} | report.as_dict(), lines, as_json=as_json)


@data.command()
@job_options
@json_option
def inspect(options: JobOptions, as_json: bool) -> None:
    """Describe the raw files: rows, columns, missing values, the most frequent values."""
    from sm_launch.jobs import data_preparation

    reports = data_preparation.inspect(options.load())
    lines = (report.render() for report in reports)
    echo_result([report.as_dict() for report in reports], lines, as_json=as_json)


@data.command()
@job_options
@click.option(
    "--rows",
    default=3,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Rows of each channel.",
)
@json_option
def preview(
    options: JobOptions,
    rows: int,
    as_json: bool,
) -> None:
    """Show the first rows of each channel as the model sees them, learnt tokens marked.

    The training container's code runs as a process on this machine; nothing is trained.
    """
    from sm_launch.jobs.preview import preview as run

    lines = run(options.load(), rows, options.open)
    echo_result({"lines": lines}, lines, as_json=as_json)


@data.command()
@job_options
@click.option("--dry-run", is_flag=True, help="Only name the URIs.")
@json_option
def upload(
    options: JobOptions,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send the prepared channels to S3 and print their URIs.

    Training on SageMaker does this by itself; here for data that several jobs or people share.
    What is there already is not sent again.
    """
    from sm_launch.jobs import data_preparation

    channels = data_preparation.upload(options.open("sagemaker"), send=not dry_run)
    echo_result({"channels": channels}, _section(channels), as_json=as_json)


def _prepare_on_sagemaker(options: JobOptions, *, dry_run: bool, as_json: bool) -> None:
    from sm_launch.jobs import data_preparation, processing

    context = options.open("sagemaker")
    job = data_preparation.prepare_processing(context, upload=not dry_run)
    if dry_run:
        echo_json(job.request)
        return
    try:
        channels = data_preparation.run_processing(context, job)
    except KeyboardInterrupt:
        later = processing.channels(context.config, job.output)
        click.echo(f"\ndetached: {job.name} goes on\n  stop it:    "
                   f"{stop_command(context, job.name)}\n  when it is over:", err=True)  # fmt: skip
        click.echo("\n".join(f"    {line}" for line in _section(later)), err=True)
        raise
    made = {"processing_job": job.name, "channels": channels}
    echo_result(made, _section(channels), as_json=as_json)


def _section(channels: dict[str, str]) -> list[str]:
    """As job.yaml takes them."""
    return ["training:", "  channels:", *(f"    {name}: {uri}" for name, uri in channels.items())]
