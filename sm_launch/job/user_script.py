"""A training script of the user's: how the training toolkit is told of it, and where it lies.

SageMaker training toolkit, README, "How a script is executed": the hyperparameters
`sagemaker_program` and `sagemaker_submit_directory`, and a requirements.txt beside the script.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sm_launch.errors import UserInputError
from sm_launch.job.hyperparameter_names import PROGRAM, SUBMIT_DIRECTORY

if TYPE_CHECKING:
    from sm_launch.job.config import JobConfig

CHANNEL = "code"
_IN_CONTAINER = f"/opt/ml/input/data/{CHANNEL}"
_REQUIREMENTS = "requirements.txt"


def hyperparameters(script: str, source_dir: str | None) -> dict[str, str]:
    """What tells the toolkit: the script inside its directory, and where that is."""
    name = script if source_dir is not None else PurePosixPath(script).name
    return {PROGRAM: PurePosixPath(name).as_posix(), SUBMIT_DIRECTORY: _IN_CONTAINER}


def clash(script: str, given: Mapping[str, object], channels: Mapping[str, str]) -> str:
    """What else names a script; empty where nothing does."""
    names = {PurePosixPath(script).as_posix(), PurePosixPath(script).name}
    if str(given.get(PROGRAM, script)) not in {script, *names}:
        return f"script: the hyperparameter {PROGRAM} names another one; leave one of both out"
    if CHANNEL in channels:
        return f"script: the channel {CHANNEL} is what brings it; name it otherwise"
    return ""


def place(config: JobConfig) -> Path:
    """The file or directory that becomes the channel `code`.

    Raises:
        UserInputError: it is not there, or its packages could not be installed.
    """
    training = config.training
    script = str(training.script)
    if training.source_dir is None:
        path = config.path(script)
        if not path.is_file():
            raise UserInputError("no such file", field="training.script", value=str(path))
        return path
    directory = config.path(training.source_dir)
    if not directory.is_dir():
        raise UserInputError("no such directory", field="training.source_dir", value=str(directory))
    file = (directory / script).resolve()
    if not file.is_file() or not file.is_relative_to(directory):
        raise UserInputError(
            "is no file of training.source_dir",
            field="training.script",
            value=script,
            fix=f"name it as it is called below {directory}",
        )
    if training.network.isolation and (directory / _REQUIREMENTS).is_file():
        raise UserInputError(
            f"forbids to install what {_REQUIREMENTS} lists",
            field="training.network.isolation",
            value=True,
            fix=f"build an image that has the packages, and take {_REQUIREMENTS} out",
        )
    return directory
