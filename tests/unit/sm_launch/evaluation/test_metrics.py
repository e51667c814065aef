"""Values worked out by hand, so that a swapped axis or average shows."""

from __future__ import annotations

import pytest

from sm_launch.errors import QualityGateError, UserInputError
from sm_launch.evaluation import (
    EvaluationResult,
    Prediction,
    check_gates,
    parse_gates,
    require_gates,
)
from sm_launch.evaluation.latency import latency_stats
from sm_launch.evaluation.metrics import classification_metrics
from sm_launch.evaluation.summary import render_summary


def predictions(pairs: str, scored: bool = True) -> list[Prediction]:
    """`"aa ab"`: a row of label a predicted as a, and one predicted as b."""
    made = []
    for i, (gold, predicted) in enumerate(pairs.split()):
        scores = {label: 0.9 if label == predicted else 0.1 for label in "ab"}
        made.append(Prediction(i, f"text {i}", gold, predicted, scores if scored else {}))
    return made


def result(pairs: str) -> EvaluationResult:
    rows = predictions(pairs)
    metrics = classification_metrics(rows)
    return EvaluationResult(
        len(rows), tuple(rows), (), metrics, None, None, 0, "2026-01-01T00:00:00+00:00", 1.0
    )


def test_two_classes_by_hand():
    metrics = classification_metrics(predictions("aa aa aa ab bb ba"))
    a, b = metrics.per_class
    assert (a.precision, a.recall, a.support, a.predicted) == (0.75, 0.75, 4, 4)
    assert (b.precision, b.recall, b.f1) == (0.5, 0.5, 0.5)
    assert metrics.summary["accuracy"] == pytest.approx(4 / 6)
    assert metrics.summary["f1_macro"] == pytest.approx(0.625)
    assert metrics.summary["f1_weighted"] == pytest.approx((4 * 0.75 + 2 * 0.5) / 6)
    assert metrics.summary["roc_auc_macro"] == pytest.approx(0.625)
    assert metrics.confusion == ((3, 1), (1, 1))


def test_no_scores_no_area():
    metrics = classification_metrics(predictions("aa bb", scored=False))
    assert "roc_auc_macro" not in metrics.summary
    assert [entry.roc_auc for entry in metrics.per_class] == [None, None]


def test_a_label_without_rows_is_listed_but_not_averaged():
    metrics = classification_metrics(predictions("aa bb"), labels=["z", "a"])
    assert metrics.labels == ("z", "a", "b")
    assert metrics.per_class[0].support == 0
    assert metrics.summary["f1_macro"] == 1.0


def test_gates_pass_fail_and_explain():
    measured = result("aa aa aa ab bb ba")
    outcomes = check_gates(measured, parse_gates(["f1=0.5", "recall[b]=0.6"]))
    assert [outcome.passed for outcome in outcomes] == [True, False]
    require_gates(outcomes[:1], measured)
    with pytest.raises(QualityGateError, match=r"recall\[b\] = 0.5000 < 0.6"):
        require_gates(outcomes, measured)
    with pytest.raises(UserInputError, match="did you mean accuracy"):
        check_gates(measured, {"acuracy": 0.5})


@pytest.mark.parametrize("text", ["f1", "f1=high", "=0.3", "f1=nan"])
def test_a_gate_that_cannot_be_read(text):
    with pytest.raises(UserInputError, match=r"f1=0.85"):
        parse_gates([text])


def test_percentiles_agree_with_numpy():
    import numpy as np

    samples = [0.001 * x**2 for x in range(1, 38)]
    stats = latency_stats(samples)
    expected = np.percentile([1000 * s for s in samples], [50, 90, 95, 99])
    assert [stats.p50_ms, stats.p90_ms, stats.p95_ms, stats.p99_ms] == pytest.approx(list(expected))
    assert latency_stats([]) is None


def test_the_summary_shows_metrics_and_gates():
    import io

    from rich.console import Console

    outcome = result("aa aa ab bb")
    stream = io.StringIO()
    Console(file=stream, width=100).print(
        render_summary(outcome, check_gates(outcome, {"accuracy": 0.9}))
    )
    text = stream.getvalue()
    assert "0.7500" in text
    assert "accuracy = 0.7500 < 0.9: failed" in text
