"""Reranking: documents in the order of their scores for a query, as training measures it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sm_launch.evaluation.example import Example, Row, UnusableRow, required_text
from sm_launch.evaluation.ordering import query_scores
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic, Task, mean_of_values
from sm_launch.evaluation.tasks.single_score import check_no_classes, read_score

SCORE, RELEVANCE = "document_score", "relevance"
_NO_METRICS = frozenset({SCORE, RELEVANCE})
"""Values of a row that its query's metrics are made of."""


class Reranking(Task):
    """Rows have `query`, `document` and `label`, the relevance from 0 up; those of a query belong
    together. The metrics are means over queries, which the first row of each has."""

    name = "reranking"
    main_metric = "ndcg@10"
    DEFAULT_COLUMNS = ("query", "label")
    text_key = "query_column"

    def __init__(self, *, pair_column: str | None = None, **settings: Any) -> None:
        super().__init__(pair_column=pair_column or "document", **settings)
        # The number itself: a sigmoid makes good documents alike.
        self.parameters = {**self.parameters, "function_to_apply": "none"}

    def example(self, index: int, row: Row) -> Example:
        assert self.pair_column is not None
        query = required_text(row, self.text_column, "query")
        document = required_text(row, self.pair_column, "document")
        text = required_text(row, self.label_column, "label").strip()
        try:
            label = float({"true": "1", "false": "0"}.get(text.lower(), text))
        except ValueError:
            raise UnusableRow(f"label {text!r} is no number") from None
        if not 0 <= label < float("inf"):
            raise UnusableRow(f"label {text!r} is not a number from 0 up")
        payload = {"text": query, "text_pair": document}
        return Example(index, query, f"{label:g}", payload, (document,))

    def encode(self, examples: Sequence[Example]) -> bytes:
        payload = {
            "inputs": [e.payload for e in examples],
            "parameters": {"top_k": None, **self.parameters},
        }
        return json.dumps(payload, ensure_ascii=False).encode()

    def read(self, example: Example, answer: Any) -> Prediction:
        score = read_score(answer)
        return Prediction(
            example.index, example.text, example.gold, f"{score:.4f}", slices=example.slices,
            references=example.references, values={SCORE: score, RELEVANCE: float(example.gold)},
        )  # fmt: skip

    def check_first(self, answers: Sequence[Any], golds: Collection[str]) -> None:
        check_no_classes(answers, self.name)

    def complete(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The measures of each query, at the first of its rows."""
        groups: dict[str, list[Prediction]] = {}
        for each in sorted(predictions, key=lambda each: each.index):
            groups.setdefault(each.text, []).append(each)
        measures = {
            query: query_scores(
                [each.values[RELEVANCE] for each in rows], [each.values[SCORE] for each in rows]
            )
            for query, rows in groups.items()
        }
        return [replace(p, values={**p.values, **measures.pop(p.text, {})}) for p in predictions]

    def remarks(self, predictions: Sequence[Prediction]) -> list[str]:
        ordered = sorted(predictions, key=lambda each: each.text)
        queries = [list(rows) for _, rows in itertools.groupby(ordered, key=lambda each: each.text)]
        bare = sum(not any(each.values[RELEVANCE] > 0 for each in rows) for rows in queries)
        if not bare:
            return []
        return [f"{bare} of {len(queries)} queries have no relevant document, and count 0"]

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        return mean_of_values([replace(p, values=_means(p.values)) for p in predictions])


def _means(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in _NO_METRICS}


TASK = Reranking
