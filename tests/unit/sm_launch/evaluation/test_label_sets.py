"""Several labels a text: measured as scikit-learn does, asked with all scores, one threshold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_launch.errors import UserInputError
from sm_launch.evaluation import Prediction, compare, make_task
from sm_launch.evaluation.examples import collect_examples
from sm_launch.evaluation.measure import measure
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.tasks.multi_label import written

LABELS = ["fish", "meat", "sweet"]
SETS = st.lists(st.sets(st.sampled_from(LABELS)), min_size=2, max_size=15)


def task(**settings: Any) -> Task:
    return make_task("multi-label-classification", known_labels=LABELS, **settings)


def predictions(golds: list[set[str]], given: list[set[str]]) -> list[Prediction]:
    scores = [{label: 0.9 if label in each else 0.1 for label in LABELS} for each in given]
    made = task()
    return [
        made.score(Prediction(at, f"text {at}", written(gold), written(answer), scores[at]))
        for at, (gold, answer) in enumerate(zip(golds, given, strict=True))
    ]


@pytest.mark.slow
@settings(deadline=None)  # the first call imports scikit-learn
@given(st.lists(st.tuples(st.sets(st.sampled_from(LABELS)), st.sets(st.sampled_from(LABELS))),
                min_size=1, max_size=15), st.data())  # fmt: skip
def test_metrics_are_scikit_learn_s_on_any_sample(
    pairs: list[tuple[set[str], set[str]]], data: st.DataObject
) -> None:
    from sklearn import metrics

    made = predictions([gold for gold, _ in pairs], [answer for _, answer in pairs])
    drawn = st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=20)
    rows = np.array(data.draw(drawn))
    measured = task().statistic(made)(rows)
    expected, predicted = (
        np.array([[label in pairs[row][side] for label in LABELS] for row in rows])
        for side in (0, 1)
    )
    for average in ("micro", "macro", "samples"):
        scores = metrics.precision_recall_fscore_support(
            expected, predicted, average=average, zero_division=0
        )
        names = [f"{name}_{average}" for name in ("precision", "recall", "f1")]
        assert [measured[name] for name in names] == pytest.approx(scores[:3]), average
    assert measured["subset_accuracy"] == pytest.approx(metrics.accuracy_score(expected, predicted))
    assert measured["hamming_loss"] == pytest.approx(metrics.hamming_loss(expected, predicted))


def test_the_threshold_decides_and_is_not_sent() -> None:
    made = task(parameters={"threshold": 0.3, "truncation": True})
    (example,), _ = collect_examples([{"text": "soup", "label": [2, "fish"]}], made)
    assert example.gold == '["fish", "sweet"]'
    sent = json.loads(made.encode([example]))["parameters"]
    assert sent == {"top_k": None, "function_to_apply": "sigmoid", "truncation": True}
    answer = [
        {"label": label, "score": score}
        for label, score in zip(LABELS, (0.3, 0.29, 0.9), strict=True)
    ]
    prediction = made.predict(example, answer)
    assert prediction.predicted == '["fish", "sweet"]'
    assert prediction.correct
    assert prediction.scores == dict(zip(LABELS, (0.3, 0.29, 0.9), strict=True))
    assert made.identity() != task(parameters={"truncation": True}).identity()
    with pytest.raises(UserInputError, match="number from 0 to 1"):
        task(parameters={"threshold": 30})


def test_rows_that_are_no_lists_fail_with_their_reason() -> None:
    rows = [
        {"text": "a", "label": []},
        {"text": "b", "label": '["meat"]'},
        {"text": "c", "label": "meat|fish"},
        {"text": "d", "label": None},
        {"text": "e", "label": ["meat", None]},
    ]
    examples, failures = collect_examples(rows, task())
    assert [example.gold for example in examples] == ["[]", '["meat"]']
    assert [failure.index for failure in failures] == [2, 3, 4]
    assert 'such as ["a", "b"]' in failures[0].reason
    _, failures = collect_examples(rows[:2], make_task("text-classification"))
    assert all("multi-label-classification" in failure.reason for failure in failures)


def test_every_share_has_an_interval_and_rare_labels_are_named() -> None:
    golds = [{"fish"}, {"fish", "meat"}, set(), {"meat"}] * 15 + [{"sweet"}]
    given = [{"fish"}, {"fish"}, set(), {"meat", "fish"}] * 15 + [set()]
    measured = measure(task(), predictions(golds, given))
    assert measured.metrics is not None
    assert measured.metrics.summary.keys() == measured.intervals.keys()
    for name, value in measured.metrics.summary.items():
        assert 0 <= measured.intervals[name].low <= value <= measured.intervals[name].high <= 1, (
            name
        )
    assert [(c.label, c.support, c.predicted) for c in measured.metrics.per_class] == [
        ("fish", 30, 45), ("meat", 30, 15), ("sweet", 1, 0),
    ]  # fmt: skip
    assert any("'sweet' 1" in warning for warning in measured.warnings)


def test_two_models_are_compared_row_by_row() -> None:
    golds = [{"fish"}, {"fish", "meat"}, set(), {"sweet"}] * 10
    good = predictions(golds, golds)
    poor = predictions(golds, [{"fish"}] * 40)
    comparison = compare(poor, good, make_task("multi-label-classification"), resamples=200)
    differences = {m.metric: m for m in comparison.metrics}
    assert differences["subset_accuracy"].difference == pytest.approx(0.75)
    assert differences["hamming_loss"].improved
    assert differences["f1_micro"].significant
    assert (comparison.mcnemar.only_second, comparison.mcnemar.only_first) == (30, 0)
