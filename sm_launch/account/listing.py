"""What there is at a target, of all projects: jobs, endpoints, registered models, schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sm_launch.aws.errors import DENIED, explained
from sm_launch.aws.paging import every
from sm_launch.jobs.schedules import TARGET
from sm_launch.target.context import JobContext

Summaries = list[dict[str, Any]]


def summaries(context: JobContext, name: str = "") -> dict[str, Summaries]:
    """SageMaker's summaries by kind, newest first.

    Args:
        context: where to look.
        name: only names that contain this.
    """
    session: Any = context.session
    newest: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    query = {**newest, "NameContains": name} if name else newest
    kinds = {
        "TrainingJobs": (session.list_training_jobs, "TrainingJobSummaries"),
        "HyperParameterTuningJobs": (
            session.list_hyper_parameter_tuning_jobs,
            "HyperParameterTuningJobSummaries",
        ),
        "TransformJobs": (session.list_transform_jobs, "TransformJobSummaries"),
        "Endpoints": (session.list_endpoints, "Endpoints"),
    }
    # The first ones need the least rights: who may not list them has none here, and is told so.
    listed = {kind: list(every(*call, **query)) for kind, call in kinds.items()}
    if not context.on_aws:
        return listed
    more = {
        "ProcessingJobs": (session.list_processing_jobs, "ProcessingJobSummaries"),
        "ModelPackageGroups": (session.list_model_package_groups, "ModelPackageGroupSummaryList"),
    }
    listed |= {kind: _allowed(context, kind, every(*call, **query)) for kind, call in more.items()}
    return {**listed, **_by_prefix(context, name, newest)}


def _by_prefix(context: JobContext, name: str, newest: dict[str, Any]) -> dict[str, Summaries]:
    """Pipelines and schedules, which AWS finds by a prefix only."""
    session: Any = context.session
    pipelines = every(session.list_pipelines, "PipelineSummaries", **newest)
    schedules = (
        each
        for each in every(context.clients("scheduler").list_schedules, "Schedules")
        if each.get("Target", {}).get("Arn") == TARGET  # an account has others, too
    )
    listed = {"Pipelines": ("PipelineName", pipelines), "Schedules": ("Name", schedules)}
    return {
        kind: [each for each in _allowed(context, kind, rows) if name in each[key]]
        for kind, (key, rows) in listed.items()
    }


def _allowed(context: JobContext, kind: str, rows: Iterable[dict[str, Any]]) -> Summaries:
    """The rows; where they may not be looked at, the user is told, and gets the other kinds."""
    from botocore.exceptions import ClientError

    try:
        return list(rows)
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        context.warn(f"{kind} are left out: {explained(error).message}")
        return []
