"""Batch transform: a model over files, followed to its end; nothing is left but the answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sm_launch import contract, requests
from sm_launch.aws_errors import is_missing
from sm_launch.causes import explain_failure
from sm_launch.config import JobConfig
from sm_launch.errors import LaunchError
from sm_launch.hosting_requests import TransformInputs
from sm_launch.instances import has_gpu
from sm_launch.sessions.protocol import Session

SECONDS_BETWEEN_LOOKS = 0.5
Steps = list[tuple[str, requests.Request]]


def build_requests(
    config: JobConfig, name: str, *, model_data: str, image: str, role: str, inputs: TransformInputs
) -> Steps:
    """CreateModel and CreateTransformJob, both of the same name."""
    model = requests.create_model(config, name, model_data=model_data, image=image, role=role)
    job = requests.create_transform_job(config, name, name, inputs)
    return [("create_model", model), ("create_transform_job", job)]


def warning(config: JobConfig) -> str:
    """What is likely to go wrong on SageMaker; empty where nothing is."""
    if not has_gpu(config.transform.instance_type):
        return ""
    return (
        "batch transform's GPU hosts have NVIDIA driver 535 at most, too old for CUDA 13: the "
        "serving image must be built for CUDA 12, or take a CPU type (transform.instance_type)"
    )


def start(session: Session, steps: Steps) -> None:
    """Send the requests; the model is taken back when the job is refused."""
    created = False
    try:
        for method, request in steps:
            getattr(session, method)(**request)
            created = True
    except BaseException:
        if created:
            remove_model(session, steps[0][1]["ModelName"])
        raise


def wait(
    session: Session, name: str, on_description: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Look at a transform job until it has ended.

    Raises:
        LaunchError: it failed; the message holds the server's last words and the likely cause.
    """
    while True:
        description = session.describe_transform_job(TransformJobName=name)
        on_description(description)
        status = description["TransformJobStatus"]
        if status == "Failed":
            raise _failure(session, name, description)
        if status in contract.TRANSFORM_FINAL_STATUSES:
            return description
        time.sleep(getattr(session, "seconds_between_looks", SECONDS_BETWEEN_LOOKS))


def remove_model(session: Session, name: str) -> None:
    """Forget the model of a job that is over; its artefact stays."""
    try:
        session.delete_model(ModelName=name)
    except Exception as error:
        if not is_missing(error):
            raise


def _failure(session: Session, name: str, description: dict[str, Any]) -> LaunchError:
    message, step = explain_failure(
        f"transform job {name} failed",
        description.get("FailureReason"),
        lambda: session.transform_log_lines(name, None)[0],
    )
    return LaunchError(
        message, fix=f"{step}, and run it again; files that are done have their answers"
    )
