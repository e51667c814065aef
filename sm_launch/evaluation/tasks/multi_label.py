"""Any number of labels a text: those whose score reaches the threshold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.data.labels import as_list
from sm_launch.evaluation.example import Example, Row, UnusableRow, missing
from sm_launch.evaluation.result import ClassMetrics, Metrics, Prediction, TextMetrics
from sm_launch.evaluation.task import Statistic
from sm_launch.evaluation.tasks.classification import (
    TextClassification,
    check_probabilities,
    text_example,
)
from sm_launch.evaluation.thresholds import USUAL, Thresholds
from sm_launch.evaluation.wire import read_scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_USUAL = Thresholds(USUAL, several=True)


class MultiLabelClassification(TextClassification):
    """Rows have a text, maybe a second one, and a list of labels, which may be empty.

    Precision, recall and F1 over all decisions (micro), over labels (macro) and over rows
    (samples), subset accuracy and Hamming loss, as training measures them.
    """

    name = "multi-label-classification"
    trained_by = "text-classification"
    calibrated = False
    several = True
    main_metric = "f1_micro"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # A score of each label by itself is a sigmoid.
        self.parameters = {"function_to_apply": "sigmoid", **self.parameters}

    def example(self, index: int, row: Row) -> Example:
        labels = _list(row.get(self.label_column), self.label_column)
        return text_example(self, index, row, written(self.name_of(label) for label in labels))

    def labels_in(self, gold: str) -> Sequence[str]:
        names: list[str] = json.loads(gold)
        return names

    def read(self, example: Example, answer: Any) -> Prediction:
        scores = read_scores(answer)
        check_probabilities(scores, answer)
        given = (self.thresholds or _USUAL).given(scores.scores)
        return Prediction(
            example.index, example.text, example.gold, written(given), scores.scores,
            slices=example.slices,
        )  # fmt: skip

    def as_label(self, answer: Any) -> Any:
        return json.loads(self.read(Example(0, "", ""), answer).predicted)

    def score(self, prediction: Prediction) -> Prediction:
        return replace(prediction, values={"subset_accuracy": float(prediction.correct)})

    def metrics(self, predictions: Sequence[Prediction]) -> Metrics:
        import numpy as np

        tables = _Tables(self, predictions)
        summary = tables.statistic(np.arange(len(predictions)))
        return TextMetrics(summary, tables.of_labels())

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        return _Tables(self, predictions).statistic


class _Tables:
    """Rows by labels: which each row has, which it was given, and where the two agree."""

    def __init__(self, task: MultiLabelClassification, predictions: Sequence[Prediction]) -> None:
        import numpy as np

        golds = [task.labels_in(p.gold) for p in predictions]
        given = [task.labels_in(p.predicted) for p in predictions]
        # All of the model's labels count, also those that no row has.
        seen = {label for labels in (*golds, *given) for label in labels}
        seen |= {label for p in predictions for label in p.scores}
        first = [label for label in (*(task.labels or ()), *task.known_labels) if label in seen]
        self.labels = list(dict.fromkeys([*first, *sorted(seen)]))
        self._wanted, self._given = (
            np.array([[label in named for label in self.labels] for named in map(set, rows)], float)
            for rows in (golds, given)
        )
        self._right = self._wanted * self._given
        self._of_rows = _scores(*(t.sum(axis=1) for t in self._all))
        differ = self._wanted != self._given
        self._exact, self._wrong = ~differ.any(axis=1), differ.mean(axis=1)

    @property
    def _all(self) -> tuple[NDArray[np.float64], ...]:
        return self._right, self._wanted, self._given

    def statistic(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """The metrics of these rows, of which one may stand several times."""
        import numpy as np

        times = np.bincount(rows, minlength=len(self._exact)).astype(float)
        counts = [times @ table for table in self._all]
        averages = {
            "micro": _scores(*(np.atleast_1d(count.sum()) for count in counts)),
            "macro": _scores(*counts),
        }
        sums = {
            f"{name}_{average}": float(values.mean())
            for average, scores in averages.items()
            for name, values in scores.items()
        }
        for name, values in self._of_rows.items():
            sums[f"{name}_samples"] = float(times @ values / len(rows))
        sums["subset_accuracy"] = float(times @ self._exact / len(rows))
        sums["hamming_loss"] = float(times @ self._wrong / len(rows))
        return sums

    def of_labels(self) -> tuple[ClassMetrics, ...]:
        """Of each label over all rows."""
        right, wanted, given = (table.sum(axis=0) for table in self._all)
        scores = _scores(right, wanted, given)
        return tuple(
            ClassMetrics(
                label,
                precision=float(scores["precision"][at]),
                recall=float(scores["recall"][at]),
                f1=float(scores["f1"][at]),
                support=int(wanted[at]),
                predicted=int(given[at]),
            )
            for at, label in enumerate(self.labels)
        )


def _scores(
    right: NDArray[np.float64], wanted: NDArray[np.float64], given: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """0 where undefined, as scikit-learn's zero_division=0."""
    import numpy as np

    return {
        "precision": right / np.maximum(given, 1),
        "recall": right / np.maximum(wanted, 1),
        "f1": 2 * right / np.maximum(wanted + given, 1),
    }


def written(labels: Iterable[str]) -> str:
    """A set of labels as predictions hold it: equal sets are equal texts."""
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


def _list(value: Any, column: str) -> list[Any]:
    labels = as_list(value)
    if labels is None:
        raise UnusableRow(f'no list of labels in column {column!r}, such as ["a", "b"]')
    if any(isinstance(label, list | dict) or missing(label) for label in labels):
        raise UnusableRow(f"a list or nothing in the list of labels in column {column!r}")
    return labels


TASK = MultiLabelClassification
