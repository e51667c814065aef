"""An evaluation in Model Monitor's words, and in a model card's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from sm_launch.evaluation import model_card, model_quality
from sm_launch.evaluation.metrics import classification_metrics
from sm_launch.evaluation.result import EvaluationResult, Interval, Prediction


def document(gold: list[str], predicted: list[str], **more: Any) -> dict[str, Any]:
    """evaluation.json of a classifier's answers."""
    rows = tuple(
        Prediction(index, "text", right, answer)
        for index, (right, answer) in enumerate(zip(gold, predicted, strict=True))
    )
    result = EvaluationResult(
        rows_total=len(rows), predictions=rows, failures=(),
        metrics=classification_metrics(rows, None), latency=None, throughput=None, retries=0,
        started_at="2026-11-30T03:17:15+00:00", duration_s=1.0,
        intervals={"accuracy": Interval(0.5, 0.9)},
    )  # fmt: skip
    return json.loads(json.dumps(result.to_dict() | more))  # type: ignore[no-any-return]


pytestmark = pytest.mark.slow  # scikit-learn


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_of_two_classes_the_second_is_the_positive_one(data: st.DataObject) -> None:
    answers = st.lists(st.sampled_from(["no", "yes"]), min_size=2, max_size=30)
    gold = ["no", "yes", *data.draw(answers)]
    predicted = data.draw(st.lists(st.sampled_from(["no", "yes"]), min_size=len(gold),
                                   max_size=len(gold)))  # fmt: skip
    told = model_quality.statistics(document(gold, predicted))["binary_classification_metrics"]
    expected = precision_recall_fscore_support(
        gold, predicted, pos_label="yes", average="binary", zero_division=0
    )
    names = ("precision", "recall", "f1")
    assert [told[name]["value"] for name in names] == pytest.approx(expected[:3])
    (tn, fp), (fn, tp) = confusion_matrix(gold, predicted, labels=["no", "yes"])
    assert told["confusion_matrix"] == {"no": {"no": tn, "yes": fp}, "yes": {"no": fn, "yes": tp}}
    assert told["false_positive_rate"]["value"] == pytest.approx(fp / (fp + tn))
    assert told["accuracy"]["standard_deviation"] == pytest.approx(0.4 / 3.92, rel=1e-3)


def test_many_classes_have_weighted_names_and_gates_are_constraints() -> None:
    gates = [
        {"metric": "f1_weighted", "limit": 0.7, "value": 0.6, "at_most": False, "passed": False},
        {"metric": "f1", "limit": 0.5, "value": 0.6, "at_most": False, "passed": True},
        {"metric": "latency_p95_ms", "limit": 90, "value": 60, "at_most": True, "passed": True},
    ]
    made = document(list("abcabc"), list("abcaba"), gates=gates)
    told = model_quality.statistics(made)["multiclass_classification_metrics"]
    assert told["weighted_f1"]["value"] == made["metrics"]["f1_weighted"]
    assert "f1_weighted" not in told
    limits = model_quality.constraints(made)["multiclass_classification_constraints"]
    assert limits == {
        "weighted_f1": {"threshold": 0.7, "comparison_operator": "LessThanThreshold"},
        "f1_macro": {"threshold": 0.5, "comparison_operator": "LessThanThreshold"},
        "latency_p95_ms": {"threshold": 90, "comparison_operator": "GreaterThanThreshold"},
    }
    assert model_quality.constraints(document(list("ab"), list("ab"))) == {}


@pytest.mark.parametrize(
    ("task", "group"),
    [("regression", "regression_metrics"), ("text-generation", "text_generation_metrics")],
)
def test_other_tasks_keep_their_names(task: str, group: str) -> None:
    made = document(["a"], ["a"]) | {"task": task, "confusion_matrix": [], "labels": []}
    made["metrics"] = {"mae": 0.5, "undefined": float("nan")}
    told = model_quality.statistics(made)
    assert told[group] == {"mae": {"value": 0.5, "standard_deviation": None}}
    json.dumps(told, allow_nan=False)


def test_a_card_stays_within_its_schema() -> None:
    """Twenty rows of a matrix, and so many characters: the schema takes no more."""
    many = [f"label {number} {'x' * 80}" for number in range(30)]
    few = np.random.default_rng(0).choice(list("abcd"), 40).tolist()
    training = {
        "TrainingJobArn": "arn:job",
        "AlgorithmSpecification": {"TrainingImage": "image"},
        "HyperParameters": {"peft": "y" * 2000, "empty": ""},
        "InputDataConfig": [{"DataSource": {"FileSystemDataSource": {}}}],
    }
    for gold in (many, few):
        card = json.loads(
            model_card.content(
                artefact="s3://b/m.tar.gz", training=training,
                evaluation=document(gold, gold), details={"note": "z" * 3000, "none": ""},
            )
        )  # fmt: skip
        details = card["training_details"]["training_job_details"]
        assert [len(each["value"]) for each in details["hyper_parameters"]] == [255]
        groups = {each["name"] for each in card["evaluation_details"][0]["metric_groups"]}
        assert ("confusion matrix" in groups) is (gold is few)
        assert len(card["additional_information"]["custom_details"]["note"]) == 1024
    assert len(json.dumps(card)) < model_card.CONTENT_LENGTH
