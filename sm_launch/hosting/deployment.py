"""A deployment: what it will ask for, and how it is carried out or taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sm_launch.aws.errors import SuppressMissing, explained
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import (
    autoscaling,
    component_requests,
    components,
    endpoints,
    registry,
    requests,
    served_models,
)
from sm_launch.hosting.variants import HostingInputs
from sm_launch.job import local_storage, naming
from sm_launch.job.config import JobConfig
from sm_launch.job.naming import Request
from sm_launch.progress import progress
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext


@dataclass(frozen=True)
class Deployment:
    """The requests of a deployment; none of them is sent yet.

    Attributes:
        models: CreateModel of the main model, then of each further variant's.
        endpoint_config: CreateEndpointConfig.
        endpoint: CreateEndpoint; what of it UpdateEndpoint takes where the endpoint exists.
        components: CreateInferenceComponent of the model and of each adapter.
        model_bytes: size of the main model's artefact, where it is known.
    """

    models: tuple[Request, ...]
    endpoint_config: Request
    endpoint: Request
    components: tuple[Request, ...] = ()
    model_bytes: int | None = None

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return str(self.endpoint["EndpointName"])

    @property
    def model(self) -> str:
        """The main model's name."""
        return str(self.models[0]["ModelName"])

    def operations(self) -> Iterator[tuple[str, Request]]:
        """Each request with SageMaker's name of what takes it, in order."""
        for method, request in self.calls():
            yield "".join(part.title() for part in method.split("_")), request

    def calls(self) -> Iterator[tuple[str, Request]]:
        """Each request with the client's method that takes it, in order."""
        yield from (("create_model", request) for request in self.models)
        yield "create_endpoint_config", self.endpoint_config
        yield "create_endpoint", self.endpoint
        yield from (("create_inference_component", request) for request in self.components)


def prepare(
    context: JobContext,
    *,
    job: str | None = None,
    model_data: str | None = None,
    registered: str | None = None,
    name: str | None = None,
    upload: bool = True,
) -> Deployment:
    """What a deployment will ask for.

    Args:
        context: the job and where it is deployed.
        job: whose model; default: endpoint.model, else the newest that completed.
        model_data: an artefact instead.
        registered: the newest approved version of this model package group instead, with its
            image; empty: of job.yaml's group.
        name: of the endpoint; default: job.yaml's.
        upload: on SageMaker send a directory of endpoint.model; False only names its place.

    Raises:
        UserInputError: there is no such model, or the target has no such endpoint.
    """
    config = context.config
    version = _registered(context, registered, job, model_data)
    named = version.model_data if version else model_data
    image = version.image if version else context.serving_image
    role = context.hosting_role
    if context.on_aws:  # before a model is uploaded
        example = build(
            config,
            model_data=served_models.example(context, job=job, model_data=named),
            image=image,
            role=role,
            name=name,
            output=context.place("endpoints"),
        )
        context.check(*example.operations())
    context.tell_passed_over("model", "endpoint_config", "endpoint")
    if config.endpoint.fallback and not context.on_aws:
        context.warn("endpoint.fallback: SageMaker has that alone, not this machine")
    served = served_models.find(context, job=job, model_data=named, upload=upload)
    context.warn(*served.warnings)
    if config.endpoint.components and not context.on_aws:
        raise UserInputError(
            "inference components are on SageMaker only",
            field="endpoint.components",
            fix="leave it out here; the serving image loads adapters over its /adapters route",
        )
    planned = build(
        config,
        model_data=served.uri,
        image=image,
        role=role,
        name=name,
        output=context.stage(upload=False).output("endpoints"),
        model_bytes=served.size or (_size(config, served.uri) if context.on_aws else None),
    )
    context.check(*planned.operations())  # whose model is known now
    return planned


def _registered(
    context: JobContext, group: str | None, job: str | None, model_data: str | None
) -> registry.Registered | None:
    """The version of a group that is meant; None where none is."""
    if group is None:
        return None
    if job or model_data:
        raise UserInputError(
            "give --registered, --job or --model-data: one model is deployed",
            field="--registered",
            value=group or None,
        )
    version = registry.newest_approved(context, group)
    context.notify(f"registered model: {version.group} version {version.version}, approved")
    image = context.config.endpoint.image
    if image and image != version.image:
        context.warn(
            f"endpoint.image ({image}) is passed over: the version was registered with "
            f"{version.image}"
        )
    return version


def build(
    config: JobConfig,
    *,
    model_data: str,
    image: str,
    role: str,
    name: str | None = None,
    output: str = "",
    model_bytes: int | None = None,
) -> Deployment:
    """The requests of a deployment.

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
    now = datetime.now(UTC)
    version = naming.unique_name(endpoint, now)
    models = {version: model_data}
    for index, variant in enumerate(config.endpoint.variants, start=1):
        # A millisecond apart: of two long names the same may be left.
        named = naming.unique_name(
            f"{endpoint}-{variant.name}", now + timedelta(milliseconds=index)
        )
        models[named] = variant.model_data
    inputs = HostingInputs(output, model_bytes, tuple(models)[1:], role)
    return Deployment(
        models=tuple(
            requests.create_model(
                config, model, model_data=data, image=image, role=role, served_name=endpoint
            )
            for model, data in models.items()
        ),
        endpoint_config=requests.create_endpoint_config(config, version, version, inputs=inputs),
        endpoint=requests.create_endpoint(config, endpoint, version),
        components=_components(config, endpoint, version, model_bytes),
        model_bytes=model_bytes,
    )


def _components(
    config: JobConfig, endpoint: str, model: str, model_bytes: int | None
) -> tuple[Request, ...]:
    if not config.endpoint.components:
        return ()
    base = component_requests.create_base(config, endpoint, model, model_bytes)
    return (base, *component_requests.adapters(config, endpoint))


def by_method(context: JobContext, deployment: Deployment) -> dict[str, Any]:
    """Requests by method, those of autoscaling too; a list where a method is called often."""
    scaling = autoscaling.build_requests(context.config, deployment.name) if context.on_aws else []
    grouped: dict[str, list[Request]] = {}
    for method, request in [*deployment.calls(), *scaling]:
        grouped.setdefault(method, []).append(request)
    return {
        method: entries[0] if len(entries) == 1 else entries for method, entries in grouped.items()
    }


def start(context: JobContext, deployment: Deployment, *, adopt: bool = False) -> dict[str, Any]:
    """Send the requests and wait until the endpoint answers; its DescribeEndpoint answer.

    Args:
        context: the job and where it is deployed.
        deployment: what is sent.
        adopt: update an endpoint of that name although it is not this job's, and take it over.

    Raises:
        LaunchError: it does not; what was made for it is gone again. Or the endpoint is somebody
            else's.
    """
    session, config = context.session, context.config
    if endpoints.exists(session, deployment.name):
        endpoints.require_own(context, deployment.name, adopt=adopt)
        if context.on_aws:
            endpoints.require_updatable(session, deployment.name)
        if deployment.components:
            _check_host(context, deployment)
    if context.on_aws:
        _tell(context)
    context.announce_image(context.serving_image)
    if deployment.components:
        description = _deploy_components(session, config, deployment)
    else:
        description = deploy(session, deployment)
    if context.on_aws:
        _tell_pools(context, description)
        for line in _scaled(config, deployment.name):
            context.notify(line)
    return description


def _tell_pools(context: JobContext, description: dict[str, Any]) -> None:
    """Say which of several instance types SageMaker has found."""
    for variant in description.get("ProductionVariants", []):
        pools = [pool for pool in variant.get("InstancePools", []) if pool["CurrentInstanceCount"]]
        if pools:
            got = ", ".join(f"{p['CurrentInstanceCount']} x {p['InstanceType']}" for p in pools)
            context.notify(f"variant {variant['VariantName']} runs on {got}")


def _scaled(config: JobConfig, endpoint: str) -> list[str]:
    """Set its scaling up; an endpoint that answers is not taken away where that is refused."""
    from botocore.exceptions import ClientError

    try:
        return autoscaling.apply(config, endpoint)
    except ClientError as error:
        known = explained(error)
        raise LaunchError(
            f"endpoint {endpoint} is in service, and scales not as endpoint.autoscaling says: "
            f"{known.message}",
            fix=f"{known.fix or 'mend the cause'}, and deploy again",
        ) from error


def deploy(session: Session, deployment: Deployment) -> dict[str, Any]:
    """Deploy and wait; what a failed deployment has made is taken away again.

    Raises:
        LaunchError: the endpoint did not come up, or was not updated.
    """
    name = deployment.name
    existed = endpoints.exists(session, name)
    send(session, deployment)

    def undo() -> None:
        if existed:
            _take_back_update(session, deployment)
        else:
            _delete(session, deployment)

    with _undone(undo, name, existed=existed), progress(f"Endpoint {name}") as bar:
        return endpoints.wait(
            session,
            name,
            lambda seen: bar.update(description=f"Endpoint {name}: {seen['EndpointStatus']}"),
            expected=str(deployment.endpoint["EndpointConfigName"]),
        )


def _take_back_update(session: Session, deployment: Deployment) -> None:
    """Delete the new model, once the endpoint is back at the old one.

    Raises:
        LaunchError: it is not, and may come to need what is new. UpdateRollbackFailed, says the
            service model, is a mix of both.
    """
    seen = session.describe_endpoint(EndpointName=deployment.name)
    config = deployment.endpoint_config
    back = seen["EndpointConfigName"] != config["EndpointConfigName"]
    if seen["EndpointStatus"] not in {"InService", "OutOfService", "Failed"} or not back:
        raise LaunchError(f"the endpoint is {seen['EndpointStatus']}, and may run the new model")
    _take_back(session, deployment.models, config)


@contextmanager
def _undone(undo: Callable[[], None], endpoint: str, *, existed: bool = False) -> Iterator[None]:
    """A block after which, where it fails, nothing is left; what cannot be undone is told with
    the failure and does not hide it."""
    try:
        yield
    except Exception as failure:
        try:
            undo()
        except Exception as error:
            fix = (
                f"look at the endpoint {endpoint} with `sm-launch list` until it has come to rest; "
                "`sm-launch gc --unused` deletes what it does not run then"
                if existed
                else f"delete it, for it costs money: `sm-launch delete {endpoint}`, then "
                "`sm-launch gc --unused`"
            )
            raise LaunchError(
                f"{explained(failure).message}\n  what was made for it could not be deleted: "
                f"{explained(error).message}",
                fix=fix,
            ) from failure
        raise


def send(session: Session, deployment: Deployment) -> None:
    """Send the requests; what was created is taken back when a later one is refused.

    An endpoint that exists already is updated in place: it goes on answering with its old model
    until the new one is ready.
    """
    models: list[Request] = []
    config = None
    try:
        for model in deployment.models:
            session.create_model(**model)
            models.append(model)
        session.create_endpoint_config(**deployment.endpoint_config)
        config = deployment.endpoint_config
        if endpoints.exists_after_deletions(session, deployment.name):
            keys = ("EndpointName", "EndpointConfigName", "DeploymentConfig")
            request = deployment.endpoint
            session.update_endpoint(**{key: request[key] for key in keys if key in request})
        else:
            session.create_endpoint(**deployment.endpoint)
    except BaseException:
        _take_back(session, models, config)
        raise


def _delete(session: Session, deployment: Deployment) -> None:
    """Delete a new endpoint with its parts, also the model that no component had come to run."""
    endpoints.delete(session, deployment.name)
    for model in deployment.models if deployment.components else ():
        with SuppressMissing():
            session.delete_model(ModelName=model["ModelName"])


def _take_back(session: Session, models: Sequence[Request], config: Request | None) -> None:
    """Delete the configuration and the models of a deployment that did not come about."""
    if config is not None:
        session.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in reversed(models):
        session.delete_model(ModelName=model["ModelName"])


def _deploy_components(
    session: Session, config: JobConfig, deployment: Deployment
) -> dict[str, Any]:
    """The endpoint first where there is none, then the model and its adapters as components."""
    name, model = deployment.name, deployment.models[0]
    existed = endpoints.exists(session, name)
    if existed:
        session.create_model(**model)
    else:
        deploy(session, deployment)

    def undo() -> None:
        # What answers is left alone: a failed update goes back to its old model.
        if not existed:
            _delete(session, deployment)
        elif not components.runs(session, name, deployment.model):
            _take_back(session, [model], None)

    with _undone(undo, name, existed=existed), progress(f"Endpoint {name}") as bar:
        components.apply(
            session,
            config,
            name,
            deployment.model,
            deployment.model_bytes,
            lambda part, status: bar.update(description=f"Component {part}: {status}"),
        )
    return session.describe_endpoint(EndpointName=name)


_OF_THE_HOST = ("InstanceType", "InstancePools", "InferenceAmiVersion", "ManagedInstanceScaling")


def _check_host(context: JobContext, deployment: Deployment) -> None:
    """Components come to an endpoint as it is: say what of job.yaml it does not become.

    Raises:
        LaunchError: it has a model of its own, beside which there can be no components.
    """
    session, name = context.session, deployment.name
    running = session.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    described = session.describe_endpoint_config(EndpointConfigName=running)
    before, wanted = described["ProductionVariants"][0], deployment.endpoint_config
    if "ModelName" in before:
        raise LaunchError(
            "the endpoint has a model of its own, and can have no components",
            field="endpoint.name",
            value=name,
            fix=f"delete it first (`sm-launch delete {name}`), or choose another name",
        )
    now = wanted["ProductionVariants"][0]
    for field in _OF_THE_HOST:
        if before.get(field) != now.get(field):
            context.warn(
                f"{field} stays {before.get(field)} in place of {now.get(field)}: the endpoint of "
                "components is left as it is, until it is deleted and deployed anew"
            )


def _tell(context: JobContext) -> None:
    """Tell the price, and what of job.yaml changes nothing."""
    from sm_launch.job.costs import hosting_cost

    config = context.config
    if priced := hosting_cost(config, context.prices):
        context.notify(f"price: {priced.line}")
    if config.endpoint.serverless:
        return
    instances = config.endpoint.instances
    context.warn(*local_storage.notes(instances.type, config.aws.kms_key))
    if "volume_size_gb" in instances.model_fields_set:
        context.warn("endpoint.instances.volume_size_gb changes nothing: it is of training volumes")


def _size(config: JobConfig, artefact: str) -> int | None:
    from sm_launch.target.buckets import size_of

    return size_of(artefact, config)
