"""Endpoints: from a model artefact to something that answers, and back to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sm_launch import components, contract, requests, training
from sm_launch.aws_errors import is_missing
from sm_launch.causes import explain_failure
from sm_launch.config import JobConfig
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting_requests import HostingInputs
from sm_launch.sessions.protocol import Session

SECONDS_BETWEEN_LOOKS = 0.3


def build_requests(
    config: JobConfig,
    *,
    model_data: str,
    image: str,
    role: str,
    name: str | None = None,
    output: str = "",
    model_bytes: int | None = None,
) -> list[tuple[str, requests.Request]]:
    """The requests of a deployment, in order, each with its client method's name.

    Args:
        config: what to deploy and how.
        model_data: URI of the artefact.
        image: serving image.
        role: ARN of the execution role.
        name: endpoint name, where it is not job.yaml's.
        output: URI below which captured data and asynchronous answers go.
        model_bytes: size of the artefact, where it is known.
    """
    endpoint = name or config.endpoint_name
    version = requests.unique_name(endpoint)
    models = {version: model_data}
    for variant in config.endpoint.variants:
        models[requests.unique_name(f"{endpoint}-{variant.name}")] = variant.model_data
    inputs = HostingInputs(output, model_bytes, tuple(models)[1:], role)
    created = [
        (
            "create_model",
            requests.create_model(
                config, model, model_data=data, image=image, role=role, served_name=endpoint
            ),
        )
        for model, data in models.items()
    ]
    described = requests.create_endpoint_config(config, version, version, inputs=inputs)
    return [
        *created,
        ("create_endpoint_config", described),
        ("create_endpoint", requests.create_endpoint(config, endpoint, version)),
    ]


def model_data_uri(location: str) -> str:
    """A model location as the URI that CreateModel takes.

    Args:
        location: an s3:// or file:// URI, a model.tar.gz or a directory.

    Raises:
        UserInputError: the path does not exist.
    """
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


def artefact_uri(description: dict[str, Any]) -> str:
    """Where a completed training job left its model (a prefix ends with a slash)."""
    uri: str = description["ModelArtifacts"]["S3ModelArtifacts"]
    return uri if uri.endswith((".tar.gz", "/")) else f"{uri}/"


def artefact_of(
    session: Session, base_name: str, job: str | None = None, model_data: str | None = None
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
        else training.latest_completed(session, base_name)
    )
    return artefact_uri(description)


def exists(session: Session, name: str) -> bool:
    """Whether there is an endpoint of this name that is not about to vanish."""
    summaries = session.list_endpoints(NameContains=name)["Endpoints"]
    return any(
        summary["EndpointName"] == name and summary["EndpointStatus"] != "Deleting"
        for summary in summaries
    )


def deploy(session: Session, steps: list[tuple[str, requests.Request]]) -> None:
    """Send the three requests; what was created is taken back when a later one is refused.

    An endpoint that exists already is updated in place: it goes on answering with its old model
    until the new one is ready.
    """
    created: list[tuple[str, requests.Request]] = []
    for method, request in steps:
        try:
            if method == "create_endpoint" and exists(session, request["EndpointName"]):
                _update(session, request)
            else:
                getattr(session, method)(**request)
        except BaseException:
            take_back(session, created)
            raise
        created.append((method, request))


def _update(session: Session, request: requests.Request) -> None:
    keys = ("EndpointName", "EndpointConfigName", "DeploymentConfig")
    session.update_endpoint(**{key: request[key] for key in keys if key in request})


def take_back(session: Session, created: list[tuple[str, requests.Request]]) -> None:
    """Delete the models and the endpoint configuration of a deployment that did not come about."""
    for method, request in reversed(created):
        if method == "create_endpoint_config":
            session.delete_endpoint_config(EndpointConfigName=request["EndpointConfigName"])
        elif method == "create_model":
            session.delete_model(ModelName=request["ModelName"])


def wait(
    session: Session,
    name: str,
    on_description: Callable[[dict[str, Any]], None],
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
    while True:
        description = session.describe_endpoint(EndpointName=name)
        on_description(description)
        status = description["EndpointStatus"]
        if status == "InService" and expected in (None, description["EndpointConfigName"]):
            return description
        if status in contract.ENDPOINT_FINAL_STATUSES:
            raise _failure(session, name, description)
        time.sleep(getattr(session, "seconds_between_looks", SECONDS_BETWEEN_LOOKS))


def _failure(session: Session, name: str, description: dict[str, Any]) -> LaunchError:
    updating = description["EndpointStatus"] == "InService"
    outcome = "was not updated and answers with its old model" if updating else "failed"
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


def delete(session: Session, name: str) -> list[str]:
    """Delete an endpoint with its configuration and models; returns what was deleted.

    Parts that are gone already are no error, so that a broken-off deletion can be repeated.
    """
    endpoint = session.describe_endpoint(EndpointName=name)
    config_name = endpoint["EndpointConfigName"]
    models = []
    try:
        described = session.describe_endpoint_config(EndpointConfigName=config_name)
        variants = described["ProductionVariants"]
        models = [variant["ModelName"] for variant in variants if "ModelName" in variant]
        if len(models) < len(variants):
            models += components.remove(session, name)
    except Exception as error:
        if not is_missing(error):
            raise
    # The endpoint goes first: it is what costs money. Should this break off, `gc` finds the rest.
    done = [
        _gone(session.delete_endpoint, "endpoint", EndpointName=name),
        _gone(
            session.delete_endpoint_config,
            "endpoint configuration",
            EndpointConfigName=config_name,
        ),
        *(_gone(session.delete_model, "model", ModelName=model) for model in models),
    ]
    return [line for line in done if line]


def _gone(method: Callable[..., Any], kind: str, **request: str) -> str:
    try:
        method(**request)
    except Exception as error:
        if not is_missing(error):
            raise
        return ""
    return f"{kind} {next(iter(request.values()))}"
