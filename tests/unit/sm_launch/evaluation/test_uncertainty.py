"""Intervals, calibration, slices and comparisons, against values that can be worked out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from sm_launch.errors import QualityGateError, UserInputError
from sm_launch.evaluation import (
    EvaluationPlan,
    Prediction,
    check_gates,
    compare,
    evaluate_endpoint,
    make_task,
)
from sm_launch.evaluation.calibration import brier_score, calibrate, expected_calibration_error
from sm_launch.evaluation.intervals import confidence_intervals
from sm_launch.evaluation.job.compare import require_not_worse
from sm_launch.evaluation.latency import LatencyPlan
from sm_launch.evaluation.measure import measure
from sm_launch.evaluation.metrics import classification_metrics, classification_statistic
from sm_launch.evaluation.report.comparison import verdict
from sm_launch.evaluation.wire import InvokeReply

CLASSIFY = make_task("text-classification")


def some(rows: int, accuracy: float, seed: int = 1, labels: str = "abc") -> list[Prediction]:
    chance = random.Random(seed)
    predictions = []
    for index in range(rows):
        gold = labels[index % len(labels)]
        right = chance.random() < accuracy
        predicted = gold if right else chance.choice([x for x in labels if x != gold])
        predictions.append(Prediction(index, f"text {index}", gold, predicted))
    return predictions


def test_the_quick_statistic_says_what_scikit_learn_says():
    predictions = some(200, 0.7)
    quick = classification_statistic(predictions)(np.arange(len(predictions)))
    exact = classification_metrics(predictions).summary
    assert quick == pytest.approx({name: exact[name] for name in quick})
    part = np.arange(50)
    again = classification_metrics([predictions[i] for i in part]).summary
    assert classification_statistic(predictions)(part) == pytest.approx(
        {n: again[n] for n in quick}
    )


def test_scores_are_resampled_as_scikit_learn_would_measure_them():
    chance = random.Random(5)
    predictions = []
    for p in some(300, 0.6):
        weights = {label: chance.random() + 2 * (label == p.predicted) for label in "abc"}
        total = sum(weights.values())
        # Rounded, so that scores tie.
        scores = {label: round(weight / total, 1) for label, weight in weights.items()}
        predictions.append(Prediction(p.index, p.text, p.gold, p.predicted, scores))
    quick, exact = (
        classification_statistic(predictions),
        classification_metrics(predictions).summary,
    )
    assert set(quick(np.arange(300))) == set(exact) - {"ece_debiased"}
    for sample in (np.arange(300), np.random.default_rng(1).integers(0, 300, 300)):
        inside = classification_metrics([predictions[i] for i in sample]).summary
        del inside["ece_debiased"]
        assert quick(sample) == pytest.approx(inside)
    intervals = confidence_intervals(CLASSIFY, predictions)
    for name in ("roc_auc_macro", "brier"):
        assert intervals[name].low < exact[name] < intervals[name].high
    one_label = classification_statistic([f for f in predictions if f.gold == "a"])
    assert "roc_auc_macro" not in one_label(np.arange(100))


@pytest.mark.slow
def test_a_lower_perplexity_is_an_improvement():
    tokens = [
        "the",
        "plot",
        "of",
        "this",
        "film",
        "is",
        "thin",
        "but",
        "its",
        "music",
        "is",
        "grand",
    ]
    chance = random.Random(2)
    sure = {"exact_match": 1.0, "log_likelihood": -8.0, "answer_tokens": 8.0}
    unsure = {"exact_match": 0.0, "log_likelihood": -40.0, "answer_tokens": 8.0}
    rows = []
    for index in range(60):
        gold = " ".join(chance.sample(tokens, 8))
        half = gold[: len(gold) // 2]
        rows.append(
            (
                Prediction(index, "", gold, gold, values=sure),
                Prediction(index, "", gold, half, values=unsure),
            )
        )
    good, bad = zip(*rows, strict=True)
    task = make_task("text-generation")
    metrics = {m.metric: m for m in compare(good, bad, task).metrics}
    assert {"bleu", "chrf", "loss", "perplexity"} <= set(metrics)
    assert all(m.significant and not m.improved for m in metrics.values())
    again = compare(bad, good, task)
    assert all(m.improved for m in again.metrics)
    assert "significantly better in" in verdict(again)
    assert "worse" not in verdict(again)
    require_not_worse(again, ["perplexity"])
    with pytest.raises(QualityGateError, match="perplexity"):
        require_not_worse(compare(good, bad, task), ["perplexity"])


def scored(gold: str, confidence: float) -> Prediction:
    return Prediction(0, "", gold, "a", {"a": confidence, "b": 1 - confidence})


def test_calibration_by_hand():
    predictions = (
        [scored("a", 0.95)] * 3 + [scored("b", 0.95)] + [scored("a", 0.65), scored("b", 0.65)]
    )
    bins = calibrate(predictions)
    assert [(b.rows, round(b.confidence, 2), b.accuracy) for b in bins] == [
        (2, 0.65, 0.5),
        (4, 0.95, 0.75),
    ]
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.15 + 4 * 0.2) / 6)
    assert brier_score([scored("a", 1.0), scored("b", 1.0)]) == pytest.approx(1.0)
    assert calibrate([Prediction(0, "", "a", "a")]) == ()


def test_slices_and_their_gates():
    def invoke(body, content_type, accept):
        texts = json.loads(body)["inputs"]
        return InvokeReply(
            200, json.dumps([[{"label": t[0], "score": 0.9}] for t in texts]).encode()
        )

    rows = [
        {"text": f"{'a' if n % 2 else 'b'}{n}", "label": "a", "lang": "de" if n % 2 else "en"}
        for n in range(20)
    ] + [{"text": "b", "label": "b", "lang": None}]
    result = evaluate_endpoint(
        invoke, rows, EvaluationPlan(slices=["lang"], latency=LatencyPlan(requests=0))
    )
    parts = {part.value: part for part in result.slices}
    assert {value: part.rows for value, part in parts.items()} == {"de": 10, "en": 10, "(none)": 1}
    assert parts["de"].metrics["accuracy"] == 1
    assert parts["en"].metrics["accuracy"] == 0
    low, high = check_gates(result, {"accuracy[lang=de]": 0.9}, {"accuracy[lang=en]": 0.1})
    assert low.passed
    assert high.passed
    assert high.at_most
    assert not check_gates(result, {}, {"accuracy": 0.1})[0].passed
    with pytest.raises(UserInputError, match="no row has this column"):
        evaluate_endpoint(
            invoke, rows, EvaluationPlan(slices=["langage"], latency=LatencyPlan(requests=0))
        )


@pytest.mark.slow
def test_a_clear_and_an_unclear_difference():
    good, bad = some(300, 0.9, seed=1), some(300, 0.6, seed=2)
    comparison = compare(bad, good, CLASSIFY, names=("old", "new"))
    accuracy = {m.metric: m for m in comparison.metrics}["accuracy"]
    assert accuracy.significant
    assert accuracy.interval.low > 0
    assert accuracy.second - accuracy.first == pytest.approx(accuracy.difference)
    test = comparison.mcnemar
    assert test.both + test.only_first + test.only_second + test.neither == 300
    assert test.p_value < 0.001
    assert len(comparison.won) == test.only_second
    same = compare(good, good, CLASSIFY)
    assert not any(m.significant for m in same.metrics)
    assert same.mcnemar.p_value == 1.0


def test_mcnemar_is_the_exact_test():
    first = [Prediction(i, "t", "a", "a" if i < 8 else "b") for i in range(10)]
    second = [Prediction(i, "t", "a", "a" if i in (0, 8) else "b") for i in range(10)]
    test = compare(first, second, CLASSIFY).mcnemar
    assert (test.only_first, test.only_second) == (7, 1)
    # Two-sided binomial of 1 in 8: 2 * (1 + 8) / 256.
    assert test.p_value == pytest.approx(2 * 9 / 256)


def test_other_rows_are_not_compared():
    with pytest.raises(UserInputError, match="share 0 rows"):
        compare(some(10, 0.9), [Prediction(0, "other", "a", "a")] * 1, CLASSIFY)


@pytest.mark.slow
def test_comparison_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from sm_launch import cli
    from sm_launch.evaluation.store import write_predictions

    for name, accuracy in (("old", 0.9), ("new", 0.5)):
        directory = tmp_path / name
        write_predictions(directory / "predictions.jsonl", some(200, accuracy, seed=len(name)))
        (directory / "evaluation.json").write_text(
            '{"task": "text-classification", "rows": {"evaluated": 200}}'
        )
    old, new, out = (str(tmp_path / name) for name in ("old", "new", "out"))
    assert cli.run(["compare", old, new, "--output", out, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metrics"]["accuracy"]["significant"]
    assert cli.run(["compare", old, new, "--output", out, "--fail-if-worse", "accuracy"]) == 3
    shown = capsys.readouterr()
    assert "McNemar" in shown.out
    assert "is worse than" in shown.err
    html = (tmp_path / "out" / "comparison.html").read_text()
    assert "significantly worse in accuracy" in html
    assert cli.run(["compare", old, new, "--output", out, "--fail-if-worse", "acuracy"]) == 2


@pytest.mark.slow
def test_not_worse_passes():
    from sm_launch.evaluation.job.compare import require_not_worse

    comparison = compare(some(100, 0.5), some(100, 0.9), CLASSIFY)
    require_not_worse(comparison, ["accuracy"])
    with pytest.raises(QualityGateError):
        require_not_worse(compare(some(100, 0.9), some(100, 0.5), CLASSIFY), ["accuracy"])


def test_a_class_of_few_rows_is_named_with_what_it_can_say():
    predictions = [Prediction(i, "", "a", "a") for i in range(196)]
    predictions += [Prediction(196 + i, "", "rare", "rare" if i else "a") for i in range(4)]
    (warning,) = measure(CLASSIFY, predictions).warnings
    assert "fewer than 20 times" in warning
    assert "'rare' 4" in warning
    assert "0.75 of 'rare'" in warning
    assert measure(CLASSIFY, predictions[:196]).warnings == ()
