"""The options that commands share, and what they open: a job.yaml, or a place without one."""

from __future__ import annotations

import functools
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from sm_launch.aws.errors import explain, is_missing
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.config import JobConfig, Target, load_config
from sm_launch.redaction import redact, redact_value
from sm_launch.target.context import DEFAULT_JOB, JobContext, find_config, open_context

Command = TypeVar("Command", bound=Callable[..., Any])

TARGETS = ("process", "docker", "sagemaker")


@dataclass(frozen=True)
class JobOptions:
    """--config, --set, --target and --region; the last one is an override of aws.region."""

    path: Path
    overrides: tuple[str, ...]
    target: Target | None

    def load(self) -> JobConfig:
        """The job.yaml.

        Raises:
            UserInputError: there is none, or it is wrong.
        """
        return load_config(self.path, self.overrides)

    def open(self, target: Target | None = None) -> JobContext:
        """The job.yaml at its target."""
        return open_context(self.load(), target or self.target, notify=say)

    def find(self, target: Target | None = None) -> JobContext:
        """The same where job.yaml is not needed: what is meant has a name."""
        config = find_config(self.path, self.overrides)
        return open_context(config, target or self.target, notify=say)

    def of(self, named: Sequence[str] | None) -> JobContext:
        """Where to look for what has a name; without one a job.yaml must say what is meant."""
        return self.find() if named else self.open()

    def next_command(self, *arguments: str, context: JobContext | None = None) -> str:
        """A command line that a user can paste; with `context` it looks where this one did."""
        config = ["-c", str(self.path)] if self.path != DEFAULT_JOB else []
        return shlex.join(["sm-launch", *arguments, *config, *(context.options if context else [])])

    @staticmethod
    def as_given() -> str:
        """The command line of the running command, to run it again."""
        context = click.get_current_context()
        parts = ["sm-launch", *context.command_path.split()[1:]]
        for parameter in context.command.params:
            name = parameter.name or ""
            if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
                continue
            value = context.params[name]
            for each in value if parameter.multiple or parameter.nargs != 1 else [value]:
                flag = isinstance(parameter, click.Option) and parameter.is_flag
                option = [max(parameter.opts, key=len)] * isinstance(parameter, click.Option)
                parts += [*option, *([] if flag else [str(each)])]
        return shlex.join(parts)

    @contextmanager
    def detachable(self, context: JobContext, command: str, name: str) -> Iterator[None]:
        """Ctrl-C leaves a job running; say how to come back to it and how to end it."""
        try:
            yield
        except KeyboardInterrupt:
            again = self.next_command(command, "--attach", name, context=context)
            click.echo(
                f"\ndetached: {name} goes on\n  come back:  {again}\n"
                f"  stop it:    {stop_command(context, name)}",
                err=True,
            )
            raise
        except Exception as error:
            aws_failed = explain(error) is not None and not is_missing(error)
            if aws_failed and not isinstance(error, LaunchError):
                again = self.next_command(command, "--attach", name, context=context)
                click.echo(f"{name} goes on without being looked at\n  come back:  {again}\n"
                           f"  stop it:    {stop_command(context, name)}", err=True)  # fmt: skip
            raise


def agree(question: str) -> None:
    """Ask, and end where the answer is no.

    Raises:
        UserInputError: nobody can answer.
    """
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise UserInputError(
            "there is no terminal to answer the question at", fix="agree by --yes"
        ) from error
    if not agreed:
        raise click.Abort


def stop_command(context: JobContext, *names: str) -> str:
    """The command line that ends jobs."""
    return shlex.join(["sm-launch", "stop", *names, *context.options])


def job_options(command: Command) -> Command:
    """Add the options that say which job is meant and where; the command gets `options`."""

    @functools.wraps(command)
    def with_options(
        *arguments: Any,
        config_path: Path,
        overrides: tuple[str, ...],
        target: Target | None,
        region: str | None,
        profile: str | None,
        verbose: bool,
        **given: Any,
    ) -> Any:
        if profile:
            choose_profile(profile)
        if verbose:
            log_calls()
        if region:
            overrides = (*overrides, f"aws.region={region}")
        return command(*arguments, options=JobOptions(config_path, overrides, target), **given)

    wrapped = cast("Command", with_options)
    for option in (
        click.option(
            "--verbose",
            "-v",
            is_flag=True,
            help="Tell each call of AWS as it is made.",
        ),
        click.option("--profile", help="Profile of the AWS configuration. Default: AWS_PROFILE."),
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
            default=DEFAULT_JOB,
            show_default=True,
            help="The job to work on.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def choose_profile(profile: str) -> None:
    """Let this process and its children use a profile, and not the keys of the environment."""
    os.environ["AWS_PROFILE"] = profile
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)


def log_calls() -> None:
    """Show the log of this package on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    handler.addFilter(redact_record)
    logger = logging.getLogger("sm_launch")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)


def redact_record(record: logging.LogRecord) -> bool:
    """Take secrets out of a line of the log."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


adopt_option = click.option(
    "--adopt", is_flag=True, help="Take over what another job, or nobody of ours, has made."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the exact SageMaker request as JSON and stop."
)
endpoint_argument = click.argument("endpoint", required=False)
"""The endpoint that is meant; default: job.yaml's."""
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."
)


def say(message: str, *, warning: bool = False) -> None:
    """What a user is told besides the result, on standard error."""
    click.echo(f"warning: {message}" if warning else message, err=True)


def echo_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    shown = json.loads(json.dumps(value, default=str))
    click.echo(json.dumps(redact_value(shown), indent=2))


def echo_result(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result as JSON, or as lines."""
    if as_json:
        echo_json(value)
        return
    for line in lines:
        click.echo(line)


def echo_name(key: str, name: str, *, as_json: bool) -> None:
    """Print the name of a job that goes on by itself."""
    echo_result({key: name}, [name], as_json=as_json)
