"""What a million requests cost, at the rate that a load test has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sm_launch.evaluation.result import LoadTest, Million
from sm_launch.job.instances import Prices
from sm_launch.job.million import million_dollars
from sm_launch.sessions.protocol import Session


@dataclass(frozen=True)
class Hosts:
    """Instances of a type behind an endpoint."""

    type: str
    count: int


def hosts_of(session: Session, endpoint: str) -> list[Hosts]:
    """The instances that an endpoint on SageMaker runs on now; none where it is serverless."""
    described = session.describe_endpoint(EndpointName=endpoint)
    name = described["EndpointConfigName"]
    config = session.describe_endpoint_config(EndpointConfigName=name)
    types = {
        variant["VariantName"]: variant["InstanceType"]
        for variant in config["ProductionVariants"]
        if variant.get("InstanceType")
    }
    return [
        Hosts(types[variant["VariantName"]], int(variant.get("CurrentInstanceCount") or 1))
        for variant in described["ProductionVariants"]
        if variant["VariantName"] in types
    ]


def priced(
    test: LoadTest, hosts: Sequence[Hosts], types: Sequence[str], prices: Prices
) -> tuple[LoadTest, list[str]]:
    """The test with its costs, and notes of types without a known price.

    Args:
        test: what was measured.
        hosts: that it was measured on; none where that is another machine.
        types: to price besides, an instance of each, as if it answered as many.
        prices: of hosting.
    """
    if test.best is None:
        return test, []
    rate = test.best.requests_per_s
    asked = [(each.type, each.count, True) for each in hosts]
    asked += [(kind, 1, False) for kind in types if kind not in {each.type for each in hosts}]
    unknown = [kind for kind, _, _ in asked if kind not in prices.hosting]
    costs = []
    for kind, count, measured in asked:
        if kind in unknown:
            continue
        hourly = prices.hosting[kind] * count
        costs.append(Million(kind, count, hourly, million_dollars(rate, hourly), measured))
    notes = [f"no price is known of {kind} ({prices})" for kind in unknown]
    return replace(test, costs=tuple(costs), prices=str(prices)), notes
