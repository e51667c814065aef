"""What a job or an endpoint may cost, from its request as AWS gets it, and the limit on that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.job.instances import Prices
from sm_launch.job.naming import Request
from sm_launch.job.passthrough import merged


@dataclass(frozen=True)
class Cost:
    """What a job may cost at most, in US dollars, with the line of its arithmetic."""

    dollars: float
    line: str


@dataclass(frozen=True)
class Billed:
    """What SageMaker charges a training job for.

    Attributes:
        machines: instance type and count; several where job.yaml has instance groups.
        one_of: SageMaker takes one of the machines alone: job.yaml has instance preferences.
        seconds: its maximum runtime. Service model, StoppingCondition: of all of SageMaker's own
            retries together.
        idle_seconds: how long the instances are kept for a next job.
        spot: whether the instances are spot capacity.
    """

    machines: tuple[tuple[str, int], ...]
    seconds: int
    idle_seconds: int
    spot: bool
    one_of: bool = False

    @property
    def count(self) -> int:
        """How many instances, of the first machine where SageMaker takes one alone."""
        counts = [count for _, count in self.machines]
        return counts[0] if self.one_of else sum(counts)

    @property
    def hours(self) -> float:
        return (self.seconds + self.idle_seconds) / 3600


def billed(config: JobConfig) -> Billed:
    """What job.yaml's training is charged for, with what its `sagemaker.training` changes."""
    training = config.training
    request: dict[str, Any] = {
        "ResourceConfig": {
            "InstanceType": training.instances.type,
            "InstanceCount": training.instances.count,
            "KeepAlivePeriodInSeconds": training.instances.keep_alive_seconds,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": training.max_runtime_seconds},
        "EnableManagedSpotTraining": training.spot,
    }
    changes = {key: value for key, value in config.sagemaker.training.items() if key in request}
    request = merged(request, changes)
    resources = request.get("ResourceConfig", {})
    preferences = resources.get("InstancePreferences")
    groups = preferences or resources.get("InstanceGroups") or [resources]
    condition = request.get("StoppingCondition", {})
    return Billed(
        tuple((str(g.get("InstanceType")), int(g.get("InstanceCount") or 1)) for g in groups),
        condition.get("MaxRuntimeInSeconds") or limits.DEFAULT_MAX_RUNTIME_SECONDS,
        resources.get("KeepAlivePeriodInSeconds") or 0,
        bool(request.get("EnableManagedSpotTraining")),
        one_of=bool(preferences),
    )


def cost(config: JobConfig, prices: Prices, jobs: int = 1) -> Cost | None:
    """What training can cost at most; None where the price of an instance type is unknown.

    Spot instances count by their own price where it is known, else by that on demand. Storage
    volumes, cents an hour, are not counted.

    Args:
        config: the job.
        prices: what instances cost.
        jobs: how many such jobs.
    """
    charged = billed(config)
    parts: list[tuple[float, str]] = []
    tries = 1 + config.training.restarts if jobs == 1 else 1  # a sweep's trials are not restarted
    for kind, count in charged.machines:
        rate = prices.training.get(kind)
        spot = prices.spot_rate(kind) if charged.spot else None
        if rate is None:
            return None
        each = rate if spot is None else spot
        term = f"${each:.3f}/h{_kind(charged, spot)} x {count} instance(s) x {charged.hours:.1f} h"
        parts.append((each * count * charged.hours * jobs * tries, term))
    if charged.one_of:
        parts = [max(parts)]
    dollars = sum(part for part, _ in parts)
    many = f" x {jobs} jobs" if jobs > 1 else ""
    if tries > 1:
        many += f" x {tries} tries"
    terms = " + ".join(term for _, term in parts)
    line = f"{terms}{many} = ${dollars:.2f} at most (list price of {prices})"
    return Cost(dollars, line)


def processing_cost(request: Request, prices: Prices) -> Cost | None:
    """What a CreateProcessingJob request can cost at most; None where a price is unknown."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    one_of = cluster.get("InstancePreferences") or [cluster]
    rates = [prices.training.get(str(each.get("InstanceType"))) for each in one_of]
    if None in rates:
        return None
    rate, count = max(filter(None, rates)), cluster.get("InstanceCount", 1)
    hours = request["StoppingCondition"]["MaxRuntimeInSeconds"] / 3600
    dollars = rate * count * hours
    line = (f"${rate:.3f}/h x {count} instance(s) x {hours:.1f} h = ${dollars:.2f} at most "
            f"(list price of {prices})")  # fmt: skip
    return Cost(dollars, line)


def _kind(charged: Billed, spot: float | None) -> str:
    if not charged.spot:
        return ""
    return " (on demand: spot's is not known)" if spot is None else " (spot's highest of 30 days)"


def hosting_cost(config: JobConfig, prices: Prices) -> Cost | None:
    """What the endpoint costs an hour; None where serverless, or where a price is unknown."""
    endpoint = config.endpoint
    if endpoint.serverless:
        return None
    own = endpoint.instance_types
    wanted = [(own, endpoint.instances.count)]
    wanted += [
        ([variant.instance_type] if variant.instance_type else own, variant.instance_count)
        for variant in endpoint.variants
    ]
    if any(kind not in prices.hosting for kinds, _ in wanted for kind in kinds):
        return None
    taken = [(max(kinds, key=prices.hosting.__getitem__), count) for kinds, count in wanted]
    dollars = sum(prices.hosting[kind] * count for kind, count in taken)
    terms = " + ".join(f"{count} x {kind}" for kind, count in taken)
    most = ", the dearest of endpoint.fallback" if endpoint.fallback else ""
    line = f"{terms} = ${dollars:.2f} an hour until deleted{most} (list price of {prices})"
    return Cost(dollars, line)


def require_cost(
    config: JobConfig, prices: Prices, limit: float | None, jobs: int = 1
) -> Cost | None:
    """Refuse a job that could cost more than `limit` US dollars.

    Raises:
        UserInputError: it could, or nobody knows.
    """
    estimated = cost(config, prices, jobs)
    if limit is None:
        return estimated
    if estimated is None:
        raise UserInputError(
            f"this instance type is not in the table of prices ({prices}), so no limit can be kept",
            field="training.instances.type",
            value=", ".join(kind for kind, _ in billed(config).machines),
            fix="take another type, or leave out --max-cost",
        )
    if estimated.dollars > limit:
        raise UserInputError(
            f"the job could cost more than ${limit:.2f}: {estimated.line}",
            field="--max-cost",
            fix="lower training.max_runtime_seconds, or take a cheaper instance",
        )
    return estimated


def require_cost_of_all(configs: list[JobConfig], prices: Prices, limit: float | None) -> str:
    """Refuse several jobs that could together cost more than `limit`; the line of the sum.

    Raises:
        UserInputError: they could, or nobody knows.
    """
    costs = [require_cost(config, prices, limit) for config in configs]
    known = [cost.dollars for cost in costs if cost]
    total, unknown = sum(known), len(costs) - len(known)
    line = f"{len(known)} jobs = ${total:.2f} at most (list prices of {prices})"
    if unknown:
        line += f", and {unknown} of an instance type without a known price"
    if limit is not None and total > limit:
        raise UserInputError(
            f"the jobs together could cost more than ${limit:.2f}: {line}",
            field="--max-cost",
            fix="fewer combinations, or a lower training.max_runtime_seconds",
        )
    return line
