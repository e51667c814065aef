"""`sm-launch data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import echo_json, job_options, json_option, next_command
from sm_launch.config import JobConfig, Target, load_config
from sm_launch.errors import LaunchError, UserInputError

if TYPE_CHECKING:
    from sm_launch.data import DataConfig


@click.group()
def data() -> None:
    """Prepare data: inspect, validate, clean, split, write the channels."""


@data.command()
@job_options
@json_option
def prepare(
    config_path: Path, overrides: tuple[str, ...], target: Target | None, as_json: bool
) -> None:
    """Clean the raw data, split it and write the train, validation and test channels.

    Rows that cannot be used go to rejected.jsonl, each with its reason.
    """
    from sm_launch.data import prepare as prepare_data

    config, section = _load(config_path, overrides)
    report = prepare_data(section, config.prepared_path, base_directory=config.directory)
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

    config, section = _load(config_path, overrides)
    try:
        report = validate_data(section, config.prepared_path, base_directory=config.directory)
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

    config, section = _load(config_path, overrides)
    reports = inspect_data(section, base_directory=config.directory)
    if as_json:
        echo_json([report.as_dict() for report in reports])
        return
    for report in reports:
        click.echo(report.render())


def _load(config_path: Path, overrides: tuple[str, ...]) -> tuple[JobConfig, DataConfig]:
    config = load_config(config_path, overrides)
    if config.data is None:
        raise UserInputError(
            "is needed to prepare data",
            field="data",
            fix="name the raw file in job.yaml; `sm-launch init` shows how",
        )
    return config, config.data
