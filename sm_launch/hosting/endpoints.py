"""Endpoints: from a model artefact to something that answers, and back to nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.aws.causes import explain_failure
from sm_launch.aws.errors import SuppressMissing
from sm_launch.aws.paging import every
from sm_launch.aws.uris import meant
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import components
from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.jobs import training
from sm_launch.jobs.chaining import artefact_uri
from sm_launch.progress import progress
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target import ownership
from sm_launch.target.context import JobContext

_DELETING = "Deleting"
# Of other archives SageMaker would look for a directory of that name. Service model, ModelDataUrl:
# "a single gzip compressed tar archive (.tar.gz suffix)".
_ARCHIVES = (".tgz", ".tar", ".zip", ".tar.bz2", ".tar.xz", ".gz.tar")


def model_data_uri(location: str) -> str:
    """A model location as the URI that CreateModel takes.

    Args:
        location: an s3:// or file:// URI, a model.tar.gz or a directory.

    Raises:
        UserInputError: the path does not exist.
    """
    if (uri := meant(location)) and uri != location:
        raise UserInputError(
            "names a place on S3 in another form", field="--model-data", value=location,
            fix=f"write {uri}",
        )  # fmt: skip
    if location.startswith("s3://") and location.endswith(_ARCHIVES):
        raise UserInputError(
            "is no model.tar.gz, and no directory", field="--model-data", value=location,
            fix="pack the model's files into a model.tar.gz: `tar czf model.tar.gz -C DIRECTORY .`",
        )  # fmt: skip
    if "://" in location:
        return location
    path = Path(location).expanduser().resolve()
    if not path.exists():
        raise UserInputError(
            "no such file or directory",
            field="--model-data",
            value=location,
            fix="give a model.tar.gz, a directory with config.json, or an s3:// URI",
        )
    return path.as_uri() + ("/" if path.is_dir() else "")


def artefact_of(
    session: Session, config: JobConfig, job: str | None = None, model_data: str | None = None
) -> str:
    """The model to serve: what is named, else the job's, else the newest completed job's.

    Raises:
        UserInputError, LaunchError: there is no such model or job.
    """
    if model_data:
        return model_data_uri(model_data)
    description = (
        session.describe_training_job(TrainingJobName=job)
        if job
        else training.latest_completed(session, config)
    )
    return artefact_uri(description)


def exists(session: Session, name: str) -> bool:
    """Whether there is an endpoint of this name that is not about to vanish."""
    return _status(session, name) not in (None, _DELETING)


def exists_after_deletions(session: Session, name: str) -> bool:
    """The same, once one that is being deleted has vanished: till then its name is taken."""
    with progress(f"Endpoint {name}: waiting until the former one is deleted"):
        looks = watch(
            lambda: _status(session, name),
            lambda status: status != _DELETING,
            session.seconds_between_looks,
        )
        *_, last = looks
    return last is not None


def _status(session: Session, name: str) -> str | None:
    summaries = every(session.list_endpoints, "Endpoints", NameContains=name)
    named = (str(s["EndpointStatus"]) for s in summaries if s["EndpointName"] == name)
    return next(named, None)


def require_updatable(session: Session, name: str) -> None:
    """Refuse to update what SageMaker would not, before a model is made for it.

    Service model, EndpointStatus: "DeleteEndpoint is the only operation that can be performed on a
    failed endpoint".

    Raises:
        LaunchError: it failed, or is being changed.
    """
    status = _status(session, name)
    if status in ("InService", "OutOfService", "UpdateRollbackFailed", None):
        return
    failed = status == "Failed"
    raise LaunchError(
        f"the endpoint {name} is {status}, and cannot be updated",
        fix=f"delete it (`sm-launch delete {name}`) and deploy again"
        if failed
        else "wait until `sm-launch list` shows InService, and deploy again",
    )


def require_own(context: JobContext, name: str, *, adopt: bool) -> None:
    """Refuse to change an endpoint that is not this job's, or take it over.

    Raises:
        LaunchError: it is somebody else's; the message names the owner.
    """
    session = context.session
    arn = str(session.describe_endpoint(EndpointName=name)["EndpointArn"])
    if adopt and not context.any_job:
        ownership.adopt(session, arn, context.config)
    elif not adopt:
        ownership.require_own(
            session, "endpoint", name, arn, context.config, any_job=context.any_job
        )


def require_meant(context: JobContext, name: str | None) -> str:
    """The endpoint to look at: the one that is named, else job.yaml's, which must be its own.

    Raises:
        LaunchError: another job has an endpoint of that name.
    """
    if name:
        return name
    session, config = context.session, context.config
    arn = str(session.describe_endpoint(EndpointName=config.endpoint_name)["EndpointArn"])
    ownership.require_own(
        session,
        "endpoint",
        config.endpoint_name,
        arn,
        config,
        consent=f"name {config.endpoint_name} on the command line",
    )
    return config.endpoint_name


def wait(
    session: Session,
    name: str,
    on_description: Callable[[dict[str, Any]], None] = lambda seen: None,
    *,
    expected: str | None = None,
) -> dict[str, Any]:
    """Look at an endpoint until it is in service.

    Args:
        session: where it runs.
        name: the endpoint.
        on_description: gets every DescribeEndpoint answer.
        expected: the endpoint configuration that it is to run in the end.

    Raises:
        LaunchError: it failed, or went back to its old configuration; the message holds the
            server's own words, its last log lines and the likely cause.
    """
    for description in watch(
        lambda: session.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in limits.ENDPOINT_FINAL_STATUSES,
        session.seconds_between_looks,
    ):
        on_description(description)
    running = expected in (None, description["EndpointConfigName"])
    if description["EndpointStatus"] != "InService" or not running:
        raise _failure(session, name, description)
    return description


def _failure(session: Session, name: str, description: dict[str, Any]) -> LaunchError:
    updating = description["EndpointStatus"] in ("InService", "UpdateRollbackFailed")
    outcome = "was not updated and answers with its old model" if updating else "failed"
    if description["EndpointStatus"] == "UpdateRollbackFailed":
        # Service model, EndpointStatus: "in service with a mix of the old and new".
        outcome = "was updated in part, could not go back, and answers with a mix of both models"
    message, step = explain_failure(
        f"endpoint {name} {outcome}",
        description.get("FailureReason"),
        lambda: session.endpoint_log_lines(name, None)[0],
    )
    if updating:
        return LaunchError(message, fix=f"{step}, and deploy again")
    return LaunchError(
        message,
        fix=f"{step}, then `sm-launch delete {name}` if it is still there, and deploy again",
    )


@dataclass(frozen=True)
class Deletion:
    """What became of an endpoint and its parts.

    Attributes:
        done: what is gone, a line each.
        left: what stays and why, a line each.
    """

    done: list[str]
    left: list[str]


def delete(session: Session, name: str, *, adopt: bool = False) -> Deletion:
    """Delete an endpoint with its configuration and models.

    Parts that are gone already are no error, so that a broken-off deletion can be repeated. Parts
    that sm-launch did not make stay, and so do models that another endpoint runs.

    Args:
        session: where the endpoint runs.
        name: the endpoint.
        adopt: delete also the parts that sm-launch did not make.
    """
    config_name = str(session.describe_endpoint(EndpointName=name)["EndpointConfigName"])
    parts = _parts(session, name, config_name)
    kept = {} if adopt else {part: reason for part in parts if (reason := _foreign(session, part))}
    wanted = [part for part in parts if part not in kept]
    if any(part.kind == "model" for part in wanted):
        used = _models_of_others(session, name)
        kept |= {
            part: f"the endpoint {used[part.name]} runs it"
            for part in wanted
            if part.kind == "model" and part.name in used
        }
    # The endpoint goes first: it is what costs money. Should this break off, `gc` finds the rest.
    done = [_gone(session.delete_endpoint, "endpoint", EndpointName=name)]
    done += [part.delete(session) for part in parts if part not in kept]
    left = [f"{part.kind} {part.name}: {reason}" for part, reason in kept.items()]
    return Deletion([line for line in done if line], left)


@dataclass(frozen=True)
class _Part:
    """The configuration or a model of an endpoint."""

    kind: str
    name: str
    arn: str

    def delete(self, session: Session) -> str:
        if self.kind == "model":
            return _gone(session.delete_model, self.kind, ModelName=self.name)
        return _gone(session.delete_endpoint_config, self.kind, EndpointConfigName=self.name)


def _parts(session: Session, endpoint: str, config_name: str) -> list[_Part]:
    described: dict[str, Any] = {}
    with SuppressMissing():
        described = session.describe_endpoint_config(EndpointConfigName=config_name)
    if not described:
        return []
    variants = described["ProductionVariants"]
    models = [variant["ModelName"] for variant in variants if "ModelName" in variant]
    if len(models) < len(variants):
        models += components.remove(session, endpoint)
    arn = str(described["EndpointConfigArn"])
    parts = [_Part("endpoint configuration", config_name, arn)]
    for model in dict.fromkeys(models):
        with SuppressMissing():
            arn = str(session.describe_model(ModelName=model)["ModelArn"])
            parts.append(_Part("model", model, arn))
    return parts


def _foreign(session: Session, part: _Part) -> str | None:
    tags = ownership.tags_of(session, part.arn)
    return None if limits.TAG_KEY in tags else "sm-launch did not make it"


def _models_of_others(session: Session, endpoint: str) -> dict[str, str]:
    """Every model that another endpoint runs, with that endpoint's name."""
    owners: dict[str, str] = {}
    for summary in every(session.list_endpoints, "Endpoints"):
        other = summary["EndpointName"]
        if other == endpoint:
            continue
        with SuppressMissing():
            running = session.describe_endpoint(EndpointName=other)["EndpointConfigName"]
            described = session.describe_endpoint_config(EndpointConfigName=running)
            variants = described["ProductionVariants"]
            models = [variant["ModelName"] for variant in variants if "ModelName" in variant]
            if len(models) < len(variants):
                parts = components.specifications(session, other).values()
                models += [each["ModelName"] for each in parts if "ModelName" in each]
            owners |= dict.fromkeys(models, other)
    return owners


def _gone(method: Callable[..., Any], kind: str, **request: str) -> str:
    with SuppressMissing():
        method(**request)
        return f"{kind} {next(iter(request.values()))}"
    return ""
