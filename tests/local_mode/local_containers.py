"""What the tests ask the Docker Engine itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sm_launch.sessions.docker import engine


def docker(*arguments: str) -> str:
    """Output of a docker command that must succeed."""
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def containers_of(home: Path) -> list[str]:
    """Ids of the containers that the session in `home` has, running or not."""
    directories = [each for each in engine.watched_directories() if home in Path(each).parents]
    return [each for directory in directories for each in engine.containers(directory)]
