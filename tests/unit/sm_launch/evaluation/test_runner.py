from __future__ import annotations

import time
from pathlib import Path

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation import (
    EvaluationFailedError,
    EvaluationPlan,
    LatencyPlan,
    PredictionStore,
    RetryPolicy,
    evaluate_endpoint,
    make_task,
    read_predictions,
)

QUICK = {"latency": LatencyPlan(requests=0), "retry": RetryPolicy(attempts=3, base_s=0.001)}


def rows(count: int, truth: str = "positive") -> list[dict[str, object]]:
    return [{"text": f"positive thing {i}", "label": truth} for i in range(count)]


@pytest.mark.slow
def test_measures_quality_latency_and_throughput(endpoint):
    data = [*rows(6), *rows(2, "negative"), {"text": "neutral", "label": "neutral"}]
    plan = LatencyPlan(warmup=1, requests=4)
    result = evaluate_endpoint(
        endpoint, data, EvaluationPlan(batch_size=4, concurrency=2, latency=plan)
    )
    assert result.metrics.summary["accuracy"] == pytest.approx(7 / 9)
    assert result.metrics.labels == ("negative", "neutral", "positive")
    assert result.metrics.confusion == ((0, 0, 2), (0, 1, 0), (0, 0, 6))
    assert result.latency.count == 4
    assert result.throughput.requests == 3
    assert [p.index for p in result.predictions] == list(range(9))
    assert result.predictions[0].confidence == 0.8
    assert endpoint.batch_sizes[:6] == [4] + [1] * 5  # a first look, then latency
    assert sorted(endpoint.batch_sizes[6:]) == [1, 4, 4]


@pytest.mark.slow
def test_a_refused_batch_is_halved_until_the_bad_row_is_found(endpoint):
    data = rows(16)
    data[5]["text"] = "positive poison"
    result = evaluate_endpoint(
        endpoint, data, EvaluationPlan(batch_size=16, max_failed_share=0.1, **QUICK)
    )
    (failure,) = result.failures
    assert (failure.index, failure.status) == (5, 400)
    assert failure.reason == "HTTP 400: poison is not served"
    assert len(result.predictions) == 15


def test_incomplete_rows_are_reported_and_not_sent(endpoint):
    data = [
        *rows(3),
        {"text": " ", "label": "positive"},
        {"text": "x", "label": None},
        {"text": "y", "label": float("nan")},
    ]
    result = evaluate_endpoint(endpoint, data, EvaluationPlan(max_failed_share=0.5, **QUICK))
    assert [(f.index, f.reason) for f in result.failures] == [
        (3, "no text in column 'text'"),
        (4, "no label in column 'label'"),
        (5, "no label in column 'label'"),
    ]
    assert result.failed_share == 0.5
    assert result.to_dict()["rows"] == {
        "total": 6,
        "evaluated": 3,
        "failed": 3,
        "failed_share": 0.5,
    }


def test_busy_answers_are_repeated(endpoint):
    endpoint.failures = [429, 503]
    result = evaluate_endpoint(endpoint, rows(4), EvaluationPlan(batch_size=4, **QUICK))
    assert (len(result.predictions), result.retries) == (4, 2)


@pytest.mark.slow
def test_too_many_failures_stop_the_evaluation_and_keep_what_was_found(endpoint):
    endpoint.failures = [503] * 1000
    with pytest.raises(EvaluationFailedError, match="try again") as caught:
        evaluate_endpoint(endpoint, rows(400), EvaluationPlan(batch_size=4, concurrency=1, **QUICK))
    assert 4 <= len(caught.value.result.failures) < 40
    again = caught.value.with_fix("other")  # as the command line does where a target is named
    assert (again.fix, again.result) == ("other", caught.value.result)
    assert str(again).endswith("fix: other")
    assert endpoint.requests < 100


def test_a_dead_endpoint_is_named_as_such(endpoint):
    endpoint.url = "http://127.0.0.1:9/invocations"
    with pytest.raises(EvaluationFailedError, match=r"no answer: .*refused"):
        evaluate_endpoint(endpoint, rows(2), EvaluationPlan(**QUICK))


def test_labels_that_the_model_does_not_know(endpoint):
    with pytest.raises(UserInputError, match="answers negative, neutral, positive"):
        evaluate_endpoint(endpoint, rows(2, "1"), EvaluationPlan(**QUICK))
    result = evaluate_endpoint(endpoint, [*rows(3), *rows(1, "joy")], EvaluationPlan(**QUICK))
    assert "'joy'" in result.warnings[0]
    assert result.metrics.summary["accuracy"] == 0.75


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"concurrency": 0}, "concurrency"),
        ({"max_failed_share": 5}, "max_failed_share"),
        ({"task": make_task("text-classification", text_column="body")}, "text_column"),
    ],
)
def test_wrong_settings_name_the_field(endpoint, settings, field):
    with pytest.raises(UserInputError) as caught:
        evaluate_endpoint(endpoint, rows(2), EvaluationPlan(**settings))
    assert caught.value.field == field
    assert endpoint.requests == 0


@pytest.mark.slow
def test_an_interrupted_evaluation_continues(endpoint, tmp_path: Path):
    data = rows(20)
    path = tmp_path / "predictions.jsonl"
    partial_path = tmp_path / "predictions.jsonl.partial"

    def interrupted(body, content_type, accept):
        if endpoint.requests < 4:
            return endpoint(body, content_type, accept)
        while len(partial_path.read_text().splitlines()) < 1 + 6:  # a header, then predictions
            time.sleep(0.01)
        raise KeyboardInterrupt

    def run(invoke):
        return evaluate_endpoint(
            invoke,
            data,
            EvaluationPlan(batch_size=2, concurrency=1, store=PredictionStore(path, "e"), **QUICK),
        )

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    assert not path.exists()
    with partial_path.open("a") as partial:
        partial.write('{"index": 19, "te')  # what a kill in the middle of a write leaves
    before = endpoint.requests
    result = run(endpoint)
    assert endpoint.requests - before == 8  # a first look; 3 of 10 batches were answered before
    assert "6 predictions come from an earlier" in result.warnings[0]
    assert [p.index for p in read_predictions(path)] == list(range(20))
    assert list(tmp_path.iterdir()) == [path]


def test_another_endpoint_does_not_continue(endpoint, tmp_path: Path):
    path = tmp_path / "p.jsonl"
    partial = tmp_path / "p.jsonl.partial"
    partial.write_text('{"fingerprint": "of another endpoint"}\n{"index": 0}\n')
    evaluate_endpoint(endpoint, rows(4), EvaluationPlan(store=PredictionStore(path, "e"), **QUICK))
    assert sum(endpoint.batch_sizes) == 4 + 4  # a first look, and all rows
