"""What a project has cost so far, from what SageMaker says of its jobs and endpoints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from sm_launch.account import overview
from sm_launch.job.instances import Prices

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PRICES = Prices({"ml.m5.large": 0.1, "ml.g5.xlarge": 1.4}, {"ml.m5.large": 0.2}, "x", "2026-01-01")


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of what goes on stands still."""
    monkeypatch.setattr(overview, "_since", lambda moment: (NOW - moment).total_seconds())


def hours(count: float) -> datetime:
    return NOW - timedelta(hours=count)


def cost(kind: str, **described: Any) -> tuple[float | None, float | None]:
    """Dollars so far, and an hour, of a thing that the service so describes."""
    session = SimpleNamespace(
        **{name: lambda answer=answer, **_: answer for name, answer in described.items()}
    )
    context: Any = SimpleNamespace(session=session, prices=PRICES)
    item = overview._priced(context, overview.Item(kind, "mine", "x", hours(9)))
    return item.dollars, item.dollars_an_hour


def training(**more: Any) -> dict[str, Any]:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 3}
    return {"ResourceConfig": resources, "TrainingStartTime": hours(4), **more}


GROUPS = [
    {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
]


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        # Spot: only part of the time is billed. Billed is the time of each of the instances.
        (training(TrainingEndTime=hours(2), BillableTimeInSeconds=1800), (0.15, 0)),
        (training(TrainingEndTime=hours(2)), (0.6, 0)),
        (training(), (1.2, 0.3)),
        (training(TrainingStartTime=None), (0, 0)),
        (training(ResourceConfig={"InstanceGroups": GROUPS}), (11.6, 2.9)),
        (training(ResourceConfig={"InstanceType": "ml.new", "InstanceCount": 1}), (None, None)),
        (training(ResourceConfig={"InstancePreferences": GROUPS}), (None, None)),
    ],
    ids=["spot", "over", "running", "not begun", "groups", "unknown", "one of several"],
)
def test_a_training_costs_what_is_billed(
    job: dict[str, Any], wanted: tuple[float | None, float | None]
) -> None:
    assert cost("training job", describe_training_job=job) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    ("variant", "instances", "wanted"),
    [
        ({"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, 2, (2.0, 0.4)),
        ({"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, 0, (0, 0)),
        ({"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, None, (1.0, 0.2)),
        ({"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1}}, None, (0, 0)),
    ],
    ids=["scaled", "scaled to zero", "begun", "serverless"],
)
def test_an_endpoint_costs_by_the_hour(
    variant: dict[str, Any], instances: int | None, wanted: tuple[float, float]
) -> None:
    counted = {} if instances is None else {"CurrentInstanceCount": instances}
    endpoint = {
        "EndpointConfigName": "c",
        "EndpointStatus": "InService",
        "CreationTime": hours(5),
        "ProductionVariants": [{"VariantName": "a", **counted}],
    }
    config = {"ProductionVariants": [{"VariantName": "a", **variant}]}
    made = cost("endpoint", describe_endpoint=endpoint, describe_endpoint_config=config)
    assert made == pytest.approx(wanted, abs=1e-3)


def test_processing_and_transform_jobs_cost_their_time() -> None:
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    processing = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingStartTime": hours(3),
        "ProcessingEndTime": hours(1),
    }
    transform = {
        "TransformResources": cluster,
        "TransformStartTime": hours(3),
        "TransformEndTime": hours(2),
    }
    made = [
        *cost("processing job", describe_processing_job=processing),
        *cost("transform job", describe_transform_job=transform),
    ]
    assert made == pytest.approx([0.4, 0, 0.4, 0])


def test_the_sum_says_what_it_lacks() -> None:
    items = [
        overview.Item("endpoint", "a", "", NOW, 1.5, 0.2),
        overview.Item("training job", "b", "", NOW, None, None),
        overview.Item("sweep", "c", "", NOW),
    ]
    assert overview.total(items) == (1.5, 0.2, 1)
