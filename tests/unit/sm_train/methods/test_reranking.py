"""Rows of queries with documents, in every form that they come in."""

from __future__ import annotations

from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.errors import UserError
from sm_train.methods import reranking
from sm_train.rows import Data

CONFIG = parse_config({"method": "reranking"})
PAIRS = [("a", 1.0), ("b", 0.0), ("c", 0.0)]
EXPECTED = [{"query": "q", "document": d, "label": label} for d, label in PAIRS]


@pytest.mark.parametrize(
    "rows",
    [
        [{"query": "q", "document": d, "label": label} for d, label in PAIRS],
        [{"query": "q", "document": d, "label": str(bool(label)).lower()} for d, label in PAIRS],
        [{"query": "q", "documents": ["a", "b", "c"], "labels": [1, 0, 0]}],
        [{"query": "q", "positive": "a", "negative": ["b", "c"]}],
        [
            {
                "query": "q",
                "positive": ["a"],
                "negative_1": "b",
                "negative_2": "c",
                "negative_3": None,
            }
        ],
    ],
)
def test_every_form_is_pairs_with_labels(rows: list[dict[str, Any]]) -> None:
    expanded = [one for row in rows for one in reranking.expand(row)]
    assert [reranking.clean_row(row, CONFIG) for row in expanded] == EXPECTED


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q", "documents": ["a"], "labels": [1, 0]}, "not of one length"),
        ({"query": "q", "document": "a", "label": -1}, "below 0"),
        ({"query": "q", "document": "a", "label": "much"}, "holds no number"),
        ({"query": "q", "document": " ", "label": 1}, "no text in column document"),
        ({"document": "a", "label": 1}, "no text in column query"),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], message: str) -> None:
    (expanded,) = reranking.expand(row)
    with pytest.raises(ValueError, match=message):
        reranking.clean_row(expanded, CONFIG)


def test_queries_without_an_order_are_refused() -> None:
    rows = [{"query": f"q{n}", "document": "d", "label": float(n % 2)} for n in range(6)]
    with pytest.raises(UserError, match="6 queries, and none with documents of different labels"):
        reranking.check_data(CONFIG, Data(rows, None, None))
    reranking.check_data(CONFIG, Data([*rows, {**rows[0], "label": 1.0}], None, None))
