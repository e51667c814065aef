"""What the training image would refuse of a job's settings, said before anything is sent.

Two settings that exclude each other, or one that the method cannot do, cost an instance's start
where only the image says so. Its check is asked, as a process of its own: it is the same code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.hyperparameters import FIELD, OUR_IMAGE, trainer_folder

_SECONDS = 60
_ELSEWHERE = ("config", "accelerate_config", "deepspeed")
"""Settings that may name files of the channels or of the image."""


def check_settings(method: str, values: Mapping[str, Any], image: str) -> None:
    """Refuse hyperparameters that the image of ours refuses by themselves.

    Args:
        method: of training.
        values: the hyperparameters, as in job.yaml.
        image: training image; one that is not ours has rules of its own.

    Raises:
        UserInputError: as the image would say it.
        LaunchError: the check could not be run.
    """
    others = PROGRAM in values or any(key in values for key in _ELSEWHERE)
    if others or not OUR_IMAGE.search(image):
        return
    refusal = _refusal({**values, "method": method})
    if refusal is not None:
        raise UserInputError(
            refusal["message"],
            field=f"{FIELD}.{refusal['field']}" if refusal["field"] else FIELD,
            value=refusal["value"],
            fix=refusal["fix"],
        )


def _refusal(values: Mapping[str, Any]) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "sm_train.check"]
    places = {"PYTHONPATH": str(trainer_folder()), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, input=json.dumps(values), env={**os.environ, **places},
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().rpartition("\n")[2]
        raise LaunchError(
            f"the check of the hyperparameters failed: {said}", field=FIELD
        ) from error
    refusal: dict[str, Any] | None = json.loads(done.stdout)
    return refusal
