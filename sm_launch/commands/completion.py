"""`sm-launch completion`."""

from __future__ import annotations

import click

from sm_launch.errors import LaunchError

HOW = {
    "bash": 'eval "$(sm-launch completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(sm-launch completion zsh)"    # in ~/.zshrc, below compinit',
    "fish": "sm-launch completion fish | source    # in ~/.config/fish/config.fish",
}
EPILOG = "\b\nTo load it:\n" + "\n".join(f"  {line}" for line in HOW.values())


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(list(HOW)))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in a shell."""
    from click.shell_completion import get_completion_class

    from sm_launch.cli import COMPLETION_VARIABLE, cli

    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise LaunchError("click cannot complete in this shell", field="SHELL", value=shell)
    script = completion_class(cli, {}, "sm-launch", COMPLETION_VARIABLE)
    click.echo(script.source_template % script.source_vars())
