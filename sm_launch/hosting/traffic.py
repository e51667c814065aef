"""How an endpoint's traffic is shared among its variants: shown, and changed while it answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from sm_launch.aws.causes import explain_failure
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting.endpoints import require_own
from sm_launch.sessions.protocol import Session
from sm_launch.sessions.watching import watch
from sm_launch.target.context import JobContext

Request = dict[str, Any]
Look = Callable[[dict[str, Any]], None]

# DescribeEndpoint may tell of the old state for a moment after the change was taken.
PATIENCE_SECONDS = 120.0
_TRANSITIONS = frozenset({"Updating", "SystemUpdating", "RollingBack"})


def share(
    context: JobContext,
    endpoint: str,
    weights: Mapping[str, float],
    instances: Mapping[str, int],
    *,
    adopt: bool = False,
    on_description: Look = lambda _: None,
) -> list[dict[str, Any]]:
    """Give variants new weights or instance counts; `shares` of what is then. Without any: of now.

    Takes the arguments of `change` and raises its errors, and LaunchError where the endpoint is not
    this job's and `adopt` does not take it over.
    """
    _require_takes(context, instances)
    if weights or instances:
        require_own(context, endpoint, adopt=adopt)
    return shares(change(context.session, endpoint, weights, instances, on_description))


def prepare(
    context: JobContext, endpoint: str, weights: Mapping[str, float], instances: Mapping[str, int]
) -> list[Request]:
    """What `share` will ask for."""
    _require_takes(context, instances)
    described = context.session.describe_endpoint(EndpointName=endpoint)
    return build_requests(described, weights, instances)


def _require_takes(context: JobContext, instances: Mapping[str, int]) -> None:
    if instances and not context.on_aws:
        variant, count = next(iter(instances.items()))
        raise UserInputError(
            "a variant has one server here",
            field="--instances",
            value=f"{variant}={count}",
            fix="leave it out",
        )


def change(
    session: Session,
    endpoint: str,
    weights: Mapping[str, float],
    instances: Mapping[str, int] | None = None,
    on_description: Look = lambda _: None,
) -> dict[str, Any]:
    """Give variants new weights or instance counts, and wait until they have them.

    Args:
        session: where the endpoint runs.
        endpoint: its name.
        weights: variant to weight; its share is the weight over the sum of all. Variants that are
            not named keep theirs.
        instances: variant to number of instances.
        on_description: gets every DescribeEndpoint answer.

    Returns:
        The last DescribeEndpoint answer.

    Raises:
        UserInputError: there is no such variant, or nothing would get any traffic.
        LaunchError: the endpoint did not take the change.
    """
    described = session.describe_endpoint(EndpointName=endpoint)
    for request in build_requests(described, weights, instances or {}):
        session.update_endpoint_weights_and_capacities(**request)
        described = _wait(session, request, on_description)
    return described


def build_requests(
    described: dict[str, Any], weights: Mapping[str, float], instances: Mapping[str, int]
) -> list[Request]:
    """UpdateEndpointWeightsAndCapacities, as often as it is needed.

    One call takes the weights of many variants but the capacity of one. Instances are added before
    the traffic comes, and taken away once it has gone.

    Args:
        described: DescribeEndpoint's answer.
        weights: variant to weight.
        instances: variant to number of instances.

    Raises:
        UserInputError: there is no such variant, or nothing would get any traffic.
    """
    name = described["EndpointName"]
    known = {each["VariantName"]: each for each in described.get("ProductionVariants", [])}
    for variant in (*weights, *instances):
        if variant not in known:
            raise _unknown(name, variant, list(known))
    for variant in instances:
        if "CurrentServerlessConfig" in known[variant]:
            raise UserInputError("is serverless: it has no instances to count", field=variant)
    _require_traffic(known, weights)
    shared = [{"VariantName": each, "DesiredWeight": weight} for each, weight in weights.items()]
    growing: list[list[Request]] = []
    shrinking: list[list[Request]] = []
    for variant, count in instances.items():
        grows = count > known[variant].get("CurrentInstanceCount", 0)
        capacity = [{"VariantName": variant, "DesiredInstanceCount": count}]
        (growing if grows else shrinking).append(capacity)
    steps = [*growing, *([shared] if shared else []), *shrinking]
    return [{"EndpointName": name, "DesiredWeightsAndCapacities": step} for step in steps]


def shares(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, weight, share of the traffic and instances of every variant.

    Args:
        described: DescribeEndpoint's answer.
    """
    variants = described.get("ProductionVariants", [])
    total = math.fsum(each.get("CurrentWeight", 1.0) for each in variants)
    return [
        {
            "variant": each["VariantName"],
            "weight": each.get("CurrentWeight", 1.0),
            "share": each.get("CurrentWeight", 1.0) / total if total else 0.0,
            "instances": each.get("CurrentInstanceCount"),
        }
        for each in variants
    ]


def _unknown(endpoint: str, variant: str, known: list[str]) -> UserInputError:
    close = get_close_matches(variant, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UserInputError(
        f"endpoint {endpoint} has no such variant",
        field="VARIANT",
        value=variant,
        fix=f"{hint}it has {', '.join(known)}",
    )


def _require_traffic(known: dict[str, dict[str, Any]], weights: Mapping[str, float]) -> None:
    for variant, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise UserInputError(
                "must be zero or more", field=variant, value=weight, fix="give shares such as 90"
            )
    after = {name: weights.get(name, each.get("CurrentWeight")) for name, each in known.items()}
    if weights and not any(after.values()):
        raise UserInputError(
            "all variants would have weight 0, and no request an answer",
            value=dict(weights),
            fix="give one of them a weight; `sm-launch delete` takes an endpoint away",
        )


def _wait(session: Session, request: Request, on_description: Look) -> dict[str, Any]:
    """Look until every variant has what the request asks for."""
    name, wanted = request["EndpointName"], request["DesiredWeightsAndCapacities"]
    deadline = time.monotonic() + PATIENCE_SECONDS

    def reached(seen: dict[str, Any]) -> bool:
        return seen["EndpointStatus"] == "InService" and _reached(seen, wanted)

    def over(seen: dict[str, Any]) -> bool:
        nonlocal deadline
        if seen["EndpointStatus"] in _TRANSITIONS:
            deadline = time.monotonic() + PATIENCE_SECONDS
            return False
        late = time.monotonic() >= deadline
        return late or seen["EndpointStatus"] != "InService" or reached(seen)

    for described in watch(
        lambda: session.describe_endpoint(EndpointName=name), over, session.seconds_between_looks
    ):
        on_description(described)
    if not reached(described):
        raise _failure(session, described)
    return described


def _reached(described: dict[str, Any], wanted: list[dict[str, Any]]) -> bool:
    variants = {each["VariantName"]: each for each in described["ProductionVariants"]}

    def has(each: dict[str, Any]) -> bool:
        variant = variants[each["VariantName"]]
        weight = each.get("DesiredWeight", variant.get("CurrentWeight", 1.0))
        count = each.get("DesiredInstanceCount", variant.get("CurrentInstanceCount"))
        # The service holds weights in 32 bits.
        same = math.isclose(variant.get("CurrentWeight", 1.0), weight, rel_tol=1e-6)
        return same and bool(variant.get("CurrentInstanceCount") == count)

    return all(has(each) for each in wanted)


def _failure(session: Session, described: dict[str, Any]) -> LaunchError:
    name, now = described["EndpointName"], shares(described)
    weights = ", ".join(f"{each['variant']} {each['weight']:g}" for each in now)
    message, step = explain_failure(
        f"endpoint {name} did not take the change ({described['EndpointStatus']}, "
        f"weights {weights})",
        described.get("FailureReason"),
        lambda: session.endpoint_log_lines(name, None)[0],
    )
    return LaunchError(message, fix=f"{step}, and run the same command again")
