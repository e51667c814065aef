"""What jobs left on AWS: found by our tag, by age and by name; deleted in a safe order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.errors import SuppressMissing
from sm_launch.errors import UserInputError
from sm_launch.hosting import autoscaling, components
from sm_launch.job import limits
from sm_launch.job.instances import (
    ALARM_DOLLARS,
    DASHBOARD_DOLLARS,
    FREE_DASHBOARDS,
    HOURS_A_MONTH,
    Prices,
)
from sm_launch.monitoring import alarms
from sm_launch.sessions.aws import AwsSession
from sm_launch.target.context import JobContext

Clients = Callable[[str, str | None], Any]


@dataclass(frozen=True)
class _Kind:
    """How SageMaker lists and deletes one kind of resource."""

    word: str
    lister: str
    items: str
    name: str
    arn: str
    delete: str


# Endpoints first: they cost money, and what they use is free to go after them.
_KINDS = (
    _Kind("endpoint", "list_endpoints", "Endpoints", "EndpointName", "EndpointArn",
          "delete_endpoint"),
    _Kind("endpoint configuration", "list_endpoint_configs", "EndpointConfigs",
          "EndpointConfigName", "EndpointConfigArn", "delete_endpoint_config"),
    _Kind("model", "list_models", "Models", "ModelName", "ModelArn", "delete_model"),
)  # fmt: skip


@dataclass(frozen=True)
class Leftover:
    """A resource of ours.

    Attributes:
        kind: endpoint, endpoint configuration, model, alarm or dashboard.
        name: its name.
        job: the job.yaml that it belongs to.
        created: when it was made.
        status: of an endpoint; empty for the others.
        dollars_an_hour: what it costs while it is there, by list prices; None where they know
            not the instance type. Configurations and models cost nothing.
    """

    kind: str
    name: str
    job: str
    created: datetime
    status: str
    dollars_an_hour: float | None


def collect(
    context: JobContext,
    *,
    job: str | None = None,
    older_than: timedelta | None = None,
    tags: dict[str, str] | None = None,
    unused: bool = False,
    delete: bool = False,
    confirm: Callable[[list[Any]], None] = lambda leftovers: None,
    on_deleted: Callable[[Any], None] = lambda item: None,
) -> list[Any]:
    """What jobs left behind, found or deleted: `Leftover`s of AWS, `Garbage` of this machine.

    Only what bears our tag is touched. Data and models on S3 stay, and so do artefacts here.

    Args:
        context: where to look.
        job: only what belongs to the job.yaml of this name.
        older_than: only what is older.
        tags: only what bears all of these too.
        unused: on SageMaker only configurations, models, alarms and dashboards without an endpoint.
        delete: else only look.
        confirm: gets what was found on SageMaker, and raises where it is to stay.
        on_deleted: gets each resource of SageMaker that is gone.

    Raises:
        UserInputError: the target has no such thing.
    """
    if not context.on_aws:
        return _collect_here(context, job, older_than, tags, unused=unused, delete=delete)
    region = context.region
    leftovers = find(
        make_client, context.prices, region,
        job=job, older_than=older_than, tags=tags, unused=unused,
    )  # fmt: skip
    confirm(leftovers)
    if not delete:
        return list(leftovers)
    deleted = []
    for item in leftovers:
        if delete_one(make_client, item, region):
            deleted.append(item)
            on_deleted(item)
    return deleted


def _collect_here(
    context: JobContext,
    job: str | None,
    older_than: timedelta | None,
    tags: dict[str, str] | None,
    *,
    unused: bool,
    delete: bool,
) -> list[Any]:
    if unused:
        raise UserInputError("is for SageMaker only", field="--unused", fix="leave it out")
    if context.target != "process":
        raise UserInputError("keeps nothing to collect", field="--target", value=context.target)
    session = context.session.local
    assert session is not None, "the caller looks"
    wanted = {**(tags or {}), **({limits.TAG_KEY: job} if job else {})}
    return [*session.collect_garbage(older_than or timedelta(), dry_run=not delete, tags=wanted)]


def find(
    clients: Clients,
    prices: Prices,
    region: str | None = None,
    *,
    job: str | None = None,
    older_than: timedelta | None = None,
    tags: dict[str, str] | None = None,
    unused: bool = False,
) -> list[Leftover]:
    """Everything that bears our tag, endpoints first.

    Args:
        clients: makes a client of an AWS service.
        prices: of endpoints.
        region: None takes what the AWS configuration says.
        job: only that job's.
        older_than: only what is older.
        tags: only what bears all of these too.
        unused: only configurations and models that no endpoint uses, and alarms and dashboards of
            endpoints that are gone.
    """
    client = clients("sagemaker", region)
    wanted = {**(tags or {}), **({limits.TAG_KEY: job} if job else {})}
    used = _in_use(client) if unused else frozenset()
    before = datetime.now(UTC) - (older_than or timedelta())
    leftovers = []
    for kind, item in _listed(client):
        name = item[kind.name]
        if item["CreationTime"] > before or (kind.word, name) in used:
            continue
        if unused and kind.word == "endpoint":
            continue
        theirs = _tags(client, item[kind.arn])
        owner = theirs.get(limits.TAG_KEY)
        if owner is None or any(theirs.get(key) != value for key, value in wanted.items()):
            continue
        price = _price(client, name, prices) if kind.word == "endpoint" else 0.0
        status = item.get("EndpointStatus", "")
        leftovers.append(Leftover(kind.word, name, owner, item["CreationTime"], status, price))
    return [*leftovers, *_watchers(clients, region, wanted, before, unused=unused)]


def _watchers(
    clients: Clients, region: str | None, wanted: dict[str, str], before: datetime, *, unused: bool
) -> Iterator[Leftover]:
    """Alarms and dashboards, with what CloudWatch takes for them."""
    pages = clients("sagemaker", region).get_paginator("list_endpoints").paginate()
    endpoints = {item["EndpointName"] for page in pages for item in page["Endpoints"]}

    def fits(endpoint: str, changed: datetime, owned: dict[str, str]) -> bool:
        return (
            changed <= before
            and not (unused and endpoint in endpoints)
            and limits.TAG_KEY in owned
            and all(owned.get(key) == value for key, value in wanted.items())
        )

    client = clients("cloudwatch", region)
    for alarm, endpoint in alarms.all_of_ours(region, clients):
        changed = alarm["AlarmConfigurationUpdatedTimestamp"]
        owned = alarms.tags_of(client, alarm["AlarmArn"])
        if fits(endpoint, changed, owned):
            name, state = alarm["AlarmName"], alarm["StateValue"]
            price = ALARM_DOLLARS / HOURS_A_MONTH
            yield Leftover("alarm", name, owned[limits.TAG_KEY], changed, state, price)
    boards, count = alarms.dashboards_of_ours(region, clients)
    for entry, endpoint, owned in boards:
        changed = entry["LastModified"]
        if fits(endpoint, changed, owned):
            # Each that goes brings the account nearer to the free ones.
            price = DASHBOARD_DOLLARS / HOURS_A_MONTH if count > FREE_DASHBOARDS else 0.0
            count -= 1
            name = entry["DashboardName"]
            yield Leftover("dashboard", name, owned[limits.TAG_KEY], changed, "", price)


def delete_one(clients: Clients, leftover: Leftover, region: str | None = None) -> bool:
    """Delete one; False where it was gone already."""
    if leftover.kind == "alarm":
        # One that went with its endpoint is no error.
        clients("cloudwatch", region).delete_alarms(AlarmNames=[leftover.name])
        return True
    if leftover.kind == "dashboard":
        return _delete_dashboard(clients("cloudwatch", region), leftover.name)
    kind = next(kind for kind in _KINDS if kind.word == leftover.kind)
    if leftover.kind == "endpoint":
        autoscaling.remove(leftover.name, region, clients)
        client = clients("sagemaker", region)
        if any("ModelName" not in variant for variant in _variants(client, leftover.name)[1]):
            components.remove(AwsSession(region, clients=clients), leftover.name)
    with SuppressMissing():
        getattr(clients("sagemaker", region), kind.delete)(**{kind.name: leftover.name})
        if leftover.kind == "endpoint":
            alarms.try_remove(leftover.name, region, clients)
        return True
    return False


def _delete_dashboard(client: Any, name: str) -> bool:
    with SuppressMissing():
        client.delete_dashboards(DashboardNames=[name])
        return True
    return False


def _listed(client: Any) -> Iterator[tuple[_Kind, dict[str, Any]]]:
    for kind in _KINDS:
        for page in client.get_paginator(kind.lister).paginate():
            for item in page[kind.items]:
                yield kind, item


def _tags(client: Any, arn: str) -> dict[str, str]:
    pages = client.get_paginator("list_tags").paginate(ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


def _variants(client: Any, endpoint: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An endpoint and the variants of its configuration; ({}, []) once one of them is gone."""
    with SuppressMissing():
        running = client.describe_endpoint(EndpointName=endpoint)
        name = running["EndpointConfigName"]
        described = client.describe_endpoint_config(EndpointConfigName=name)
        return running, described["ProductionVariants"]
    return {}, []


def _in_use(client: Any) -> frozenset[tuple[str, str]]:
    used = set()
    for page in client.get_paginator("list_endpoints").paginate():
        for item in page["Endpoints"]:
            running, variants = _variants(client, item["EndpointName"])
            used.add(("endpoint configuration", running.get("EndpointConfigName", "")))
            used.update(("model", variant.get("ModelName", "")) for variant in variants)
            if any("ModelName" not in variant for variant in variants):
                specifications = components.specifications(client, item["EndpointName"]).values()
                used.update(("model", each.get("ModelName", "")) for each in specifications)
    return frozenset(used)


def _price(client: Any, endpoint: str, prices: Prices) -> float | None:
    """By the instances that it has now, where the service tells them."""
    total = 0.0
    described, variants = _variants(client, endpoint)
    running = {
        each["VariantName"]: each.get("CurrentInstanceCount")
        for each in described.get("ProductionVariants", [])
    }
    for variant in variants:
        if "ServerlessConfig" in variant:
            continue
        price = prices.hosting.get(variant["InstanceType"])
        if price is None:
            return None
        count = running.get(variant["VariantName"])
        total += price * (variant["InitialInstanceCount"] if count is None else count)
    return total
