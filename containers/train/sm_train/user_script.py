"""A user's own training script: the toolkit runs it as ever, and SIGTERM reaches it."""

from __future__ import annotations

import os
import signal
import types

from sm_train.contract import Paths, read_json
from sm_train.stopping import children

PROGRAM = "sagemaker_program"


def has_user_script(paths: Paths) -> bool:
    """Whether the job names a script of its own (SDK v2 hyperparameter, or SAGEMAKER_PROGRAM)."""
    hyperparameters = read_json(paths.config / "hyperparameters.json")
    return bool(hyperparameters.get(PROGRAM) or os.environ.get("SAGEMAKER_PROGRAM"))


def run_user_script() -> None:
    """Run it through the toolkit's script mode. Failures are the toolkit's own exceptions."""
    from sagemaker_training import entry_point, environment, runner

    signal.signal(signal.SIGTERM, _pass_on)
    settings = environment.Environment()
    entry_point.run(
        settings.module_dir,
        settings.user_entry_point,
        settings.to_cmd_args(),
        settings.to_env_vars(),
        runner_type=runner.RunnerType.Process,
    )


def _pass_on(number: int, _frame: types.FrameType | None) -> None:
    for child in children(os.getpid()):
        os.kill(child, number)
