"""Scores become classes by thresholds of one's own, which held-out rows can settle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_train.errors import UserError
from sm_train.results.metrics import classification_scores, confusion_matrix
from sm_train.results.thresholds import (
    Thresholds,
    asked_thresholds,
    best_threshold,
    check_threshold,
    check_thresholds_fit,
)

LABELS = ["a", "b", "c"]
COLUMN = st.lists(
    st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=15
)
ROWS = st.lists(
    st.tuples(st.tuples(*[st.floats(-4, 4)] * 3), st.integers(0, 2)), min_size=2, max_size=14
)


def logits(*probabilities: float) -> np.ndarray:
    return np.log(np.array([probabilities]))


@pytest.mark.parametrize(
    ("asked", "labels", "scores", "chosen"),
    [
        ({"rare": 0.3}, ["rare", "usual"], (0.31, 0.69), "rare"),
        ({"rare": 0.3}, ["rare", "usual"], (0.29, 0.71), "usual"),
        ({"usual": 0.7}, ["rare", "usual"], (0.31, 0.69), "rare"),
        ({"rare": 0.3, "usual": 0.3}, ["rare", "usual"], (0.31, 0.69), "usual"),
        ({"a": 0.1}, LABELS, (0.12, 0.5, 0.38), "a"),  # 1.2 by 1.11
        ({"a": 0.1}, LABELS, (0.10, 0.5, 0.40), "b"),
        ({0: 0.1}, LABELS, (0.12, 0.5, 0.38), "a"),  # the class's number
        (None, LABELS, (0.3, 0.3, 0.4), "c"),
    ],
)
def test_one_class_is_chosen_by_its_threshold(
    asked: Any, labels: list[str], scores: tuple[float, ...], chosen: str
) -> None:
    made = asked_thresholds(asked, labels, several=False)
    assert labels[int(made.decide(logits(*scores))[0])] == chosen


@pytest.mark.parametrize(
    ("asked", "given", "told"),
    [
        (None, [False, True, True], 0.5),
        (0.3, [True, True, True], 0.3),
        ({"b": 0.8}, [False, False, True], {"a": 0.5, "b": 0.8, "c": 0.5}),
        ({"a": 0, "c": 1}, [True, True, False], {"a": 0, "b": 0.5, "c": 1}),
    ],
)
def test_several_labels_have_a_threshold_each(asked: Any, given: list[bool], told: Any) -> None:
    made = asked_thresholds(asked, LABELS, several=True)
    odds = np.array([0.3, 0.7, 0.99])
    assert made.decide(np.log(odds / (1 - odds))[None]).tolist() == [given]
    assert made.told == told


@given(COLUMN)
def test_a_label_s_best_threshold_has_the_best_f1(column: list[tuple[float, bool]]) -> None:
    from sklearn.metrics import f1_score

    scores, expected = zip(*column, strict=True)

    def f1(threshold: float) -> float:
        predicted = [score >= threshold for score in scores]
        return float(f1_score(expected, predicted, zero_division=0))

    chosen = best_threshold(scores, expected)
    best = max(f1(threshold) for threshold in {*scores, 0.5})
    assert f1(chosen) == pytest.approx(best)
    if f1(0.5) == pytest.approx(best) or not any(expected):
        assert chosen == 0.5


@settings(deadline=None)
@given(ROWS)
def test_tuned_classes_are_never_worse_than_the_largest_score(rows: list[Any]) -> None:
    values = np.array([row for row, _ in rows])
    expected = np.array([label for _, label in rows])

    def f1(made: Thresholds) -> float:
        chosen = [int(index) for index in made.decide(values)]
        return classification_scores(confusion_matrix(expected.tolist(), chosen, 3))["f1"]

    plain = Thresholds(LABELS, several=False)
    tuned = Thresholds(LABELS, several=False)
    tuned.tune(values, expected)
    if tuned.values is None:
        assert tuned.told is None
        return
    assert sum(tuned.values) == pytest.approx(1)
    assert f1(tuned) > f1(plain)


def test_a_rare_class_is_found_by_tuning() -> None:
    rng = np.random.default_rng(1)
    expected = np.array([0] * 90 + [1] * 8 + [2] * 12)
    scores = rng.dirichlet((6, 1, 1), len(expected))
    scores[expected == 1, 1] += 0.25  # more than other rows have, less than class 0 has
    scores[expected == 2, 2] += 0.25
    made = Thresholds(LABELS, several=False)
    made.tune(np.log(scores), expected)
    chosen = made.decide(np.log(scores))
    before = classification_scores(
        confusion_matrix(expected.tolist(), scores.argmax(axis=1).tolist(), 3)
    )["f1"]
    after = classification_scores(confusion_matrix(expected.tolist(), chosen.tolist(), 3))["f1"]
    # As good as the best of a grid over all thresholds.
    grid = np.linspace(0.02, 0.98, 40)
    best = max(
        classification_scores(
            confusion_matrix(
                expected.tolist(), (scores / [1 - b - c, b, c]).argmax(axis=1).tolist(), 3
            )
        )["f1"]
        for b, c in itertools.product(grid, grid)
        if b + c < 1
    )
    assert after > before
    assert after >= best - 0.02


@pytest.mark.parametrize(
    ("asked", "several", "regression", "why"),
    [
        (0.3, False, False, "learns one class"),
        (0.3, False, True, "no classes"),
        ("often", True, False, "no number, mapping or tuned"),
        (1.5, True, False, "from 0 to 1"),
        ({}, True, False, "from 0 to 1"),
        ({"a": 0}, False, False, "above 0"),
        ({"a": "half"}, True, False, "from 0 to 1"),
        ({"a": True}, True, False, "from 0 to 1"),
    ],
)
def test_what_is_no_threshold_is_refused(
    asked: Any, several: bool, regression: bool, why: str
) -> None:
    with pytest.raises(UserError, match=why):
        check_threshold(asked, several=several, regression=regression)


@pytest.mark.parametrize(
    ("asked", "validates", "why"),
    [
        ("tuned", False, "no validation channel"),
        ({"d": 0.3}, True, "no class: d"),
        ({"a": 0.6, "b": 0.5}, True, "leaves nothing of 1"),
    ],
)
def test_thresholds_that_fit_no_class_are_refused(asked: Any, validates: bool, why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_thresholds_fit(asked, LABELS, several=False, validates=validates)
