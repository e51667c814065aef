"""Monitoring's arithmetic: histograms, counters, limits, drift, and what captured bodies hold."""

from __future__ import annotations

import base64
import json
import math
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sm_launch.commands.monitor_view import sparkline, view
from sm_launch.errors import UserInputError
from sm_launch.job.monitoring import Monitoring
from sm_launch.monitoring import captured, drift, local_metrics
from sm_launch.monitoring.endpoint_metrics import queries
from sm_launch.monitoring.report import write_monitoring
from sm_launch.monitoring.series import VariantSeries, problems
from sm_launch.monitoring.sources import monitor

METRICS = """
sm_serve_requests_total{route="/invocations",status="200"} 6
sm_serve_requests_total{route="/v1/chat/completions",status="500"} 2
sm_serve_requests_total{route="/invocations",status="400"} 2
sm_serve_requests_total{route="/ping",status="200"} 900
sm_serve_request_seconds_bucket{le="0.1"} 5
sm_serve_request_seconds_bucket{le="0.5"} 9
sm_serve_request_seconds_bucket{le="+Inf"} 10
"""


def test_counters_and_quantiles() -> None:
    seen = local_metrics.parse(METRICS)
    values = seen.values()
    assert (values["invocations"], values["errors_4xx"], values["errors_5xx"]) == (10, 2, 2)
    assert values["model_p50"] == pytest.approx(100)
    assert values["model_p90"] == pytest.approx(500)
    assert values["model_p99"] == pytest.approx(500)  # beyond the last bound nobody knows
    assert local_metrics.quantile({0.1: 5, 0.5: 9, math.inf: 10}, 0.7) == pytest.approx(0.3)
    assert local_metrics.quantile({}, 0.5) is None
    later = local_metrics.Counters({200: 8.0, 500: 2.0, 400: 2.0}, seen.buckets)
    assert later.since(seen).values()["invocations"] == 2
    assert "model_p50" not in later.since(seen).values()
    restarted = local_metrics.Counters({200: 1.0})
    assert restarted.since(seen) is restarted


def series() -> VariantSeries:
    variant = VariantSeries("AllTraffic")
    start = datetime(2030, 1, 1, tzinfo=UTC)
    for minute in range(5):
        variant.add(
            start + timedelta(minutes=minute),
            {"invocations": 100.0, "errors_5xx": minute, "model_p99": 50.0 * minute,
             "memory": 95.0, "gpu": math.nan},
        )  # fmt: skip
    return variant


def test_summaries_and_limits() -> None:
    summary = series().summary()
    assert summary["errors_5xx"] == {"last": 4, "mean": 2, "max": 4, "sum": 10}
    assert "sum" not in summary["model_p99"]
    assert "gpu" not in summary
    assert (
        problems(series(), Monitoring(error_percent=5, latency_p99_ms=500, memory_percent=99)) == []
    )
    messages = problems(series(), Monitoring(latency_p99_ms=150))
    assert len(messages) == 3
    assert messages[0].startswith("2.0 % of the requests")
    assert messages[1] == (
        "model latency p99 was above 150 ms at 1 of 5 points: 200 ms at most, 200 at the end"
    )
    assert sparkline([0, 4, 8]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"


def lengths(chance: random.Random, mean: float, count: int) -> list[int]:
    return [max(1, round(chance.gauss(mean, 20))) for _ in range(count)]


def test_drift_is_found_and_chance_is_not() -> None:
    chance = random.Random(1)
    training = lengths(chance, 100, 5000)
    false_alarms = 0
    for _ in range(100):
        same = drift.compare_lengths(training, lengths(chance, 100, 60), 0.1)
        assert same is not None
        assert same.limit > 0.1  # 60 requests scatter more than the threshold
        false_alarms += same.state == "drift"
    assert false_alarms <= 5
    moved = drift.compare_lengths(training, lengths(chance, 130, 300), 0.2)
    assert moved is not None
    assert moved.state == "drift"
    assert sum(moved.training.values()) == pytest.approx(1)
    few = drift.compare_lengths(training, lengths(chance, 400, 20), 0.2)
    assert few is not None
    assert few.state == "too few"
    assert drift.compare_lengths([], [1], 0.2) is None
    constant = drift.compare_lengths([5] * 100, [5] * 100, 0.2)
    assert constant is not None
    assert constant.index == pytest.approx(0)


def test_labels_drift_too() -> None:
    training = {"good": 500, "bad": 500}
    same = drift.compare_labels(training, {"good": 110, "bad": 90}, 0.2)
    other = drift.compare_labels(training, {"good": 190, "odd": 10}, 0.2)
    assert same is not None
    assert other is not None
    assert (same.state, other.state) == ("ok", "drift")
    assert math.isfinite(other.index)
    assert other.captured == {"good": 0.95, "bad": 0.0, "odd": 0.05}


def line(kind: str, sent: str, received: str, encoding: str = "JSON") -> str:
    sides = {
        name: {"observedContentType": kind, "mode": mode, "data": data, "encoding": encoding}
        for name, mode, data in (
            ("endpointInput", "INPUT", sent),
            ("endpointOutput", "OUTPUT", received),
        )
    }
    return json.dumps({"captureData": sides})


def test_captured_bodies_of_every_kind() -> None:
    answer = json.dumps([{"label": "good", "score": 0.9}])
    both = json.dumps([{"label": "bad", "score": 0.9}, {"label": "good", "score": 0.8}])
    top = json.dumps([[{"label": "bad", "score": 0.9}, {"label": "good", "score": 0.1}]])
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    encoded = base64.b64encode(b'{"inputs": "1234567"}').decode()
    packed = base64.b64encode(answer.encode()).decode()
    lines = [
        line("application/json", '{"inputs": "abc"}', answer),
        line("application/json", '{"inputs": ["ab", "c"]}', both),
        line("application/json", json.dumps(chat), '{"choices": []}'),
        line("application/jsonlines", '{"inputs": "abcd"}\n{"inputs": "x"}',
             '{"label": "good"}\n{"label": "bad"}'),
        line("application/json", encoded, packed, "BASE64"),
        line("application/json", '{"inputs": "abc"}', top),
        line("application/json", '{"inputs": "abc", "parameters": {"top_k": 2}}', both),
        line("text/csv", 'text\n"a, b"\ncd\n', "good\nbad\n", "CSV"),
        "not json at all",
        '{"captureData": null}',
    ]  # fmt: skip
    requests = captured.read_captured(lines)
    assert requests.lengths == [3, 2, 1, 5, 4, 1, 7, 3, 3, 4, 2]
    assert requests.labels == {"good": 5, "bad": 5}


def test_training_rows_of_every_method() -> None:
    rows: list[dict[str, Any]] = [
        {"text": "abc", "label": "good"},
        {"prompt": "ab", "completion": "x"},
        {"messages": [{"role": "user", "content": "hello"}]},
        {"prompt": "a", "label": True},  # KTO's label is none that a model answers with
        {"other": 1},
    ]
    training = captured.read_training(rows)
    assert training.lengths == [3, 2, 5, 1]
    assert training.labels == {"good": 1}


def test_the_report_holds_everything(tmp_path: Path) -> None:
    labels = drift.compare_labels({"<b>": 100}, {"<b>": 60, "odd": 40}, 0.2)
    assert labels is not None
    path = tmp_path / "new" / "report.html"
    write_monitoring("mine", [series(), VariantSeries("idle")], [labels], ["too slow"], path,
                     source="CloudWatch", limits=Monitoring(latency_p99_ms=150))  # fmt: skip
    text = path.read_text()
    assert "Shares of training set and requests. &lt;b&gt; 100.0%, 60.0%; odd 0.0%, 40.0%" in text
    for phrase in ("too slow", "drift of the label", "Model latency", "No metrics yet", "&lt;b&gt;",
                  "<svg", "60.0%"):  # fmt: skip
        assert phrase in text
    assert "<b>" not in text
    assert "http://" not in text
    assert "Overhead latency" not in text
    assert "limit of p99: 150" in text
    assert "limit of memory: 90" in text


def test_drift_that_cannot_be_measured_is_refused_before_the_watching(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def captures_nothing(*_: object) -> None:
        raise UserInputError("the endpoint keeps no requests to compare")

    monkeypatch.setattr("sm_launch.hosting.endpoints.require_meant", lambda *_: "mine")
    monkeypatch.setattr(captured, "comparison", captures_nothing)
    context: Any = None
    with pytest.raises(UserInputError, match="keeps no requests"):
        monitor(context, drift=True, show=pytest.fail)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(width=100).print(view("mine", [series(), VariantSeries("idle")]))
    out = capsys.readouterr().out
    assert "mine / AllTraffic" in out
    assert "500" in out
    assert "no metrics yet" in out


def test_rates_are_metric_math_on_aws_and_counted_here() -> None:
    asked = {query["Id"]: query for query in queries("mine", "AllTraffic", 300)}
    for key in ("throughput", "error_rate"):
        names = set(re.findall(r"\b[a-z_0-9]+\b", asked[key]["Expression"])) - {"0", "100"}
        assert names <= asked.keys() and asked[key]["Period"] == 300
        assert "MetricStat" not in asked[key]
    source = local_metrics.LocalSource(None, "mine", [])  # type: ignore[arg-type]
    now = datetime(2030, 1, 1, tzinfo=UTC)
    counts = {"invocations": 30.0, "errors_5xx": 3.0}
    assert source._rates(counts, now) == {"error_rate": 10.0}  # since when, nobody knows
    source._looked = now - timedelta(seconds=10)
    assert source._rates(counts, now) == {"error_rate": 10.0, "throughput": 3.0}
    assert source._rates({"invocations": 0.0, "errors_5xx": 0.0}, now)["error_rate"] == 0.0
