"""What instances cost now: AWS's price list, kept for a month, else the bundled table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.errors import explain
from sm_launch.job.instances import PRICES_REGION, Prices, bundled_prices
from sm_launch.sessions import state_directory

MAX_AGE = timedelta(days=30)
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
    pages = client.get_paginator("get_products").paginate(
        ServiceCode="AmazonSageMaker",
        Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()],
    )
    for product in (json.loads(each) for page in pages for each in page["PriceList"]):
        kind = re.search(rf"\b{usage}:(ml\..+)$", product["product"]["attributes"]["usagetype"])
        if kind is None:
            continue
        for term in product["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                if dollars := float(dimension["pricePerUnit"].get("USD", 0)):
                    yield kind[1], dollars
