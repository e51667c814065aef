"""An evaluation decides as training did: by the thresholds that stand in the artefact."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sm_launch.errors import UserInputError
from sm_launch.evaluation import make_task
from sm_launch.evaluation.examples import collect_examples
from sm_launch.evaluation.task import Task

LABELS = ["rare", "some", "usual"]


def task(name: str = "text-classification", **settings: Any) -> Task:
    return make_task(name, **{"known_labels": LABELS, **settings})


def answer(*scores: float) -> list[dict[str, Any]]:
    return [{"label": each, "score": s} for each, s in zip(LABELS, scores, strict=False)]


def test_a_rare_class_wins_below_the_largest_score_and_the_server_is_asked_for_all() -> None:
    made = task(parameters={"threshold": {"rare": 0.1}, "truncation": True})
    (example,), _ = collect_examples([{"text": "soup", "label": "rare"}], made)
    sent = json.loads(made.encode([example]))["parameters"]
    assert sent == {"top_k": None, "truncation": True}
    assert made.predict(example, answer(0.12, 0.38, 0.5)).predicted == "rare"
    assert made.predict(example, answer(0.11, 0.38, 0.51)).predicted == "usual"
    assert made.predict(example, answer(0.12, 0.38, 0.5)).confidence == 0.12
    assert made.as_label(answer(0.12, 0.38, 0.5)) == "rare"
    # What the server chose by itself stays.
    assert made.as_label({"label": "usual", "score": 0.5}) == "usual"
    assert made.identity() != task(parameters={"truncation": True}).identity()


def test_several_labels_have_a_threshold_each() -> None:
    made = task("multi-label-classification", parameters={"threshold": {"rare": 0.1, "some": 0.9}})
    assert made.as_label(answer(0.1, 0.89, 0.5)) == ["rare", "usual"]


@pytest.mark.parametrize(
    ("name", "threshold", "why"),
    [
        ("text-classification", 0.3, "one number"),
        ("text-classification", {}, "one number"),
        ("text-classification", {"rare": 0}, "above 0"),
        ("text-classification", {"rare": "few"}, "above 0"),
        ("text-classification", {"seldom": 0.3}, "no label of the model: seldom"),
        ("text-classification", {"rare": 0.6, "some": 0.4}, "leaves nothing of 1"),
        ("multi-label-classification", {"seldom": 0.3}, "no label of the model: seldom"),
        ("multi-label-classification", "tuned", "from 0 to 1"),
    ],
)
def test_what_is_no_threshold_is_refused(name: str, threshold: Any, why: str) -> None:
    with pytest.raises(UserInputError, match=why):
        task(name, parameters={"threshold": threshold})


def test_labels_that_only_the_answers_tell_are_checked_by_them() -> None:
    made = task(known_labels=(), parameters={"threshold": {"seldom": 0.3}})
    with pytest.raises(UserInputError, match="its labels are rare, some, usual"):
        made.check_first([answer(0.1, 0.4, 0.5)], {"rare"})
