"""`sm-launch`: the command line. Commands are imported when they are called, so help is instant."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sm_launch.errors import LaunchError

# Command name to (module, attribute, one line of help). The help stands here so that
# `sm-launch --help` imports none of the modules.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("init", "init", "Write a commented job.yaml."),
    "data": ("data", "data", "Prepare data: clean, split, write the channels."),
    "train": ("train", "train", "Run a training job and follow it."),
    "reproduce": ("reproduce", "reproduce", "Run a past training job again: the same model?"),
    "sweep": ("sweep", "sweep", "Search for the best hyperparameters."),
    "deploy": ("deploy", "deploy", "Put a trained model behind an endpoint."),
    "weights": ("weights", "weights", "Share an endpoint's traffic among its variants."),
    "transform": ("transform", "transform", "Run a model over files, without an endpoint."),
    "invoke": ("invoke", "invoke", "Send one request to an endpoint."),
    "chat": ("chat", "chat", "Talk to an endpoint; answers are streamed."),
    "evaluate": ("evaluate", "evaluate", "Measure a model on held-out data; write a report."),
    "optimize": ("optimize", "optimize", "Make a model smaller and faster, and prove it."),
    "register": ("register", "register", "Put a model into SageMaker Model Registry."),
    "pipeline": ("pipeline", "pipeline", "Make a SageMaker Pipeline of job.yaml."),
    "schedule": ("schedule", "schedule", "Train by the clock."),
    "compare": ("compare", "compare", "Compare two models: significant, or chance?"),
    "monitor": ("monitor", "monitor", "Watch traffic, latency, errors, machines and drift."),
    "alarms": ("alarms", "alarms", "Make an endpoint's CloudWatch alarms."),
    "dashboard": ("dashboard", "dashboard", "Make an endpoint's CloudWatch dashboard."),
    "status": ("status", "status", "All of a project, and what it has cost so far."),
    "list": ("list", "list_", "List jobs, sweeps and endpoints."),
    "logs": ("logs", "logs", "Print the log of a job or an endpoint."),
    "stop": ("stop", "stop", "Stop a training job, a sweep or a transform."),
    "delete": ("delete", "delete", "Delete an endpoint with its configuration and model."),
    "setup": ("setup", "setup", "Make roles, bucket and repositories on AWS, once."),
    "doctor": ("doctor", "doctor", "Check the machine and the AWS account; name each fix."),
    "estimate": ("estimate", "estimate", "Memory, instance type and price of a training."),
    "gc": ("gc", "gc", "Find and delete what jobs left behind."),
    "images": ("images", "images", "Build, push and list the container images."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
}
COMPLETION_VARIABLE = "_SM_LAUNCH_COMPLETE"

EPILOG = """\b
Exit codes: 0 success, 1 something failed, 2 wrong input, 3 a quality gate was missed,
130 interrupted."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"sm_launch.commands.{module}"), attribute
        )
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click would import every command for its help; here it stands above.
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=help_)
            for name, (_, _, help_) in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sm-launch")
def cli() -> None:
    """Fine-tune a model, put it behind an endpoint and know how good it is.

    Everything is driven by one job.yaml and runs in plain processes, in Docker or on SageMaker.
    """


def main() -> None:
    """Console entry point: turns errors into one clear message and a documented exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    from sm_launch.errors import LaunchError

    try:
        # With standalone_mode off click returns the exit code of ctx.exit().
        result: Any = cli.main(
            arguments,
            prog_name="sm-launch",
            standalone_mode=False,
            complete_var=COMPLETION_VARIABLE,
            color=_colour(),
        )
    except LaunchError as error:
        return _fail(_with_fix(error), arguments)
    except click.ClickException as error:
        return _misused(error, arguments)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(arguments)
    except BrokenPipeError:
        # The reader (head, less) has gone; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from sm_launch.aws.errors import explain

        explained = explain(error)
        if explained is None:
            raise
        return _fail(explained, arguments)
    return result if isinstance(result, int) else 0


def _with_fix(error: LaunchError) -> LaunchError:
    """What a local session answered in the service's words, explained as the service's own."""
    if not hasattr(error, "response"):
        return error
    from sm_launch.aws.errors import explain

    explained = error if error.fix else explain(error) or error
    return _listing_in(explained, "process")


def _listing_in(error: LaunchError, target: str) -> LaunchError:
    """`sm-launch list` may look elsewhere by default: name the place that was looked at."""
    fix = (error.fix or "").replace("`sm-launch list`", f"`sm-launch list --target {target}`")
    return error.with_fix(fix) if fix else error


def _fail(error: LaunchError, arguments: list[str]) -> int:
    from sm_launch.redaction import redact

    if target := _value_of("--target", arguments):
        error = _listing_in(error, target)
    if _wants_json(arguments):
        _echo_error(error.as_dict())
    else:
        line = f"{click.style('error:', fg='red')} {redact(str(error))}"
        click.echo(line, err=True, color=_colour())
    return error.exit_code


def _misused(error: click.ClickException, arguments: list[str]) -> int:
    if _wants_json(arguments):
        option = getattr(error, "option_name", None) or getattr(error, "param_hint", None)
        parameter = getattr(error, "param", None)
        field = option or (parameter.opts[0] if parameter is not None else None)
        _echo_error({"message": error.format_message(), "field": field, "exit_code": 2})
    else:
        error.show()
    return 2


def _interrupted(arguments: list[str]) -> int:
    if _wants_json(arguments):
        _echo_error({"message": "interrupted", "exit_code": 130})
    else:
        click.echo("interrupted", err=True)
    return 130


def _wants_json(arguments: list[str]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _value_of(option: str, arguments: list[str]) -> str | None:
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == option:
            return following or None
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _echo_error(failure: dict[str, Any]) -> None:
    """The last line of standard error; standard output may hold a result already."""
    import json

    from sm_launch.redaction import redact_value

    empty: dict[str, Any] = {"message": "", "field": None, "value": None, "fix": None}
    shown = json.loads(json.dumps({"error": {**empty, **failure}}, default=str))
    click.echo(json.dumps(redact_value(shown)), err=True)


def _colour() -> bool | None:
    """False where NO_COLOR is set (no-color.org); None: colours on a terminal only."""
    return False if os.environ.get("NO_COLOR") else None
