"""Inference components of an endpoint on SageMaker: made or updated, waited for, taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sm_launch.aws.causes import explain_failure
from sm_launch.aws.errors import SuppressMissing
from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError
from sm_launch.hosting import component_requests
from sm_launch.job.config import JobConfig
from sm_launch.sessions.watching import watch

_FINAL = frozenset({"InService", "Failed"})
Show = Callable[[str, str], None]


def apply(
    session: Any,
    config: JobConfig,
    endpoint: str,
    model: str,
    model_bytes: int | None,
    show: Show = lambda name, status: None,
) -> list[str]:
    """Bring the base component and the adapters of job.yaml into service.

    Args:
        session: SageMaker's.
        config: its `endpoint.components`.
        endpoint: that is in service already.
        model: name of the SageMaker model.
        model_bytes: size of its artefact, where it is known.
        show: gets a component's name and status at every look.

    Returns:
        The names of the components.

    Raises:
        LaunchError: one of them failed; the message holds the endpoint's last log lines.
    """
    if _exists(session, endpoint):
        session.update_inference_component(
            **component_requests.update_base(config, endpoint, model, model_bytes)
        )
    else:
        session.create_inference_component(
            **component_requests.create_base(config, endpoint, model, model_bytes)
        )
    described = wait(session, endpoint, endpoint, show)
    if described.get("Specification", {}).get("ModelName") != model:
        raise _failure(session, endpoint, endpoint, described, "was not updated")
    for request in component_requests.adapters(config, endpoint):
        name = request["InferenceComponentName"]
        if _exists(session, name):
            keys = ("InferenceComponentName", "Specification")
            session.update_inference_component(**{key: request[key] for key in keys})
        else:
            session.create_inference_component(**request)
        wait(session, endpoint, name, show)
    return list_names(session, endpoint)


def wait(session: Any, endpoint: str, name: str, show: Show) -> dict[str, Any]:
    """Look at a component until it is in service.

    Returns:
        Its last description.

    Raises:
        LaunchError: it failed.
    """
    described: dict[str, Any]
    for described in watch(
        lambda: session.describe_inference_component(InferenceComponentName=name),
        lambda seen: seen["InferenceComponentStatus"] in _FINAL,
        session.seconds_between_looks,
    ):
        show(name, described["InferenceComponentStatus"])
    if described["InferenceComponentStatus"] == "Failed":
        raise _failure(session, endpoint, name, described)
    return described


def _failure(
    session: Any, endpoint: str, name: str, described: dict[str, Any], what: str = "failed"
) -> LaunchError:
    # Components write to log groups of their own.
    message, step = explain_failure(
        f"inference component {name} of endpoint {endpoint} {what}",
        described.get("FailureReason"),
        lambda: session.component_log_lines(name, None)[0],
    )
    return LaunchError(message, fix=f"{step}, and deploy again")


def list_names(client: Any, endpoint: str) -> list[str]:
    """Every component of an endpoint."""
    summaries = every(
        client.list_inference_components, "InferenceComponents", EndpointNameEquals=endpoint
    )
    return [each["InferenceComponentName"] for each in summaries]


def specifications(client: Any, endpoint: str) -> dict[str, dict[str, Any]]:
    """The Specification of every component of an endpoint."""
    specifications_by_name = {}
    for name in list_names(client, endpoint):
        with SuppressMissing():
            described = client.describe_inference_component(InferenceComponentName=name)
            specifications_by_name[name] = described.get("Specification", {})
    return specifications_by_name


def runs(client: Any, endpoint: str, model: str) -> bool:
    """Whether a component of an endpoint has this model."""
    return any(each.get("ModelName") == model for each in specifications(client, endpoint).values())


def remove(session: Any, endpoint: str) -> list[str]:
    """Delete every component, adapters first, and wait: an endpoint must have none to be deleted.

    Returns:
        The names of the models that they ran.
    """
    present = specifications(session, endpoint)
    bases = [name for name, each in present.items() if "BaseInferenceComponentName" not in each]
    for names in ([name for name in present if name not in bases], bases):
        _delete(session, names)
    return [each["ModelName"] for each in present.values() if "ModelName" in each]


def _delete(session: Any, names: list[str]) -> None:
    """Delete components and wait until the last is gone."""
    for name in names:
        if _exists(session, name):
            session.delete_inference_component(InferenceComponentName=name)

    def left() -> list[str]:
        return [name for name in names if _exists(session, name)]

    for _ in watch(left, lambda names: not names, session.seconds_between_looks):
        pass


def _exists(client: Any, name: str) -> bool:
    with SuppressMissing():
        client.describe_inference_component(InferenceComponentName=name)
        return True
    return False
