"""Orders of documents are measured by the same arithmetic as in training."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_launch.evaluation.intervals import confidence_intervals
from sm_launch.evaluation.ordering import query_scores
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.tasks import make_task
from sm_launch.evaluation.tasks.reranking import RELEVANCE, SCORE
from sm_train.results.ranking import query_scores as scores_of_training

pytestmark = pytest.mark.slow  # scikit-learn
ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(-3, 3)), min_size=1, max_size=14
)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_both_measure_alike(rows: list[tuple[float, int]]) -> None:
    labels, scores = [label for label, _ in rows], [float(score) for _, score in rows]
    measured = query_scores(labels, scores)
    assert measured == scores_of_training(labels, scores)
    assert all(0 <= value <= 1 + 1e-9 for value in measured.values())


def test_each_query_counts_once_and_one_without_an_answer_counts_nothing() -> None:
    task = make_task("reranking")
    rows = [
        ("a", "good", 1, 2.0), ("b", "x", 0, 1.0), ("a", "bad", 0, 3.0), ("b", "y", 0, 0.0),
        ("c", "only", 2, -1.0),
    ]  # fmt: skip
    predictions = []
    for index, (query, document, label, score) in enumerate(rows):
        example = task.example(index, {"query": query, "document": document, "label": label})
        answer = [{"label": "LABEL_0", "score": score}]
        predictions.append(task.predict(example, answer))
    complete = task.complete(predictions)
    metrics = task.metrics(complete).summary
    assert metrics["mrr@10"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert metrics["map"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert task.remarks(complete) == ["1 of 3 queries have no relevant document, and count 0"]


def test_the_interval_is_of_queries_and_not_of_their_documents() -> None:
    """Six queries with all of their documents in order say little, however many these are."""
    task = make_task("reranking")
    rows = [
        Prediction(5 * query + at, f"q{query}", "0", "0", values={SCORE: -at, RELEVANCE: at == 0})
        for query in range(6)
        for at in range(5)
    ]
    intervals = confidence_intervals(task, task.complete(rows))
    for name in ("map", "mrr@10", "ndcg@10"):
        assert intervals[name].low == pytest.approx(0.05 ** (1 / 6), abs=1e-3)
        assert intervals[name].high == 1
