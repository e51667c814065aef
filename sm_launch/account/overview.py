"""All of a project at a target, running or over, with what it has cost so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sm_launch.account import listing
from sm_launch.aws.paging import every
from sm_launch.job import limits, naming
from sm_launch.job.instances import Prices
from sm_launch.target import ownership
from sm_launch.target.context import JobContext


@dataclass(frozen=True)
class Item:
    """A thing of the project.

    Attributes:
        kind: training job, sweep, transform job, processing job, endpoint, model package group,
            pipeline or schedule.
        name: its name.
        status: as the service calls it; empty where there is none.
        created: when it was made.
        dollars: what its instances have cost so far, by list prices; None where that is not known,
            0 for what has no instances of its own.
        dollars_an_hour: what they cost from now on; 0 where it is over.
    """

    kind: str
    name: str
    status: str
    created: datetime
    dollars: float | None = 0.0
    dollars_an_hour: float | None = 0.0


Machines = list[tuple[str, int]]
# Kind of `listing.summaries` to what people call it, and the fields of its name, status and time.
_KINDS = {
    **{f"{kind}s": (word, f"{kind}Name", f"{kind}Status", "CreationTime") for kind, word in {
        "TrainingJob": "training job", "HyperParameterTuningJob": "sweep",
        "TransformJob": "transform job", "ProcessingJob": "processing job",
        "Endpoint": "endpoint", "ModelPackageGroup": "model package group"}.items()},
    "Pipelines": ("pipeline", "PipelineName", "", "CreationTime"),
    "Schedules": ("schedule", "Name", "State", "CreationDate"),
}  # fmt: skip


def overview(context: JobContext, project: str | None = None) -> list[Item]:
    """What has a name made of the project's, newest first in each kind.

    Args:
        context: where to look.
        project: default: the name of job.yaml.
    """
    name = project or context.config.name
    items = [
        item
        for kind, rows in listing.summaries(context, naming.cut(name)).items()
        for row in rows
        if _is_of(context, item := item_of(kind, row), row, name)
    ]
    endpoint = context.config.endpoint_name
    if not project and endpoint not in {item.name for item in items if item.kind == "endpoint"}:
        rows = every(context.session.list_endpoints, "Endpoints", NameContains=endpoint)
        named = (item_of("Endpoints", row) for row in rows)
        items += [item for item in named if item.name == endpoint]
    return [_priced(context, item) for item in items] if context.on_aws else items


def item_of(kind: str, row: dict[str, Any]) -> Item:
    """One of the summaries of `listing.summaries`."""
    word, name, status, created = _KINDS[kind]
    return Item(word, row[name], row.get(status, ""), row[created])


def _is_of(context: JobContext, item: Item, row: dict[str, Any], project: str) -> bool:
    """Whether it is the project's; where its name was cut, its tag says so."""
    if item.name == project or item.name.startswith(f"{project}-"):
        return True
    arn = next((str(row[key]) for key in row if key.endswith("Arn")), "")
    return (
        bool(arn)
        and naming.is_made_of(item.name, project)
        and ownership.tags_of(context.session, arn).get(limits.TAG_KEY) == project
    )


def _priced(context: JobContext, item: Item) -> Item:
    """The same with its dollars, where instances of its own ran."""
    describe: dict[str, Callable[[Any, str], tuple[Machines, float, bool]]] = {
        "training job": _training,
        "processing job": _processing,
        "transform job": _transform,
        "endpoint": _endpoint,
    }
    if item.kind not in describe:
        return item  # a sweep's instances are those of its training jobs
    machines, seconds, runs = describe[item.kind](context.session, item.name)
    rate = _rate(machines, item.kind, context.prices)
    so_far = None if rate is None else rate * seconds / 3600
    return replace(item, dollars=so_far, dollars_an_hour=rate if runs else 0.0)


def _rate(machines: Machines, kind: str, prices: Prices) -> float | None:
    """US dollars an hour. SageMaker's pages list one price of a type for training and processing,
    and one for endpoints and batch transform."""
    known = prices.hosting if kind in ("endpoint", "transform job") else prices.training
    if any(each not in known for each, _ in machines):
        return None
    return sum(known[each] * count for each, count in machines)


def _machines(resources: dict[str, Any]) -> Machines:
    """Of a job; a type without a name, as where SageMaker chose among several, has no price."""
    groups = resources.get("InstanceGroups") or [resources]
    return [(group.get("InstanceType") or "", group.get("InstanceCount") or 1) for group in groups]


def _training(session: Any, name: str) -> tuple[Machines, float, bool]:
    """Service model, BillableTimeInSeconds: times the number of instances it is what is billed,
    of spot instances too."""
    job = session.describe_training_job(TrainingJobName=name)
    lasted, runs = _lasted(job, "TrainingStartTime", "TrainingEndTime")
    return _machines(job["ResourceConfig"]), job.get("BillableTimeInSeconds") or lasted, runs


def _processing(session: Any, name: str) -> tuple[Machines, float, bool]:
    job = session.describe_processing_job(ProcessingJobName=name)
    machines = _machines(job.get("ProcessingResources", {}).get("ClusterConfig", {}))
    return machines, *_lasted(job, "ProcessingStartTime", "ProcessingEndTime")


def _transform(session: Any, name: str) -> tuple[Machines, float, bool]:
    job = session.describe_transform_job(TransformJobName=name)
    return _machines(job["TransformResources"]), *_lasted(
        job, "TransformStartTime", "TransformEndTime"
    )


def _endpoint(session: Any, name: str) -> tuple[Machines, float, bool]:
    """As if it always had the instances that it has now; serverless ones have none."""
    endpoint = session.describe_endpoint(EndpointName=name)
    config = session.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    now = {each["VariantName"]: each for each in endpoint.get("ProductionVariants", [])}
    machines = [
        machine
        for variant in config["ProductionVariants"]
        for machine in _of_variant(variant, now.get(variant["VariantName"], {}))
    ]
    return machines, _since(endpoint["CreationTime"]), endpoint["EndpointStatus"] != "Failed"


def _of_variant(variant: dict[str, Any], now: dict[str, Any]) -> Machines:
    """What a variant runs on; of several instance types each with its own count."""
    count = now.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
    if "InstancePools" not in variant:
        return [(variant["InstanceType"], count)] if variant.get("InstanceType") else []
    pools = now.get("InstancePools", [])
    if not pools:  # not begun: nobody knows yet which
        return [("", count)] if count else []
    return [(pool["InstanceType"], pool["CurrentInstanceCount"]) for pool in pools
            if pool["CurrentInstanceCount"]]  # fmt: skip


def _lasted(job: dict[str, Any], start: str, end: str) -> tuple[float, bool]:
    """Seconds from start to end, or until now, and whether it still goes on."""
    if job.get(start) is None:
        return 0.0, False
    if job.get(end) is None:
        return _since(job[start]), True
    return (job[end] - job[start]).total_seconds(), False


def _since(moment: datetime) -> float:
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())


def total(items: list[Item]) -> tuple[float, float, int]:
    """Dollars so far, dollars an hour from now on, and of how many things nobody knows."""
    so_far = sum(item.dollars or 0.0 for item in items)
    an_hour = sum(item.dollars_an_hour or 0.0 for item in items)
    return so_far, an_hour, sum(item.dollars is None for item in items)
