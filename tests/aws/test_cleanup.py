"""gc finds what bears our tag and nothing else, and can be repeated."""

from __future__ import annotations

import json

import pytest

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.monitoring import alarms

pytestmark = pytest.mark.usefixtures("calls")

ROLE = "arn:aws:iam::123456789012:role/hosting"


def endpoint(name: str, job: str | None, *, only_parts: bool = False) -> None:
    client = make_client("sagemaker")
    tags = [{"Key": limits.TAG_KEY, "Value": job}] if job else []
    client.create_model(
        ModelName=name, PrimaryContainer={"Image": "i"}, ExecutionRoleArn=ROLE, Tags=tags
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InitialInstanceCount": 2,
        "InstanceType": "ml.m5.large",
    }
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=tags)
    if not only_parts:
        client.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)


def left() -> set[str]:
    client = make_client("sagemaker")
    return {
        *(item["EndpointName"] for item in client.list_endpoints()["Endpoints"]),
        *(item["ModelName"] for item in client.list_models()["Models"]),
        *(item["EndpointConfigName"] for item in client.list_endpoint_configs()["EndpointConfigs"]),
    }


@pytest.mark.slow
def test_only_what_is_ours_and_asked_for_goes(aws: str, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint("mine", "first")
    endpoint("other", "second")
    endpoint("foreign", None)
    endpoint("orphan", "first", only_parts=True)
    assert cli.run(["gc", "--job", "first", "--dry-run", "--json"]) == 0
    leftovers = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in leftovers] == ["mine", "mine", "orphan", "mine", "orphan"]
    assert leftovers[0]["dollars_an_hour"] == pytest.approx(0.23)
    assert cli.run(["gc", "--older-than", "1h", "--yes"]) == 0
    assert left() == {"mine", "other", "foreign", "orphan"}  # nothing is that old
    assert cli.run(["gc", "--unused", "--yes"]) == 0
    assert left() == {"mine", "other", "foreign"}
    assert cli.run(["gc", "--job", "first", "--yes"]) == 0
    assert left() == {"other", "foreign"}
    assert cli.run(["gc", "--job", "first", "--yes"]) == 0  # again: nothing to do, no error


@pytest.mark.slow
def test_alarms_without_their_endpoint_are_found(
    aws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint("mine", "first")
    for name in ("mine", "gone"):
        config = JobConfig.model_validate({"name": "first", "endpoint": {"name": name}})
        alarms.put(config, name)
    cloudwatch = make_client("cloudwatch")
    count = len(cloudwatch.describe_alarms()["MetricAlarms"])
    assert cli.run(["gc", "--unused", "--yes"]) == 0
    assert "deleted alarm gone-errors" in capsys.readouterr().err
    names = [alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]]
    assert len(names) == count / 2
    assert all(name.startswith("mine-") for name in names)
    assert cli.run(["gc", "--job", "second", "--yes"]) == 0
    assert cli.run(["gc", "--job", "first", "--yes"]) == 0
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


@pytest.mark.slow
def test_dashboards_without_their_endpoint_are_found_with_their_price(
    aws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from moto.cloudwatch.models import cloudwatch_backends

    endpoint("mine", "first")
    names = ("mine", "gone", "gone-too", "foreign")
    for name in names:
        config = JobConfig.model_validate({"name": "first", "endpoint": {"name": name}})
        alarms.put_dashboard(config, name)
    backend = cloudwatch_backends["123456789012"]["eu-central-1"]
    for name in names[:3]:  # moto loses the tags of PutDashboard
        arn = backend.get_dashboard(f"sm-launch-{name}").arn
        backend.tagger.tag_resource(arn, [{"Key": limits.TAG_KEY, "Value": "first"}])
    alarms.put(JobConfig.model_validate({"name": "first", "endpoint": {"name": "gone"}}), "gone")

    assert cli.run(["gc", "--unused", "--dry-run", "--json"]) == 0
    leftovers = json.loads(capsys.readouterr().out)
    prices = {item["name"]: round(730 * item["dollars_an_hour"], 2) for item in leftovers}
    # The account has four dashboards, one more than are free.
    assert prices.pop("sm-launch-gone") == 3.0
    assert prices.pop("sm-launch-gone-too") == 0.0
    assert set(prices) == {
        f"gone-{kind}" for kind in ("errors", "latency", "memory", "disk", "gpu-memory")
    }
    assert set(prices.values()) == {0.1}
    assert cli.run(["gc", "--unused", "--yes"]) == 0
    told = capsys.readouterr().err
    assert "$3.00/month" in told
    assert "7 found, about $3.50 a month if left alone (list prices of eu-central-1, 20" in told
    entries = make_client("cloudwatch").list_dashboards()["DashboardEntries"]
    left_over = {entry["DashboardName"] for entry in entries}
    assert left_over == {"sm-launch-mine", "sm-launch-foreign"}


def test_a_bad_age_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["gc", "--older-than", "soon"]) == 2
    assert "12h" in capsys.readouterr().err
