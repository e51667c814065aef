"""The options that commands share, and what they open: a job.yaml, a session, a stage."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from sm_launch import workplace
from sm_launch.config import Target, load_config
from sm_launch.errors import UserInputError
from sm_launch.redaction import redact_value
from sm_launch.workplace import Workplace, find_workplace

__all__ = [
    "Workplace",
    "adopt_option",
    "dry_run_option",
    "echo_json",
    "endpoint_option",
    "find_workplace",
    "job_options",
    "json_option",
    "next_command",
    "open_workplace",
    "require_sagemaker",
]

Command = TypeVar("Command", bound=Callable[..., Any])

TARGETS = ("process", "docker", "sagemaker")


def job_options(command: Command) -> Command:
    """--config, --set, --target and --region; the last one is an override of aws.region."""

    @functools.wraps(command)
    def with_region(*arguments: Any, region: str | None, **options: Any) -> Any:
        if region:
            options["overrides"] = (*options["overrides"], f"aws.region={region}")
        return command(*arguments, **options)

    wrapped = cast("Command", with_region)
    for option in (
        click.option(
            "--region", help="AWS region. Default: job.yaml's, else the AWS configuration's."
        ),
        click.option(
            "--target",
            type=click.Choice(TARGETS),
            help="Where to run. Default: job.yaml's, else sagemaker where AWS credentials are "
            "configured, else process.",
        ),
        click.option(
            "--set",
            "-s",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override a key of job.yaml, such as training.hyperparameters.seed=1. Repeatable.",
        ),
        click.option(
            "--config",
            "-c",
            "config_path",
            type=click.Path(path_type=Path, dir_okay=False),
            default=Path("job.yaml"),
            show_default=True,
            help="The job to work on.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


adopt_option = click.option(
    "--adopt", is_flag=True, help="Take over what another job, or nobody of ours, has made."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the exact SageMaker request as JSON and stop."
)
endpoint_option = click.option("--endpoint", metavar="NAME", help="Default: job.yaml's.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."
)


def open_workplace(
    config_path: Path, overrides: tuple[str, ...], target: Target | None
) -> Workplace:
    """Read job.yaml and settle what the target needs.

    Raises:
        UserInputError: job.yaml is wrong, or lacks what the target needs.
    """
    return workplace.open_workplace(load_config(config_path, overrides), target)


def check_early(workplace: Workplace) -> None:
    """What SageMaker would refuse is refused now, before data is uploaded.

    Raises:
        LaunchError: a value that SageMaker does not take.
    """
    if workplace.target != "sagemaker":
        return
    from sm_launch import training

    config = workplace.config
    for words in training.check_request(
        config, image=workplace.training_image, role=workplace.training_role
    ):
        click.echo(f"warning: {words}", err=True)


def announce_image(place: Workplace, image: str) -> None:
    """Say which image is taken: in Docker it may be one that was built here and nobody named."""
    if place.target != "process":
        click.echo(f"image: {image}", err=True)


def require_sagemaker(place: Workplace, what: str) -> None:
    """Refuse what only AWS has.

    Raises:
        UserInputError: the target is another one.
    """
    if place.target != "sagemaker":
        raise UserInputError(
            f"{what}: only SageMaker endpoints have that",
            field="--target",
            value=place.target,
            fix="give --target sagemaker; `sm-launch monitor` watches local endpoints",
        )


def echo_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    shown = json.loads(json.dumps(value, default=str))
    click.echo(json.dumps(redact_value(shown), indent=2))


def next_command(
    *words: str, config_path: Path | None = None, place: Workplace | None = None
) -> str:
    """A command line that a user can paste; with `place` it looks where this one did."""
    config = ["-c", str(config_path)] if config_path and config_path != Path("job.yaml") else []
    return shlex.join(["sm-launch", *words, *config, *(place.options if place else [])])
