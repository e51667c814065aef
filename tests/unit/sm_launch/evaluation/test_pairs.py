"""Two models are compared on the same rows and the same values, or not at all."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from sm_launch.errors import UserInputError
from sm_launch.evaluation import Prediction, compare, make_task
from sm_launch.evaluation.summary import render_comparison

CLASSIFY = make_task("text-classification")


def with_values(count: int, values: dict[str, list[float | None]]) -> list[Prediction]:
    """Rows of which row n has the n-th of each list, where it is not None."""
    rows = []
    for n in range(count):
        known = {name: given[n] for name, given in values.items() if given[n] is not None}
        rows.append(Prediction(n, f"p{n}", "gold", "x", values={"exact_match": 0.0, **known}))
    return rows


@pytest.mark.slow
@settings(max_examples=40)
@given(
    data=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.booleans()),
        min_size=30,
        max_size=60,
    )
)
def test_equal_grades_never_differ_whichever_are_missing(data):
    grades = [grade for grade, _, _ in data]
    sides = [
        with_values(
            len(data),
            {
                name: [value if row[side] else None for value, row in zip(given, data, strict=True)]
                for name, given in (
                    ("judge", grades),
                    ("log_likelihood", [-10 * grade - 1 for grade in grades]),
                    ("answer_tokens", [4.0] * len(data)),
                )
            },
        )
        for side in (1, 2)
    ]
    comparison = compare(*sides, make_task("text-generation"), resamples=5)
    missing = sum(first != second for _, first, second in data)
    assert all(m.difference == 0 for m in comparison.metrics)
    assert comparison.only_one_has.get("judge", 0) == missing
    for m in comparison.metrics:
        if m.metric in ("judge", "loss", "perplexity"):
            assert m.rows == sum(first and second for _, first, second in data)


def test_counts_that_are_not_there_are_none():
    """A row without a person in it has no count of persons; it is compared all the same."""
    task = make_task("token-classification")
    row = {"tokens": ["Ada"], "tags": ["B-PER"]}
    entities = [{"entity_group": "PER", "start": 0, "end": 3}]
    right = [task.predict(task.example(n, row), entities) for n in range(20)]
    wrong = [task.predict(task.example(n, row), []) for n in range(20)]
    compared = {m.metric: m for m in compare(right, wrong, task, resamples=5).metrics}
    assert (compared["recall"].first, compared["recall"].second) == (1, 0)


@pytest.mark.slow
def test_rows_of_one_model_only_are_told_and_bounded():
    every = [Prediction(n, f"t{n}", "ab"[n % 2], "ab"[n % 2 and n > 9]) for n in range(100)]
    comparison = compare(every, every[10:], CLASSIFY)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_comparison(comparison))
    assert "10 rows were answered by one model only" in console.export_text()
    with pytest.raises(UserInputError, match="share 70 rows, and 30 stand in one only"):
        compare(every, every[30:], CLASSIFY)
    assert compare(every, every[30:], CLASSIFY, min_shared=0.5).rows == 70
