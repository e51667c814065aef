"""`sm-launch chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sm_launch.commands.options import JobOptions, job_options
from sm_launch.errors import LaunchError

if TYPE_CHECKING:
    from sm_launch.hosting.chat import Conversation

HELP = "/reset forgets the conversation, /system TEXT sets the system message, /exit ends it"


@click.command()
@click.argument("endpoint")
@click.option("--system", default="", help="System message of the conversation.")
@click.option("--max-tokens", type=int, default=512, show_default=True, help="Longest answer.")
@click.option("--temperature", type=float, help="0: always the likeliest token.")
@click.option("--component", help="Ask this inference component, such as ENDPOINT-ADAPTER.")
@job_options
def chat(
    endpoint: str,
    system: str,
    max_tokens: int,
    temperature: float | None,
    component: str | None,
    options: JobOptions,
) -> None:
    """Talk to an endpoint; answers are streamed.

    Ctrl-C breaks an answer off, Ctrl-D or /exit ends the conversation. Without a terminal every
    line of standard input is a turn.
    """
    from sm_launch.hosting.chat import begin

    talk = begin(
        options.find(),
        endpoint,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        component=component,
    )
    terminal = sys.stdin.isatty()
    if terminal:
        _allow_editing()
        click.secho(f"{endpoint}: {HELP}", dim=True, err=True)
    while (line := _read(terminal=terminal)) is not None:
        if line.startswith("/"):
            if not _command(talk, line):
                return
        elif line.strip():
            _turn(talk, line, terminal=terminal)


def _allow_editing() -> None:
    """Arrow keys and history, where Python has them."""
    import contextlib
    import importlib

    with contextlib.suppress(ImportError):
        importlib.import_module("readline")


def _read(*, terminal: bool) -> str | None:
    try:
        return input(click.style("> ", bold=True) if terminal else "")
    except EOFError:
        return None
    except KeyboardInterrupt:
        click.echo(err=True)
        return ""


def _command(talk: Conversation, line: str) -> bool:
    """Do what a line with a slash says; False ends the conversation."""
    word, _, rest = line.partition(" ")
    if word in {"/exit", "/quit"}:
        return False
    if word == "/reset":
        talk.forget()
    elif word == "/system":
        talk.system = rest.strip()
        talk.forget()
    else:
        click.echo(HELP, err=True)
    return True


def _turn(talk: Conversation, line: str, *, terminal: bool) -> None:
    from sm_launch.aws.errors import explain
    from sm_launch.hosting.streaming import harmless

    try:
        for piece in talk.ask(line):
            click.echo(harmless(piece), nl=False)
        click.echo()
    except KeyboardInterrupt:
        click.secho("\n(broken off; not remembered)", dim=True, err=True)
        return
    except Exception as error:
        explained = error if isinstance(error, LaunchError) else explain(error)
        # On a terminal one failed answer does not end the conversation.
        if explained is None or not terminal:
            raise
        click.secho(f"\n{explained}", fg="red", err=True)
        return
    if terminal and talk.pieces > 1:
        speed = (talk.pieces - 1) / max(talk.seconds - talk.seconds_to_first, 1e-6)
        timing = f"first piece after {talk.seconds_to_first:.2f} s, then {speed:.0f} pieces/s"
        click.secho(timing, dim=True, err=True)
