"""Embeddings: retrieval, similarity, triplets, by the columns that the rows have."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.evaluation.example import Example, Row, UnusableRow, required_text
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.similarity import cosine, labelled_pairs, retrieval
from sm_launch.evaluation.task import Statistic, Task, mean_of_values, read_list
from sm_launch.evaluation.wire import WireError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COSINE, SAME, WANTED = "cosine", "same", "wanted"
_NO_METRICS = frozenset({COSINE, SAME, WANTED})
"""Values of a row that its metrics are made of."""
_MARKS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}


class Embedding(Task):
    """Rows are those of the method `embedding`, measured as training measures them.

    `anchor` and `positive`: each anchor is a query, all positives are the documents. With a
    `negative…` too: how often the positive is nearer. `sentence1`, `sentence2` and `score`: how the
    cosine goes along with the score; with `label` (0 or 1): how well a threshold parts the pairs.
    """

    name = "embedding"
    main_metric = "cosine_ndcg@10"
    DEFAULT_COLUMNS = ("anchor", "positive")

    def __init__(self, *, data_columns: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(data_columns=data_columns, **settings)
        negatives = sorted(c for c in data_columns if c.startswith("negative"))
        self._negative = negatives[0] if negatives and "anchor" in data_columns else None
        if self.text_column == "sentence1":
            labelled = self.label_column == "label"
            self.main_metric = "cosine_ap" if labelled else "spearman_cosine"
        elif self._negative:
            self.main_metric = "cosine_accuracy"

    def default_columns(self, data_columns: Sequence[str]) -> tuple[str, str]:
        if "anchor" in data_columns or "sentence1" not in data_columns:
            return self.DEFAULT_COLUMNS
        return "sentence1", "score" if "score" in data_columns else "label"

    @property
    def columns(self) -> dict[str, str]:
        second = {"sentence2": "sentence2"} if self.text_column == "sentence1" else {}
        return super().columns | second

    def example(self, index: int, row: Row) -> Example:
        first = required_text(row, self.text_column, "text")
        if self.text_column != "sentence1":
            texts = [first, required_text(row, self.label_column, "text")]
            texts += [required_text(row, self._negative, "text")] if self._negative else []
            return Example(index, first, texts[1], texts)
        texts = [first, required_text(row, "sentence2", "text")]
        return Example(index, "\n".join(texts), self._expected(row), texts)

    def _expected(self, row: Row) -> str:
        text = required_text(row, self.label_column, "score").strip()
        if self.label_column == "label":
            if text.lower() not in _MARKS:
                raise UnusableRow(f"label {text!r} is neither 0 nor 1")
            return f"{_MARKS[text.lower()]:g}"
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UnusableRow(f"score {text!r} is no number")
        return text

    def encode(self, examples: Sequence[Example]) -> bytes:
        inputs = [text for example in examples for text in example.payload]
        payload = {"inputs": inputs, "parameters": self.parameters}
        return json.dumps(payload, ensure_ascii=False).encode()

    def answers(self, body: bytes, expected: int) -> list[Any]:
        texts = 3 if self._negative else 2
        vectors = read_list(body, expected * texts)
        return [vectors[at : at + texts] for at in range(0, len(vectors), texts)]

    def read(self, example: Example, answer: Any) -> Prediction:
        return Prediction(
            example.index, example.text, example.gold, "", slices=example.slices,
            vectors=tuple(_pack(vector) for vector in answer),
        )  # fmt: skip

    def score(self, prediction: Prediction) -> Prediction:
        first, second, *others = map(_unpack, prediction.vectors)
        near = cosine(first, second)
        if others:
            values = {"cosine_accuracy": float(near > cosine(first, others[0])), COSINE: near}
            return replace(prediction, values=values, predicted=f"{near:.4f}")
        values = {COSINE: near}
        if self.text_column == "sentence1":
            values[SAME if self.label_column == "label" else WANTED] = float(prediction.gold)
        return replace(prediction, values=values, predicted=f"{near:.4f}")

    def complete(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Retrieval is among all rows; the vectors themselves are not kept."""
        if self._negative or self.text_column == "sentence1":
            return [replace(p, vectors=()) for p in predictions]
        vectors = [tuple(map(_unpack, p.vectors)) for p in predictions]
        measures = retrieval(
            [p.text for p in predictions],
            [p.gold for p in predictions],
            [pair[0] for pair in vectors],
            [pair[1] for pair in vectors],
        )
        completed = []
        for p in predictions:  # a query that comes again counts once
            values = {**p.values, **measures.pop(p.text, {})}
            completed.append(replace(p, values=values, vectors=()))
        return completed

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        """By what the predictions hold: those of a report come without the data's columns."""
        import numpy as np

        def column(name: str) -> NDArray[np.float64]:
            return np.array([p.values[name] for p in predictions], dtype=float)

        kept = predictions[0].values
        if SAME in kept:
            scores, same = column(COSINE), column(SAME) > 0.5
            return lambda rows: labelled_pairs(scores[rows], same[rows])
        if WANTED in kept:
            scores, wanted = column(COSINE), column(WANTED)
            return lambda rows: _correlations(scores[rows], wanted[rows])
        return mean_of_values([replace(p, values=_means(p.values)) for p in predictions])


def _means(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in _NO_METRICS}


def _correlations(scores: NDArray[np.float64], gold: NDArray[np.float64]) -> dict[str, float]:
    import numpy as np
    from scipy.stats import rankdata

    def pearson(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
        # Undefined where one side is always the same.
        if np.ptp(left) == 0 or np.ptp(right) == 0:
            return float("nan")
        return float(np.corrcoef(left, right)[0, 1])

    ranks = pearson(rankdata(scores), rankdata(gold))
    return {"spearman_cosine": ranks, "pearson_cosine": pearson(scores, gold)}


def _pack(vector: Any) -> str:
    """Numbers as base64 of float32: a third of their length in JSON."""
    import numpy as np

    try:
        numbers = np.array(vector, dtype="<f4")
    except (TypeError, ValueError) as error:
        raise WireError(f"not a vector: {str(vector)[:120]}") from error
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise WireError(f"not a vector of finite numbers: {str(vector)[:120]}")
    return base64.b64encode(numbers.tobytes()).decode()


def _unpack(text: str) -> NDArray[np.float64]:
    import numpy as np

    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


TASK = Embedding
