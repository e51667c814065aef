"""What instances cost now: AWS's price list, kept for a month, else the bundled table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.errors import explain
from sm_launch.job.instances import PRICES_REGION, Prices, bundled_prices
from sm_launch.sessions import state_directory

MAX_AGE = timedelta(days=30)
SPOT_HISTORY = timedelta(days=30)
_API_REGION = "us-east-1"
"""One of the three whose endpoint has the price lists of all regions."""


def current_prices(region: str | None) -> Prices:
    """The list prices of a region; never an error, for a price is advice.

    AWS is asked where the list that is kept here is a month old (pricing:GetProducts). Where it
    does not answer, the old list holds, else the bundled table, and `problem` says so.

    Args:
        region: None takes what the AWS configuration says, else us-east-1.
    """
    import boto3

    kept = None
    try:
        region = region or boto3.session.Session().region_name or PRICES_REGION
        path = state_directory() / "prices" / f"{region}.json"
        kept = _read(path)
        if kept and date.today() - date.fromisoformat(kept.as_of) < MAX_AGE:
            return kept
        prices = _ask(region)
    except Exception as error:  # whatever went wrong: a proxy's page, another form of answer
        known = explain(error)
        reason = known.message if known else f"{type(error).__name__}: {error}"
        problem = f"AWS's price list was not read: {reason}"
        return replace(kept, problem=problem) if kept else bundled_prices(problem)
    if not prices.training:
        return bundled_prices(f"AWS lists no prices in US dollars of {region}")
    with suppress(OSError):  # a home that cannot be written is asked about again
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(prices)), encoding="utf-8")
    return prices


def with_spot(prices: Prices, region: str | None, kinds: Sequence[str]) -> Prices:
    """The same prices, with those of spot instances of `kinds`, where they can be known.

    SageMaker lists no price of managed spot training. It is taken to stand to its own price on
    demand as EC2's does, whose highest of 30 days and all zones is known. Source: EC2's
    DescribeSpotPriceHistory, and the price list of AmazonEC2.
    """
    import boto3

    spot: dict[str, float] = {}
    problem = prices.problem
    region = region or boto3.session.Session().region_name or PRICES_REGION
    path = state_directory() / "prices" / f"{region}-spot-{date.today()}.json"
    kept = _read_rates(path)
    for kind in kinds:
        try:
            share = kept.get(kind) or _spot_share(region, kind.removeprefix("ml."))
        except Exception as error:  # as for the list: a price is advice
            known = explain(error)
            reason = known.message if known else f"{type(error).__name__}: {error}"
            problem = problem or f"spot prices were not read: {reason}"
            continue
        if share and prices.training.get(kind):
            kept[kind] = share
            spot[kind] = prices.training[kind] * share
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept), encoding="utf-8")
    return replace(prices, spot=spot, problem=problem)


def _spot_share(region: str, kind: str) -> float | None:
    """EC2's highest spot price of 30 days, as a share of its price on demand; at most all of it."""
    pages = (
        make_client("ec2", region, attempts=2)
        .get_paginator("describe_spot_price_history")
        .paginate(
            InstanceTypes=[kind],
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.now(UTC) - SPOT_HISTORY,
        )
    )
    spot = [float(each["SpotPrice"]) for page in pages for each in page["SpotPriceHistory"]]
    wanted = {
        "regionCode": region,
        "instanceType": kind,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    client = make_client("pricing", _API_REGION, attempts=2)
    demand = [dollars for _, dollars in _products(client, "AmazonEC2", wanted)]
    return min(1.0, max(spot) / min(demand)) if spot and demand else None


def _read_rates(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(kind): float(share) for kind, share in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _read(path: Path) -> Prices | None:
    try:
        prices = Prices(**json.loads(path.read_text(encoding="utf-8")))
        date.fromisoformat(prices.as_of)
        return prices
    except (OSError, ValueError, TypeError):  # there is none, or only a part of one
        return None


def _ask(region: str) -> Prices:
    client = make_client("pricing", _API_REGION, attempts=2)
    training = dict(_rates(client, region, "Training", "Train"))
    hosting = dict(_rates(client, region, "Hosting", "Host"))
    return Prices(training, hosting, region, date.today().isoformat())


def _rates(client: Any, region: str, component: str, usage: str) -> Iterator[tuple[str, float]]:
    """Instance types and US dollars an hour of a component of SageMaker.

    Args:
        client: of the service pricing.
        region: whose prices.
        component: the products' attribute of that name.
        usage: how their usage type calls it: `EUC1-Train:ml.g5.xlarge`.
    """
    wanted = {"regionCode": region, "component": component}
    for attributes, dollars in _products(client, "AmazonSageMaker", wanted):
        if kind := re.search(rf"\b{usage}:(ml\..+)$", attributes["usagetype"]):
            yield kind[1], dollars


def _products(
    client: Any, service: str, wanted: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], float]]:
    """Attributes and US dollars of what a service sells on demand."""
    pages = client.get_paginator("get_products").paginate(
        ServiceCode=service,
        Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()],
    )
    for product in (json.loads(each) for page in pages for each in page["PriceList"]):
        for term in product["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                if dollars := float(dimension["pricePerUnit"].get("USD", 0)):
                    yield product["product"]["attributes"], dollars
