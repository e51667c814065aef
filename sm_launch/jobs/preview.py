"""`sm-launch data preview`: rows as the model sees them, told by the training container itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job import naming
from sm_launch.job.base_model import resolve_model
from sm_launch.job.config import JobConfig
from sm_launch.jobs import chaining, training
from sm_launch.target.context import JobContext, open_context
from sm_launch.target.staging import LocalStage

_MODULE = "sm_train.preview"
_REFUSED = "error: "


def preview(config: JobConfig, rows: int, find: Callable[[], JobContext]) -> list[str]:
    """The first rows of each channel with template and special tokens, learnt tokens marked.

    The job is staged as the target `process` stages it, in a directory of its own that vanishes;
    nothing is trained and no weights are loaded. Another job's model is looked up at the target.

    Args:
        config: the job.
        rows: of each channel.
        find: opens the target where a job has run that this one goes on with.

    Raises:
        UserInputError: the training container's package is not installed on this machine.
        LaunchError: the job would be refused; with the container's own words.
    """
    if find_spec("sm_train") is None:
        raise UserInputError(
            "needs the training container's package on this machine",
            field="data preview",
            fix="run `make setup-dev` in the checkout; the start of each job's log shows the same",
        )
    from sm_launch.sessions.process.session import ProcessSession

    by_job = resolve_model(config).job is not None
    model = chaining.base_model(find().session, config) if by_job else None
    here = open_context(config, "process")
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sm-launch-preview-") as directory:
        home = Path(directory)
        name = naming.unique_name(config.name)
        request = training.build_request(
            config,
            LocalStage(home / "work"),
            name=name,
            image=naming.LOCAL_TRAINING_IMAGE,
            role=naming.LOCAL_ROLE,
            model=model,
        )
        request["AlgorithmSpecification"]["ContainerEntrypoint"] = [
            *("python", "-m", _MODULE, "--rows", str(rows)),
        ]
        for key in ("CheckpointConfig", "EnableManagedSpotTraining"):
            request.pop(key, None)
        session = here.reading_s3(ProcessSession(home / "sessions"))
        session.create_training_job(**request)
        status = ""
        for seen in training.follow(session, name):
            lines.extend(seen.lines)
            status = seen.status
    if status == "Failed":
        raise _refusal(lines)
    return lines


def _refusal(lines: list[str]) -> LaunchError:
    """Why the container would refuse the job, in its own words: no training has failed."""
    said = next((line for line in reversed(lines) if line.startswith(_REFUSED)), "\n".join(lines))
    message, _, fix = said.removeprefix(_REFUSED).partition(" Fix: ")
    return LaunchError(message, fix=fix or "mend the cause; the job would be refused for it, too")
