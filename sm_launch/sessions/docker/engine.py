"""The few things that are asked of the Docker Engine directly."""

from __future__ import annotations

import subprocess

from sm_launch.errors import LaunchError

LABEL = "sm-launch.record"
"""Label of every container: the directory of the job or server that it belongs to."""


def require_engine() -> None:
    """Refuse unless an engine with compose answers.

    Raises:
        LaunchError: there is none.
    """
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            problem = answer.stderr.strip().splitlines()[-1:] if answer.returncode else None
        except FileNotFoundError:
            problem = ["the docker command is not installed"]
        if problem is not None:
            raise LaunchError(
                f"`{' '.join(command)}` failed: {' '.join(problem)}",
                fix="install and start Docker with compose v2 (.ci/docker-engine does on Debian), "
                "or use --target process",
            )


def watched_directories() -> set[str]:
    """The records that have containers."""
    template = '{{.Label "' + LABEL + '"}}'
    listing = _docker("ps", "--all", "--filter", f"label={LABEL}", "--format", template)
    return set(listing.split("\n")) - {""}


def containers(directory: str) -> list[str]:
    """Ids of a record's containers, running or not."""
    return _docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={directory}").split()


def stop_containers(directory: str, grace: int) -> None:
    """SIGTERM now, SIGKILL after `grace` seconds; returns at once."""
    ids = containers(directory)
    if ids:
        subprocess.Popen(
            ["docker", "stop", "--time", str(grace), *ids],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def remove_containers(directory: str) -> None:
    """Remove a record's containers, and the networks that only they used."""
    networks: set[str] = set()
    for container in containers(directory):
        names = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}"
        networks.update(_docker("inspect", "--format", names, container).split())
        _docker("rm", "--force", "--volumes", container)
    for network in networks - {"none", "host", "bridge"}:
        _docker("network", "rm", network)


def take_over(image: str, directories: list[str], user: int, group: int) -> None:
    """Give files that a container wrote as root to the user who runs the launcher."""
    mounts = [part for path in directories for part in ("--volume", f"{path}:{path}")]
    _docker("run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "chown", *mounts,
            image, "--recursive", f"{user}:{group}", *directories)  # fmt: skip


def _docker(*arguments: str) -> str:
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
