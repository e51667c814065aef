"""Alarms, dashboard and metrics: valid requests, made and taken away again on moto."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from pydantic import ValidationError

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.job import limits
from sm_launch.job.config import JobConfig
from sm_launch.monitoring import alarms
from sm_launch.monitoring.endpoint_metrics import METRICS, component_queries
from sm_launch.monitoring.sources import CloudWatchSource
from sm_launch.sessions.validation import RequestValidator

pytestmark = pytest.mark.usefixtures("calls")

TOPIC = "arn:aws:sns:eu-central-1:123456789012:pager"
ENDPOINTS: dict[str, dict[str, Any]] = {
    "cpu": {"instances": {"type": "ml.m5.large"}},
    "gpu": {"variants": [{"name": "second", "model_data": "s3://b/m.tar.gz"}]},
    "serverless": {"serverless": {}},
    "async": {"asynchronous": {}},
    "components": {"components": {"adapters": {"polite": "s3://b/polite.tar.gz"}}},
}


def job(kind: str, **monitoring: Any) -> JobConfig:
    document = {"name": "mine", "endpoint": ENDPOINTS[kind], "monitoring": monitoring}
    return JobConfig.model_validate(document | {"aws": {"tags": {"team": "nlp"}}})


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_requests_are_valid(kind: str) -> None:
    validator = RequestValidator("cloudwatch")
    requests = alarms.alarm_requests(job(kind, topic=TOPIC, error_percent=0.5), "mine")
    for request in requests:
        validator.check("PutMetricAlarm", request)
        assert request["AlarmActions"] == [TOPIC]
    names = {request["AlarmName"] for request in requests}
    assert {"mine-errors", "mine-latency", "mine-memory"} <= names
    assert ("mine-gpu-memory" in names) is (kind not in {"cpu", "serverless"})
    assert ("mine-disk" in names) is (kind != "serverless")
    assert ("mine-errors-second" in names) is (kind == "gpu")
    assert {request["Threshold"] for request in requests if "errors" in request["AlarmName"]} == {
        0.005
    }
    assert {alarms._endpoint_of(request) for request in requests} == {"mine"}
    dashboard = alarms.dashboard_request(job(kind), "mine", "eu-central-1")
    validator.check("PutDashboard", dashboard)
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    assert len(widgets) == (8 if kind == "async" else 7)
    assert len({(widget["x"], widget["y"]) for widget in widgets}) == len(widgets)


def test_components_are_watched_by_their_own_requests() -> None:
    requests = {
        each["AlarmName"]: each for each in alarms.alarm_requests(job("components"), "mine")
    }
    filed = [{"Name": "InferenceComponentName", "Value": "mine-polite"}]
    assert requests["mine-latency-polite"]["Dimensions"] == filed
    assert requests["mine-errors"]["Dimensions"] == [
        {"Name": "InferenceComponentName", "Value": "mine"}
    ]
    assert requests["mine-memory"]["Dimensions"][0] == {"Name": "EndpointName", "Value": "mine"}
    assert "mine-memory-polite" not in requests
    body = json.loads(alarms.dashboard_request(job("components"), "mine", "x")["DashboardBody"])
    line = ["AWS/SageMaker", "Invocations", "InferenceComponentName", "mine", {"stat": "Sum"}]
    assert line in body["widgets"][0]["properties"]["metrics"]


def test_components_have_a_series_each() -> None:
    import boto3

    client: Any = boto3.client(
        "cloudwatch", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stub:
        for result in ([], [{"Id": "gpu", "Timestamps": [datetime.now(UTC)], "Values": [50.0]}]):
            stub.add_response(
                "get_metric_data",
                {"MetricDataResults": result},
                {"MetricDataQueries": ANY, "StartTime": ANY, "EndTime": ANY, "ScanBy": ANY},
            )
        source = CloudWatchSource(
            "mine",
            ["AllTraffic"],
            since=timedelta(hours=1),
            period=60,
            components=["mine"],
            clients=lambda service, region: client,
        )
        variant, component = source.look()
    assert (variant.variant, component.variant) == ("AllTraffic", "component mine")
    assert component.summary()["gpu"]["last"] == 50
    asked = {
        query["Id"]: query["MetricStat"]["Metric"]
        for query in component_queries("mine", 60)
        if "MetricStat" in query
    }
    assert asked["gpu_memory"]["Namespace"] == "/aws/sagemaker/InferenceComponents"
    assert asked["gpu_memory"]["MetricName"] == "GPUMemoryUtilizationNormalized"
    assert asked["model_p99"]["Namespace"] == "AWS/SageMaker"
    assert "disk" not in asked


def test_a_topic_must_be_one() -> None:
    with pytest.raises(ValidationError, match="topic"):
        job("cpu", topic="pager")


@pytest.mark.slow
def test_they_come_and_go(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from moto.cloudwatch.models import cloudwatch_backends

    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("name: mine\ntarget: sagemaker\n")
    cloudwatch = make_client("cloudwatch")
    foreign = alarms.alarm_requests(job("cpu"), "mine")[0] | {"AlarmName": "mine-own", "Tags": []}
    cloudwatch.put_metric_alarm(**foreign)
    other = alarms.alarm_requests(job("cpu"), "mine-two")[0]
    cloudwatch.put_metric_alarm(**other)
    for _ in range(2):
        assert cli.run(["alarms", "--json"]) == 0
    names = json.loads(capsys.readouterr().out.split("]\n")[-2] + "]")
    assert "mine-errors" in names
    assert cli.run(["alarms", "--show"]) == 0
    assert "mine-errors" in capsys.readouterr().out
    assert cli.run(["dashboard"]) == 0
    assert "dashboard sm-launch-mine" in capsys.readouterr().out
    backend = cloudwatch_backends["123456789012"]["eu-central-1"]
    arn = backend.get_dashboard("sm-launch-mine").arn  # moto loses the tags of PutDashboard
    backend.tagger.tag_resource(arn, [{"Key": limits.TAG_KEY, "Value": "mine"}])
    assert cli.run(["alarms", "--delete"]) == 0
    out = capsys.readouterr().out
    assert "deleted alarm mine-errors" in out
    assert "deleted dashboard sm-launch-mine" in out
    left = {alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert left == {"mine-own", "mine-two-errors"}  # neither is ours to delete
    assert cli.run(["alarms", "--delete"]) == 0
    assert cli.run(["alarms", "--target", "process"]) == 2


def test_cloudwatch_is_read_page_by_page() -> None:
    import boto3

    client: Any = boto3.client(
        "cloudwatch", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    start = datetime(2030, 1, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=minute) for minute in range(3)]
    asked = {"StartTime": ANY, "EndTime": ANY, "ScanBy": "TimestampAscending"}
    with Stubber(client) as stub:
        pages = [
            {"Id": "model_p99", "Timestamps": times[:2], "Values": [2e6, 3e6]},
            {"Id": "invocations", "Timestamps": times, "Values": [1, 2, 3]},
            {"Id": "gpu", "Timestamps": [], "Values": []},
        ]
        more = [{"Id": "model_p99", "Timestamps": times[2:], "Values": [4e6]}]
        stub.add_response(
            "get_metric_data",
            {"MetricDataResults": pages, "NextToken": "next"},
            {**asked, "MetricDataQueries": ANY},
        )
        stub.add_response(
            "get_metric_data",
            {"MetricDataResults": more},
            {**asked, "MetricDataQueries": ANY, "NextToken": "next"},
        )
        source = CloudWatchSource(
            "mine",
            ["AllTraffic"],
            since=timedelta(hours=1),
            period=60,
            clients=lambda service, region: client,
        )
        (series,) = source.look()
    assert series.summary()["model_p99"] == {"last": 4000, "mean": 3000, "max": 4000}
    assert series.summary()["invocations"]["sum"] == 6
    assert len({metric.key for metric in METRICS}) == len(METRICS)
