"""Intervals hold what they promise: how often they cover the true value, by enumeration and draws.

A share of 20 rows has 21 possible intervals: no rule covers 95 % within 2 points at every true
value (at 0.99 the choice is between 82 and 98 %, see the test). So the mean over true values must
be 95 % within 2 points, those above 97 % must be so for want of rows, and the least is what
docs/evaluation.md tells: 92 % up to 100 rows, 91.6 % of any number (that of a Poisson count).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sm_launch.evaluation import Prediction, compare, make_task
from sm_launch.evaluation.calibration import calibrate
from sm_launch.evaluation.calibration_error import debiased_error
from sm_launch.evaluation.intervals import confidence_intervals, share_interval
from sm_launch.evaluation.paired import holm

CLASSIFY = make_task("text-classification")
ANSWER = make_task("question-answering")


def coverage(rows: int, true: float) -> tuple[float, float]:
    """Of the interval of a share; and of the same without the least likely outcome it holds."""
    spread = 6 * (rows * true * (1 - true)) ** 0.5 + 2
    right = np.arange(max(0, int(true * rows - spread)), min(rows, int(true * rows + spread)) + 1)
    chance = binom.pmf(right, rows, true)
    intervals = [share_interval(x / rows, rows) for x in right]
    assert all(each.high - each.low > 0 for each in intervals)
    covers = np.array([each.low <= true <= each.high for each in intervals])
    return float(chance[covers].sum()), float(chance[covers].sum() - chance[covers].min())


@pytest.mark.slow
@pytest.mark.parametrize("rows", [20, 100, 1000])
def test_the_interval_of_a_share_covers(rows: int):
    trues = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99]
    shares = [coverage(rows, true) for true in trues]
    assert np.mean([covered for covered, _ in shares]) == pytest.approx(0.95, abs=0.02)
    assert min(covered for covered, _ in shares) >= 0.92
    if rows > 20:
        assert all(covered <= 0.97 or without < 0.95 for covered, without in shares)


@pytest.mark.parametrize(("rows", "least"), [(10, 0.92), (20, 0.92), (100, 0.92), (300, 0.916)])
def test_no_true_value_is_covered_less_than_the_docs_say(rows: int, least: float):
    """Coverage is least beside an end of one of the intervals."""
    right = np.arange(rows + 1)
    intervals = [share_interval(x / rows, rows) for x in right]
    low, high = np.array([i.low for i in intervals]), np.array([i.high for i in intervals])
    ends = np.concatenate([low, high])
    trues = np.concatenate([ends - 1e-9, ends + 1e-9, np.linspace(0.5, 0.99, 50)])
    trues = trues[(trues > 0) & (trues < 1)]
    chance = binom.pmf(right, rows, trues[:, None])
    covered = np.where((low <= trues[:, None]) & (trues[:, None] <= high), chance, 0).sum(axis=1)
    assert covered.min() >= least
    assert covered[-50:].mean() == pytest.approx(0.95, abs=0.02)


def test_no_rule_covers_95_percent_everywhere():
    """Whichever outcomes of 20 rows an interval takes for those of an accuracy of 0.99."""
    perfect, one_wrong, *others = binom.pmf(np.arange(20, -1, -1), 20, 0.99)
    assert sum(others) + one_wrong < 0.93  # without "all right"
    assert perfect + sum(others) < 0.93  # with it, without "one wrong"
    assert perfect + one_wrong > 0.97  # with both


def labelled(chance: np.random.Generator, rows: int, right: float, priors: list[float]):
    gold = chance.choice(len(priors), rows, p=priors)
    moved = chance.integers(1, len(priors), rows)
    predicted = np.where(chance.random(rows) < right, gold, (gold + moved) % len(priors))
    return [
        Prediction(i, "", f"{g}", f"{p}")
        for i, (g, p) in enumerate(zip(gold, predicted, strict=True))
    ]


def true_f1(right: float, priors: list[float]) -> float:
    k = len(priors)
    wrong = (1 - right) / (k - 1)
    named = [p * right + (1 - p) * wrong for p in priors]
    return sum(2 * p * right / (p + q) for p, q in zip(priors, named, strict=True)) / k


@pytest.mark.slow
@pytest.mark.parametrize("rows", [20, 100])
@pytest.mark.parametrize(("right", "priors"), [(0.95, [0.5, 0.5]), (0.8, [0.6, 0.3, 0.1])])
def test_the_interval_of_macro_f1_covers(rows: int, right: float, priors: list[float]):
    chance = np.random.default_rng(rows)
    true, repeats = true_f1(right, priors), 60
    hits = 0
    for _ in range(repeats):
        sample = labelled(chance, rows, right, priors)
        interval = confidence_intervals(CLASSIFY, sample, resamples=200)["f1_macro"]
        hits += interval.low <= true <= interval.high
    # Four standard errors of so many repeats.
    assert hits / repeats >= 0.95 - 4 * (0.95 * 0.05 / repeats) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("rows", [20, 100])
def test_the_interval_of_a_mean_covers(rows: int):
    """F1 of answers: most right, some wrong, few between."""
    chance = np.random.default_rng(rows)
    true, repeats, hits = 0.85 + 0.1 * 0.5, 80, 0
    for _ in range(repeats):
        kind = chance.random(rows)
        values = np.where(kind < 0.85, 1.0, np.where(kind < 0.95, chance.random(rows), 0.0))
        sample = [Prediction(i, "", "", "", values={"f1": v}) for i, v in enumerate(values)]
        interval = confidence_intervals(ANSWER, sample, resamples=200)["f1"]
        hits += interval.low <= true <= interval.high
    assert hits / repeats >= 0.95 - 4 * (0.95 * 0.05 / repeats) ** 0.5


def sure(chance: np.random.Generator, rows: int, honest: float) -> list[Prediction]:
    """Confidences from 0.5 to 1, right as often as they say, less `honest`."""
    predictions = []
    for i, confidence in enumerate(chance.uniform(0.5, 1, rows)):
        right = chance.random() < confidence - honest
        gold = "a" if right else "b"
        predictions.append(Prediction(i, "", gold, "a", {"a": confidence, "b": 1 - confidence}))
    return predictions


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "miss"), [(20, 0.0), (100, 0.0), (1000, 0.0), (100, 0.2)])
def test_the_interval_of_the_calibration_error_covers(rows: int, miss: float):
    chance = np.random.default_rng(rows)
    repeats = 60
    errors = [debiased_error(calibrate(sure(chance, rows, miss))) for _ in range(repeats)]
    hits = sum(each.interval.low <= miss + 1e-9 <= each.interval.high + 2e-9 for each in errors)
    assert hits / repeats >= 0.95 - 4 * (0.95 * 0.05 / repeats) ** 0.5
    # Without the correction a calibrated model of 100 rows shows 0.07.
    assert np.median([each.value for each in errors]) == pytest.approx(miss, abs=0.04)


def test_a_calibrated_model_may_be_perfect():
    task = CLASSIFY
    sample = sure(np.random.default_rng(3), 100, 0.0)
    summary = task.metrics(sample).summary
    assert summary["ece_debiased"] < summary["ece"]


@pytest.mark.slow
def test_equal_models_seldom_differ():
    """Two models of the same quality, eleven metrics: any significant one is a false alarm."""
    chance = np.random.default_rng(7)
    rows, repeats, alarms, single = 40, 60, 0, 0
    for _ in range(repeats):
        one = labelled(chance, rows, 0.85, [0.5, 0.3, 0.2])
        flip = labelled(chance, rows, 0.85, [0.5, 0.3, 0.2])
        other = [
            Prediction(p.index, "", p.gold, p.gold if q.correct else f"{(int(p.gold) + 1) % 3}")
            for p, q in zip(one, flip, strict=True)
        ]
        metrics = compare(one, other, CLASSIFY, resamples=200).metrics
        alarms += any(m.significant for m in metrics)
        single += next(m for m in metrics if m.metric == "f1_macro").p_value < 0.05
    # 5 % and three standard errors.
    assert alarms / repeats <= 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5
    assert single / repeats <= 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5


@pytest.mark.slow
def test_a_real_difference_is_found_and_corrected():
    chance = np.random.default_rng(1)
    one = labelled(chance, 200, 0.6, [0.5, 0.5])
    other = [Prediction(p.index, "", p.gold, p.gold) for p in one]
    metrics = compare(one, other, CLASSIFY).metrics
    assert all(m.significant and m.improved for m in metrics)
    assert all(m.p_adjusted >= m.p_value for m in metrics)
    for m in metrics:
        assert m.interval.low > 0


@pytest.mark.slow
def test_two_equal_models_have_an_interval_that_is_not_a_point():
    one = labelled(np.random.default_rng(1), 20, 0.9, [0.5, 0.5])
    for metric in compare(one, one, CLASSIFY).metrics:
        assert metric.p_value == 1
        assert metric.interval.low < 0 < metric.interval.high


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
