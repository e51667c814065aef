"""What there is at a target: jobs, sweeps, endpoints and registered models."""

from __future__ import annotations

from typing import Any, cast

from sm_launch.aws.paging import every
from sm_launch.target.context import JobContext

Summaries = list[dict[str, Any]]


def summaries(context: JobContext, name: str = "") -> dict[str, Summaries]:
    """SageMaker's summaries by kind, newest first.

    Args:
        context: where to look.
        name: only names that contain this.
    """
    session = context.session
    query: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    if name:
        query["NameContains"] = name
    kinds = {
        "TrainingJobs": (session.list_training_jobs, "TrainingJobSummaries"),
        "HyperParameterTuningJobs": (
            session.list_hyper_parameter_tuning_jobs,
            "HyperParameterTuningJobSummaries",
        ),
        "TransformJobs": (session.list_transform_jobs, "TransformJobSummaries"),
        "Endpoints": (session.list_endpoints, "Endpoints"),
    }
    if context.on_aws:
        groups = cast("Any", session).list_model_package_groups
        kinds["ModelPackageGroups"] = (groups, "ModelPackageGroupSummaryList")
    return {kind: list(every(*listed, **query)) for kind, listed in kinds.items()}
