"""SageMaker Model Registry: a model as a version of a group, and the newest approved one back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import requests
from sm_launch.hosting.served_models import model_of_container
from sm_launch.job import naming
from sm_launch.job.config import JobConfig
from sm_launch.job.passthrough import merged
from sm_launch.job.registry import Approval
from sm_launch.job.tasks import TASKS, classifier_task
from sm_launch.sessions.references import is_reference
from sm_launch.target import ownership
from sm_launch.target.context import JobContext

APPROVALS: Mapping[Approval, str] = {
    "pending": "PendingManualApproval",
    "approved": "Approved",
    "rejected": "Rejected",
}
# What the serving image reads and writes: sm_serve's schemas/media.py.
CONTENT_TYPES = ["application/json", "application/jsonlines", "text/csv", "text/plain"]
ANSWER_TYPES = ["application/json", "application/jsonlines", "text/csv"]
# Service model, CreateModelPackage.Task: the names that Inference Recommender knows.
_TASKS = {
    "text-classification": "CLASSIFICATION",
    "multi-label-classification": "CLASSIFICATION",
    "regression": "REGRESSION",
    "text-generation": "TEXT_GENERATION",
}
# Service model, CustomerMetadataMap.
_PROPERTY_LENGTH = 256
_PROPERTY_TAKES_NOT = re.compile(r"[^\w .:/=+\-@]")


@dataclass(frozen=True)
class PackageInputs:
    """What a version holds that is not in job.yaml as such.

    Attributes:
        model_data: URI of the artefact.
        image: URI of the serving image.
        approval: the version's status.
        description: a line for the list of versions.
        lineage: MetadataProperties: GeneratedBy, CommitId, Repository.
        properties: CustomerMetadataProperties, as text of any form.
        metrics: ModelMetrics.
        card: the model card's content, as JSON.
    """

    model_data: str
    image: str
    approval: Approval
    description: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""


def group_of(config: JobConfig, named: str | None = None) -> str:
    """The group that is meant: the one that is named, else job.yaml's, else the job's name."""
    return named or config.registry.group or config.name


def group_request(config: JobConfig, group: str) -> naming.Request:
    """CreateModelPackageGroup."""
    return {
        "ModelPackageGroupName": group,
        "ModelPackageGroupDescription": f"Models of the job {config.name}",
        "Tags": naming.tags(config),
    }


def package_request(config: JobConfig, group: str, inputs: PackageInputs) -> naming.Request:
    """CreateModelPackage: a version. It has no tags: those of its group hold (service model)."""
    request: naming.Request = {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": APPROVALS[inputs.approval],
        "InferenceSpecification": _inference(config, inputs),
        "Domain": "NATURAL_LANGUAGE_PROCESSING",
        "Task": task_of(config),
    }
    optional = {
        "ModelPackageDescription": inputs.description,
        "MetadataProperties": dict(inputs.lineage),
        "CustomerMetadataProperties": _properties(inputs.properties),
        "ModelMetrics": dict(inputs.metrics),
    }
    request |= {name: value for name, value in optional.items() if value}
    if inputs.card:
        status = "Approved" if inputs.approval == "approved" else "PendingReview"
        request["ModelCard"] = {"ModelCardContent": inputs.card, "ModelCardStatus": status}
    return merged(request, config.sagemaker.model_package)


def task_of(config: JobConfig) -> str:
    """What SageMaker calls the job's task."""
    method, given = config.training.method, config.training.hyperparameters
    facts = TASKS.get(classifier_task(given) if method == "text-classification" else method)
    return _TASKS.get(facts.evaluation if facts else "", "OTHER")


def unregistered(config: JobConfig) -> list[str]:
    """Variables of the endpoint that name secrets, whose values stay out of the registry."""
    return [name for name, value in config.endpoint.environment.items() if is_reference(value)]


def _inference(config: JobConfig, inputs: PackageInputs) -> naming.Request:
    model = requests.create_model(
        config, config.name, model_data=inputs.model_data, image=inputs.image
    )
    # Several only where job.yaml gives CreateModel's own field.
    containers = model.get("Containers") or [model["PrimaryContainer"]]
    specification: naming.Request = {
        "Containers": [_without_secrets(config, container) for container in containers],
        "SupportedContentTypes": CONTENT_TYPES,
        "SupportedResponseMIMETypes": ANSWER_TYPES,
    }
    if config.endpoint.serverless is None:
        kinds = config.endpoint.instance_types
        specification["SupportedRealtimeInferenceInstanceTypes"] = kinds
    return specification


def _without_secrets(config: JobConfig, container: naming.Request) -> naming.Request:
    secret = unregistered(config)
    told = {k: v for k, v in container.get("Environment", {}).items() if k not in secret}
    others = {key: value for key, value in container.items() if key != "Environment"}
    return {**others, "Environment": told} if told else others


def _properties(given: Mapping[str, str]) -> dict[str, str]:
    """In the characters that the service takes; what is too long is told by its digest."""
    clean = {key: _PROPERTY_TAKES_NOT.sub("_", value).strip() for key, value in given.items()}
    return {key: _short(value) for key, value in clean.items() if value}


def _short(value: str) -> str:
    if len(value) <= _PROPERTY_LENGTH:
        return value
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"


@dataclass(frozen=True)
class Registered:
    """A version of a group, as it is deployed."""

    arn: str
    group: str
    version: int
    model_data: str
    image: str


def newest_approved(context: JobContext, named: str | None = None) -> Registered:
    """The approved version of a group that was made last.

    Args:
        context: the job; its own group is taken where none is named.
        named: a group.

    Raises:
        UserInputError: the target has no registry.
        LaunchError: no version is approved, or the group of that name is another job's.
    """
    require_registry(context, "--registered")
    session: Any = context.session
    group = group_of(context.config, named)
    if not named:
        require_own(context, group, consent=f"name {group} on the command line")
    query = {"ModelPackageGroupName": group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    versions = [*every(session.list_model_packages, "ModelPackageSummaryList", **query)]
    approved = [each for each in versions if each.get("ModelApprovalStatus") == "Approved"]
    if not approved:
        raise _none_approved(group, versions)
    newest = max(approved, key=lambda each: int(each["ModelPackageVersion"]))
    arn = str(newest["ModelPackageArn"])
    described = session.describe_model_package(ModelPackageName=arn)
    container = described["InferenceSpecification"]["Containers"][0]
    return Registered(
        arn=arn,
        group=group,
        version=int(newest["ModelPackageVersion"]),
        model_data=model_of_container(container),
        image=str(container["Image"]),
    )


def _none_approved(group: str, versions: list[dict[str, Any]]) -> LaunchError:
    if not versions:
        return LaunchError(
            "the model package group has no version",
            field="--registered",
            value=group,
            fix="register a model first: `sm-launch register`",
        )
    newest = versions[0]
    arn = newest["ModelPackageArn"]
    return LaunchError(
        f"none of the {len(versions)} versions is approved; the newest is "
        f"{newest.get('ModelApprovalStatus', 'without a status')}",
        field="--registered",
        value=group,
        fix=f"approve one: aws sagemaker update-model-package --model-package-arn {arn} "
        "--model-approval-status Approved",
    )


def exists(session: Any, group: str) -> bool:
    """Whether there is a group of this name."""
    listed = every(
        session.list_model_package_groups, "ModelPackageGroupSummaryList", NameContains=group
    )
    return any(each["ModelPackageGroupName"] == group for each in listed)


def require_own(context: JobContext, group: str, *, consent: str) -> None:
    """Refuse a group of that name that is another job's.

    Raises:
        LaunchError: naming the owner, or that there is no such group.
    """
    if not exists(context.session, group):
        raise LaunchError(
            "there is no such model package group",
            field="registry.group",
            value=group,
            fix="register a model first: `sm-launch register`",
        )
    arn = _arn(context, group)
    ownership.require_own(
        context.session, "model package group", group, arn, context.config, consent=consent
    )


def adopt(context: JobContext, group: str) -> None:
    """Make a group this job's own."""
    ownership.adopt(context.session, _arn(context, group), context.config)


def _arn(context: JobContext, group: str) -> str:
    session: Any = context.session
    described = session.describe_model_package_group(ModelPackageGroupName=group)
    return str(described["ModelPackageGroupArn"])


def require_registry(context: JobContext, field: str) -> None:
    """Refuse a target without a registry.

    Raises:
        UserInputError: it is a local one.
    """
    if not context.on_aws:
        raise UserInputError(
            f"the model registry is SageMaker's, and the target {context.target} has none",
            field=field,
            fix="give --target sagemaker; here `deploy --job` and `--model-data` name the model",
        )
