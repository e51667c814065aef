"""`sm-launch data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import (
    echo_json,
    job_options,
    json_option,
    next_command,
    open_workplace,
)
from sm_launch.config import JobConfig, Target, load_config
from sm_launch.errors import LaunchError, UserInputError

if TYPE_CHECKING:
    from sm_launch.data import DataConfig


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
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    processing_job: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Clean the raw data, split it and write the train, validation and test channels.

    Rows that cannot be used go to rejected.jsonl, each with its reason.
    """
    if processing_job:
        _prepare_on_sagemaker(config_path, overrides, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        raise UserInputError("goes with --processing-job", field="--dry-run",
                             fix="`sm-launch data validate` tries a preparation")  # fmt: skip
    from sm_launch.data import prepare as prepare_data
    from sm_launch.preparing import fetching

    config, section = _load(config_path, overrides)
    with fetching(config) as fetch:
        report = prepare_data(
            section, config.prepared_path, base_directory=config.directory, fetch=fetch
        )
    if as_json:
        echo_json(report.as_dict())
        return
    click.echo(report.render())
    click.echo(f"  next: {next_command('train', config_path=config_path)}")


@data.command()
@job_options
@json_option
def validate(
    config_path: Path, overrides: tuple[str, ...], target: Target | None, as_json: bool
) -> None:
    """Say what `data prepare` would do, and write no channel.

    Exit code 0: it would succeed; 2: it would refuse the data, with the reason.
    """
    from sm_launch.data import validate as validate_data
    from sm_launch.preparing import fetching

    config, section = _load(config_path, overrides)
    try:
        with fetching(config) as fetch:
            report = validate_data(
                section, config.prepared_path, base_directory=config.directory, fetch=fetch
            )
    except LaunchError as error:
        if as_json:
            echo_json({"valid": False, "error": error.message, "field": error.field})
        raise
    if as_json:
        echo_json({"valid": True} | report.as_dict())
        return
    click.echo(report.render(written=False))
    click.echo(f"  next: {next_command('data', 'prepare', config_path=config_path)}")


@data.command()
@job_options
@json_option
def inspect(
    config_path: Path, overrides: tuple[str, ...], target: Target | None, as_json: bool
) -> None:
    """Describe the raw files: rows, columns, missing values, the most frequent values."""
    from sm_launch.data import inspect as inspect_data
    from sm_launch.preparing import fetching

    config, section = _load(config_path, overrides)
    with fetching(config) as fetch:
        reports = inspect_data(section, base_directory=config.directory, fetch=fetch)
    if as_json:
        echo_json([report.as_dict() for report in reports])
        return
    for report in reports:
        click.echo(report.render())


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
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    rows: int,
    as_json: bool,
) -> None:
    """Show the first rows of each channel as the model sees them, learnt tokens marked.

    The training container's code runs as a process on this machine; nothing is trained.
    """
    from sm_launch.previewing import preview as run

    lines = run(load_config(config_path, overrides), rows)
    if as_json:
        echo_json({"lines": lines})
        return
    click.echo("\n".join(lines))


@data.command()
@job_options
@click.option("--dry-run", is_flag=True, help="Only name the URIs.")
@json_option
def upload(
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send the prepared channels to S3 and print their URIs.

    Training on SageMaker does this by itself; here for data that several jobs or people share.
    What is there already is not sent again.
    """
    from sm_launch.buckets import s3_stage
    from sm_launch.data.upload import upload as send

    config = load_config(config_path, overrides)
    channels = send(s3_stage(config, upload=not dry_run), config.prepared_path)
    if as_json:
        echo_json({"channels": channels})
        return
    click.echo("training:\n  channels:")
    for name, uri in channels.items():
        click.echo(f"    {name}: {uri}")


def _prepare_on_sagemaker(
    config_path: Path, overrides: tuple[str, ...], *, dry_run: bool, as_json: bool
) -> None:
    from sm_launch import preparing, processing

    place = open_workplace(config_path, overrides, "sagemaker")
    name, request, output = preparing.processing_request(place, upload=not dry_run)
    if dry_run:
        echo_json(request)
        return
    preparing.run_processing_job(place.config, name, request)
    found = processing.channels(place.config, output)
    if as_json:
        echo_json({"processing_job": name, "channels": found})
        return
    click.echo("training:\n  channels:")
    for split, uri in found.items():
        click.echo(f"    {split}: {uri}")


def _load(config_path: Path, overrides: tuple[str, ...]) -> tuple[JobConfig, DataConfig]:
    from sm_launch.preparing import data_section

    config = load_config(config_path, overrides)
    return config, data_section(config)
