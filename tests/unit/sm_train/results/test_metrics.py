"""Scores against scikit-learn's, and log lines against the definitions that must match them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_train.methods import METHODS
from sm_train.results.metrics import (
    METRIC_DEFINITIONS,
    classification_scores,
    confusion_matrix,
    entities,
    entity_scores,
    log_line,
)

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@pytest.mark.slow
@settings(deadline=None)  # the first call imports scikit-learn
@given(PAIRS)
def test_scores_are_scikit_learn_s(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    expected, predicted = [e for e, _ in pairs], [p for _, p in pairs]
    scores = classification_scores(confusion_matrix(expected, predicted, 4))
    assert scores["accuracy"] == pytest.approx(accuracy_score(expected, predicted))
    macro = f1_score(expected, predicted, average="macro", zero_division=0)
    weighted = f1_score(expected, predicted, average="weighted", zero_division=0)
    assert scores["f1"] == pytest.approx(macro)
    assert scores["f1_weighted"] == pytest.approx(weighted)


def test_definitions_keep_within_sagemaker_s_limits() -> None:
    special = {method for d in METRIC_DEFINITIONS for method in d.get("Methods", ())}
    for method in (*METHODS, "script", "any"):
        own = [d for d in METRIC_DEFINITIONS if method in d.get("Methods", [method])]
        assert len(own) <= 40, method
    assert special <= {*METHODS, "script"}
    assert all(len(d["Name"]) <= 255 and len(d["Regex"]) <= 500 for d in METRIC_DEFINITIONS)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_number_on_a_line_is_found(value: float) -> None:
    line = log_line({"step": 3, "loss": value, "eval_loss": 1.5, "test_accuracy": 0.25})
    matches = {
        d["Name"]: float(match[1])
        for d in METRIC_DEFINITIONS
        if (match := re.search(d["Regex"], line))
    }
    assert matches.keys() == {"train:loss", "eval:loss", "test:accuracy"}
    assert math.isclose(matches["train:loss"], value, rel_tol=1e-5)


def test_entities_are_whole_spans() -> None:
    assert entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]) == [
        (0, 2, "PER"),
        (3, 4, "LOC"),
        (4, 5, "LOC"),
    ]
    scores = entity_scores([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]])
    assert scores == {"accuracy": 2 / 3, "precision": 0, "recall": 0, "f1": 0}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("margin", "train:reward_margin"),
        ("accuracy", "train:reward_accuracy"),
        ("rewards/accuracies", "train:reward_accuracy"),
        ("eval_precision_macro", "eval:precision"),
        ("test_recall", "test:recall"),
        ("eval_cosine_ndcg@10", "eval:ndcg"),
        ("test_spearman_cosine", "test:correlation"),
        ("eval_cosine_accuracy@1", "eval:accuracy"),
        ("eval_cosine_ap", "eval:average_precision"),
        ("eval_perplexity", "eval:perplexity"),
        ("eval_pearson", "eval:correlation"),
        ("test_mae", "test:mae"),
        ("test_rougeL", "test:rougeL"),
        ("eval_ndcg@10", "eval:ndcg"),
        ("test_map", "test:average_precision"),
        ("test_mrr@10", "test:mrr"),
    ],
)
def test_a_logged_key_has_a_metric_and_near_names_are_not_taken_for_it(key: str, name: str) -> None:
    (pattern,) = (d["Regex"] for d in METRIC_DEFINITIONS if d["Name"] == name)
    match = re.search(pattern, log_line({"step": 1, key: 0.25, "other": 2.0}))
    assert match
    assert float(match[1]) == 0.25
    for near in (f"x{key}", f"{key}_x", f"x/{key}"):
        assert not re.search(pattern, log_line({"step": 1, near: 0.25}))
