"""The options that commands share, and what they open: a job.yaml, a session, a stage."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from sm_launch import requests
from sm_launch.config import JobConfig, Target, load_config, resolve_target
from sm_launch.errors import UserInputError
from sm_launch.redaction import redact
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session
from sm_launch.staging import LocalStage, Stage

Command = TypeVar("Command", bound=Callable[..., Any])

TARGETS = ("process", "docker", "sagemaker")


def job_options(command: Command) -> Command:
    """--config, --set and --target."""
    for option in (
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
        command = option(command)
    return command


target_option = click.option(
    "--target",
    type=click.Choice(TARGETS),
    help="Where to look. Default: sagemaker where AWS credentials are configured, else process.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the exact SageMaker request as JSON and stop."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."
)


@dataclass(frozen=True)
class Workplace:
    """What a command works with: the job, where it runs, and how files get there."""

    config: JobConfig
    target: Target
    training_image: str
    serving_image: str
    training_role: str
    hosting_role: str

    def session(self) -> Session:
        return open_session(self.target, region=self.config.aws.region)

    def stage(self, *, upload: bool = True) -> Stage:
        """Where files go; without `upload` on SageMaker nothing is sent."""
        if self.target != "sagemaker":
            return LocalStage(self.config.work_path)
        from sm_launch.buckets import s3_stage

        return s3_stage(self.config, upload=upload)


def open_workplace(
    config_path: Path, overrides: tuple[str, ...], target: Target | None
) -> Workplace:
    """Read job.yaml and settle what the target needs.

    Raises:
        UserInputError: job.yaml is wrong, or lacks what the target needs.
    """
    config = load_config(config_path, overrides)
    settled = resolve_target(config, target)
    return Workplace(
        config=config,
        target=settled,
        training_image=_image(config, settled, "training"),
        serving_image=_image(config, settled, "endpoint"),
        training_role=_role(config, settled, config.aws.training_role),
        hosting_role=_role(config, settled, config.aws.hosting_role or config.aws.training_role),
    )


def _image(config: JobConfig, target: Target, section: str) -> str:
    named = config.training.image if section == "training" else config.endpoint.image
    if named:
        return named
    if target == "process":
        local = (requests.LOCAL_TRAINING_IMAGE, requests.LOCAL_SERVING_IMAGE)
        return local[0] if section == "training" else local[1]
    raise UserInputError(
        f"is needed for the target {target}",
        field=f"{section}.image",
        fix="run `make build` (and `make push` for SageMaker) and put the image URI it prints "
        "into job.yaml",
    )


def _role(config: JobConfig, target: Target, role: str | None) -> str:
    if role:
        return role
    if target == "sagemaker":
        raise UserInputError(
            "is needed for the target sagemaker",
            field="aws.training_role",
            fix="put the ARN of a SageMaker execution role into job.yaml",
        )
    return requests.LOCAL_ROLE


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


def require_sagemaker(config: JobConfig | None, target: Target | None, what: str) -> None:
    """Refuse what only AWS has.

    Raises:
        UserInputError: the target is another one.
    """
    settled = resolve_target(config, target)
    if settled != "sagemaker":
        raise UserInputError(
            f"{what}: only SageMaker endpoints have that",
            field="--target",
            value=settled,
            fix="give --target sagemaker; `sm-launch monitor` watches local endpoints",
        )


def echo_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    click.echo(redact(json.dumps(value, indent=2, default=str)))


def next_command(*words: str, config_path: Path | None = None) -> str:
    """A command line that a user can paste."""
    config = ["-c", str(config_path)] if config_path and config_path != Path("job.yaml") else []
    return shlex.join(["sm-launch", *words, *config])
