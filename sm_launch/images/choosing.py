"""Which of the images built on this machine a job takes that names none."""

from __future__ import annotations

import shutil
import subprocess

from sm_launch.errors import LaunchError
from sm_launch.images.checkout import default_tag, repository
from sm_launch.images.engine import docker


def built_image(image: str) -> str | None:
    """`sm-train` or `sm-serve` of this checkout's commit, else the one built last; None: no such.

    The GPU flavour is taken where this machine has a GPU, if it was built.

    Raises:
        LaunchError: docker is not there, or its engine does not answer.
    """
    listed = docker("images", f"sm-{image}", "--format", "{{.Tag}}").split()  # the newest first
    flavors = ("gpu", "cpu") if _has_gpu() else ("cpu",)
    for flavor in flavors:
        ours = [tag for tag in listed if tag.endswith(f"-{flavor}")]
        preferred = [tag for tag in ours if tag == f"{_commit()}-{flavor}"]
        for tag in [*preferred, *ours]:
            return f"sm-{image}:{tag}"
    return None


def _commit() -> str | None:
    try:
        return default_tag(repository())
    except LaunchError:  # not installed from a checkout
        return None


def _has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and "GPU" in answer.stdout
