"""`sm-launch deploy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sm_launch import (
    autoscaling,
    component_requests,
    components,
    endpoints,
    requests,
    served_models,
)
from sm_launch.commands.options import (
    Workplace,
    adopt_option,
    announce_image,
    dry_run_option,
    echo_json,
    job_options,
    json_option,
    next_command,
    open_workplace,
)
from sm_launch.config import JobConfig, Target
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.progress import progress
from sm_launch.sessions.protocol import Session


@click.command()
@job_options
@click.option("--job", metavar="JOB", help="Training job to deploy. Default: the newest completed.")
@click.option(
    "--model-data",
    metavar="URI",
    help="model.tar.gz, model directory, s3:// URI, or hf://OWNER/NAME[@REVISION].",
)
@click.option("--name", help="Endpoint name. Default: job.yaml's.")
@adopt_option
@dry_run_option
@json_option
def deploy(
    config_path: Path,
    overrides: tuple[str, ...],
    target: Target | None,
    job: str | None,
    model_data: str | None,
    name: str | None,
    adopt: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a trained model, or endpoint.model, behind an endpoint and wait until it answers."""
    workplace = open_workplace(config_path, overrides, target)
    planned = plan(workplace, job=job, model_data=model_data, name=name, upload=not dry_run)
    for words in planned.warnings:
        click.echo(f"warning: {words}", err=True)
    if dry_run:
        config, on_aws = workplace.config, workplace.target == "sagemaker"
        scaling = autoscaling.build_requests(config, planned.endpoint) if on_aws else []
        echo_json(_by_method([*planned.steps, *_components(config, planned), *scaling]))
        return
    description = carry_out(workplace, planned, adopt=adopt)
    _report(description, workplace.target, config_path, as_json=as_json, place=workplace)


@dataclass(frozen=True)
class Plan:
    """A deployment that has not begun.

    Attributes:
        steps: the requests, in order: method name and arguments.
        model_bytes: size of the artefact, where it is known.
        warnings: what is good to know about the model.
    """

    steps: list[tuple[str, requests.Request]]
    model_bytes: int | None
    warnings: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        return str(self.steps[-1][1]["EndpointName"])

    @property
    def model(self) -> str:
        """The main model's name."""
        return str(self.steps[0][1]["ModelName"])


def plan(
    workplace: Workplace,
    *,
    job: str | None = None,
    model_data: str | None = None,
    name: str | None = None,
    upload: bool = True,
) -> Plan:
    """What a deployment will ask for.

    Args:
        workplace: the job and where it is deployed.
        job: whose model; default: endpoint.model, else the newest that completed.
        model_data: an artefact instead.
        name: of the endpoint; default: job.yaml's.
        upload: on SageMaker send a directory of endpoint.model; False only names its place.

    Raises:
        UserInputError: there is no such model, or the target has no such endpoint.
    """
    config, on_aws = workplace.config, workplace.target == "sagemaker"
    served = served_models.find(workplace, job=job, model_data=model_data, upload=upload)
    if config.endpoint.components and not on_aws:
        raise UserInputError(
            "inference components are on SageMaker only",
            field="endpoint.components",
            fix="leave it out here; the serving image loads adapters over its /adapters route",
        )
    size = served.size or (_size(config, served.uri) if on_aws else None)
    steps = endpoints.build_requests(
        config,
        model_data=served.uri,
        image=workplace.serving_image,
        role=workplace.hosting_role,
        name=name,
        output=workplace.stage(upload=False).output("endpoints"),
        model_bytes=size,
    )
    return Plan(steps, size, served.warnings)


def carry_out(workplace: Workplace, planned: Plan, *, adopt: bool = False) -> dict[str, Any]:
    """Send the requests of `plan` and wait until the endpoint answers.

    Args:
        workplace: the job and where it is deployed.
        planned: what is sent.
        adopt: update an endpoint of that name although it is not this job's, and take it over.

    Raises:
        LaunchError: it does not; what was made for it is gone again. Or the endpoint is somebody
            else's.
    """
    session, config = workplace.session(), workplace.config
    on_aws = workplace.target == "sagemaker"
    if endpoints.exists(session, planned.endpoint):
        endpoints.require_own(workplace, planned.endpoint, adopt=adopt)
    if on_aws:
        _check(config, [*planned.steps, *_components(config, planned)])
    announce_image(workplace, workplace.serving_image)
    if config.endpoint.components:
        description = _deploy_components(session, config, planned)
    else:
        description = _deploy(session, planned)
    if on_aws:
        for line in autoscaling.apply(config, planned.endpoint):
            click.echo(line, err=True)
    return description


def _deploy(session: Session, planned: Plan) -> dict[str, Any]:
    """Deploy and wait; what a failed deployment has made is taken away again."""
    steps, endpoint = planned.steps, planned.endpoint
    existed = endpoints.exists(session, endpoint)
    endpoints.deploy(session, steps)
    try:
        with progress(f"Endpoint {endpoint}") as bar:
            return endpoints.wait(
                session,
                endpoint,
                lambda seen: bar.update(
                    description=f"Endpoint {endpoint}: {seen['EndpointStatus']}"
                ),
                expected=str(steps[-1][1]["EndpointConfigName"]),
            )
    except LaunchError:
        if existed:
            endpoints.take_back(session, steps[:-1])
        else:
            endpoints.delete(session, endpoint)
        raise


def _check(config: JobConfig, steps: list[tuple[str, requests.Request]]) -> None:
    """Tell the price; refuse what SageMaker would refuse before anything is made."""
    from sm_launch.estimate import hosting_cost
    from sm_launch.sessions.process.validation import RequestValidator
    from sm_launch.training import unknown_type

    validator = RequestValidator("sagemaker", enums=False)
    for method, request in steps:
        validator.check("".join(word.title() for word in method.split("_")), request)
    if priced := hosting_cost(config):
        click.echo(f"price: {priced.line}", err=True)
    if not config.endpoint.serverless:
        known = validator.values("ProductionVariant", "InstanceType")
        for words in unknown_type(known, "endpoint.instances.type", config.endpoint.instances.type):
            click.echo(f"warning: {words}", err=True)


def _components(config: JobConfig, planned: Plan) -> list[tuple[str, requests.Request]]:
    if not config.endpoint.components:
        return []
    base = component_requests.create_base(
        config, planned.endpoint, planned.model, planned.model_bytes
    )
    found = [base, *component_requests.adapters(config, planned.endpoint)]
    return [("create_inference_component", request) for request in found]


def _deploy_components(session: Session, config: JobConfig, planned: Plan) -> dict[str, Any]:
    """The endpoint first where there is none, then the model and its adapters as components."""
    steps, endpoint = planned.steps, planned.endpoint
    existed = endpoints.exists(session, endpoint)
    if existed:
        session.create_model(**steps[0][1])
    else:
        _deploy(session, planned)
    try:
        with progress(f"Endpoint {endpoint}") as bar:
            components.apply(
                session,
                config,
                endpoint,
                planned.model,
                planned.model_bytes,
                lambda name, status: bar.update(description=f"Component {name}: {status}"),
            )
    except LaunchError:
        # What answers already is left alone: a failed update goes back to its old model.
        if existed:
            endpoints.take_back(session, steps[:1])
        else:
            endpoints.delete(session, endpoint)
        raise
    return session.describe_endpoint(EndpointName=endpoint)


def _size(config: JobConfig, artefact: str) -> int | None:
    from sm_launch.buckets import size_of

    return size_of(artefact, config)


def _by_method(steps: list[tuple[str, requests.Request]]) -> dict[str, Any]:
    """Requests by method; a list where a method is called more than once."""
    grouped: dict[str, list[requests.Request]] = {}
    for method, request in steps:
        grouped.setdefault(method, []).append(request)
    return {method: found[0] if len(found) == 1 else found for method, found in grouped.items()}


def _report(
    description: dict[str, Any],
    target: str,
    config_path: Path,
    *,
    as_json: bool,
    place: Workplace | None = None,
) -> None:
    if as_json:
        echo_json(description)
        return
    name = description["EndpointName"]
    click.echo(f"endpoint {name}: {description['EndpointStatus']} ({target})")
    options = place.options if place else ["--target", target]
    commands = {
        "try it": ["invoke", name, "--text", "I loved it."],
        "measure it": ["evaluate", "--endpoint", name],
        "delete it": ["delete", name],
    }
    for title, words in commands.items():
        command = next_command(*words, *options, config_path=config_path)
        click.echo(f"  {title + ':':<11} {command}")
