"""Models that are kept, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sm_launch.api.opening import DEFAULT_JOB, Job, open_job
from sm_launch.job.config import Target
from sm_launch.job.registry import Approval


def register(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    training_job: str | None = None,
    model_data: str | None = None,
    group: str | None = None,
    evaluation: str | Path | None = None,
    without_evaluation: bool = False,
    approval: Approval | None = None,
    adopt: bool = False,
) -> dict[str, Any]:
    """Put a model into SageMaker Model Registry; DescribeModelPackage's answer.

    As `sm-launch register` does.

    Args:
        training_job: whose model; default: the newest that completed.
        model_data: an artefact on S3 instead.
        group: model package group; default: job.yaml's.
        evaluation: its evaluation.json; default: where `evaluate` writes it.
        without_evaluation: register what nobody has measured.
        approval: pending, approved or rejected; default: job.yaml's.

    Raises:
        QualityGateError: it is to be approved, and its evaluation missed a gate.
    """
    from sm_launch.evaluation.job import registering

    context = open_job(job, overrides, target, region)
    request = registering.Request(
        job=training_job,
        model_data=model_data,
        group=group,
        evaluation=Path(evaluation) if evaluation else None,
        without_evaluation=without_evaluation,
        approval=approval,
    )
    return registering.start(context, registering.prepare(context, request), adopt=adopt)


def pipeline(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    write: str | Path | None = None,
    adopt: bool = False,
) -> dict[str, Any]:
    """Make or update a SageMaker Pipeline of job.yaml: `sm-launch pipeline`.

    Args:
        name: of the pipeline; default: job.yaml's.
        write: a file for the definition; no pipeline is made then.

    Returns:
        `PipelineArn` and `created`; with `write` the definition itself.

    Raises:
        UserInputError: a gate that training does not measure, or a local target.
    """
    from sm_launch.hosting import pipelines

    context = open_job(job, overrides, target, region)
    planned = pipelines.prepare(context, name=name)
    if write:
        planned.write(Path(write))
        return planned.definition
    arn, new = pipelines.upsert(context, planned, adopt=adopt)
    return {"PipelineArn": arn, "created": new}
