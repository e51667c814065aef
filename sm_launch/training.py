"""Training jobs: submit the request, follow it to its end, explain a failure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sm_launch import contract, requests
from sm_launch.causes import LAST_LOG_LINES, explain_failure
from sm_launch.config import JobConfig
from sm_launch.errors import LaunchError
from sm_launch.hyperparameters import check_hyperparameters, metric_definitions
from sm_launch.sessions.protocol import Session
from sm_launch.staging import Stage, resolve_channels, resolve_model

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Observation:
    """What following a job sees at one look.

    Attributes:
        status: SageMaker's TrainingJobStatus.
        secondary_status: SageMaker's SecondaryStatus.
        lines: log lines that are new since the last look.
        description: the whole DescribeTrainingJob answer.
    """

    status: str
    secondary_status: str
    lines: list[str]
    description: dict[str, Any]


def build_request(
    config: JobConfig, stage: Stage, *, name: str, image: str, role: str
) -> requests.Request:
    """Everything checked and staged, as one CreateTrainingJob request.

    Raises:
        UserInputError: bad hyperparameters, missing data or a missing base model.
    """
    check_hyperparameters(config.training.method, config.training.hyperparameters)
    model = resolve_model(config)
    locations = resolve_channels(config)
    if model.location:
        locations["model"] = model.location
    channels = {channel: stage.channel(channel, where) for channel, where in locations.items()}
    inputs = requests.TrainingInputs(
        channels=channels,
        output=stage.output("jobs"),
        checkpoints=_checkpoints(config, stage),
        model=model.hub_id,
        metric_definitions=metric_definitions(),
        image=image,
        role=role,
    )
    return requests.create_training_job(config, name, inputs)


def check_request(config: JobConfig, *, image: str, role: str) -> list[str]:
    """Hold job.yaml's values against SageMaker's own limits before anything is uploaded.

    Returns:
        Warnings: what the installed botocore does not know, though AWS may.

    Raises:
        RequestError, ServiceError: a value that SageMaker does not take.
    """
    from sm_launch.sessions.process.validation import RequestValidator

    inputs = requests.TrainingInputs(
        channels={"train": "s3://bucket/train/"},
        output="s3://bucket/jobs",
        checkpoints="s3://bucket/checkpoints",
        model=None,
        metric_definitions=metric_definitions(),
        image=image,
        role=role,
    )
    request = requests.create_training_job(config, requests.unique_name(config.name), inputs)
    validator = RequestValidator("sagemaker", enums=False)
    validator.check("CreateTrainingJob", request)
    return unknown_type(validator.values("ResourceConfig", "InstanceType"),
                        "training.instances.type", config.training.instances.type)  # fmt: skip


def data_warnings(config: JobConfig) -> list[str]:
    """What is doubtful in a classifier's local train channel: labels that look like one."""
    if config.training.method != "text-classification":
        return []
    train = resolve_channels(config).get("train")
    if train is None or "://" in train:
        return []
    from sm_launch.data.channel_labels import label_warnings

    column = str(config.training.hyperparameters.get("label_column", "label"))
    return label_warnings(Path(train), column)


def unknown_type(known: list[str], field: str, value: str) -> list[str]:
    """A warning where the installed botocore does not know an instance type."""
    if value in known:
        return []
    close = get_close_matches(value, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return [f"{field}: the installed botocore does not know {value}{hint}"]


def _checkpoints(config: JobConfig, stage: Stage) -> str | None:
    location = config.training.checkpoints
    if location is None:
        return stage.output("checkpoints") if config.training.spot else None
    if location.startswith("s3://"):
        return location
    path = config.path(location)
    path.mkdir(parents=True, exist_ok=True)
    return stage.channel("checkpoints", str(path))


def follow(session: Session, name: str) -> Iterator[Observation]:
    """Look at a job until it has ended, with the log lines as they come."""
    cursor: Any = None
    while True:
        # Describe first: lines written before the status changed are then never missed.
        description = session.describe_training_job(TrainingJobName=name)
        lines, cursor = session.training_log_lines(name, cursor)
        status = description["TrainingJobStatus"]
        lag = getattr(session, "log_lag_seconds", 0.0)
        if status == "Failed" and lag:
            # The last lines, which say why, come later than the status.
            time.sleep(lag)
            late, cursor = session.training_log_lines(name, cursor)
            lines = [*lines, *late]
        yield Observation(status, description.get("SecondaryStatus", ""), lines, description)
        if status in contract.TRAINING_FINAL_STATUSES:
            return
        time.sleep(getattr(session, "seconds_between_looks", SECONDS_BETWEEN_LOOKS))


def wait(
    session: Session, name: str, on_observation: Callable[[Observation], None]
) -> dict[str, Any]:
    """Follow a job and return its last description.

    Raises:
        LaunchError: the job failed; the message holds the container's own words.
    """
    tail: list[str] = []
    description: dict[str, Any] = {}
    for observation in follow(session, name):
        on_observation(observation)
        tail = [*tail, *observation.lines][-LAST_LOG_LINES:]
        description = observation.description
    if description["TrainingJobStatus"] == "Failed":
        raise failure(name, description, tail)
    return description


def failure(name: str, description: dict[str, Any], tail: list[str]) -> LaunchError:
    """The error that says why a job failed: its own reason, the last log lines, the next step."""
    message, step = explain_failure(
        f"training job {name} failed", description.get("FailureReason"), lambda: tail
    )
    return LaunchError(message, fix=f"{step} and run it again; earlier artefacts are untouched")


def jobs_of(session: Session, base_name: str, status: str) -> list[str]:
    """Names of the training jobs of a job.yaml that have a status, newest first."""
    answer = session.list_training_jobs(
        NameContains=base_name,
        StatusEquals=status,
        SortBy="CreationTime",
        SortOrder="Descending",
    )
    ours = re.compile(re.escape(base_name) + r"-\d{8}-\d{6}-\d{3}")
    names = (summary["TrainingJobName"] for summary in answer["TrainingJobSummaries"])
    return [name for name in names if ours.fullmatch(name)]


def latest_completed(session: Session, base_name: str) -> dict[str, Any]:
    """The newest completed training job of a job.yaml.

    Raises:
        LaunchError: there is none.
    """
    for name in jobs_of(session, base_name, "Completed"):
        return session.describe_training_job(TrainingJobName=name)
    raise LaunchError(
        "no completed training job to deploy",
        field="name",
        value=base_name,
        fix="run `sm-launch train` first, or name a model with --model-data",
    )
