"""A number for a text or a pair of texts: its errors and its correlation with the expected one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.evaluation.example import Example, Row, UnusableRow
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.tasks.classification import text_example
from sm_launch.evaluation.tasks.single_score import check_no_classes, read_score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MOST_GRADES = 20
"""Whole numbers that lie no further apart are grades, as for training."""


class TextRegression(Task):
    """Rows have a text, maybe a second one, and a number; the model has one output.

    Mean squared and mean absolute error, R2, and Pearson's and Spearman's correlation (0 where one
    side is constant), as training measures them. Where all expected numbers are whole and few, they
    are grades: Cohen's kappa with quadratic weights then measures the rounded answers.
    """

    name = "text-regression"
    trained_by = "text-classification"
    main_metric = "pearson"
    DEFAULT_COLUMNS = ("text", "label")
    lists = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # The number itself: the pipeline's default for one output is a sigmoid.
        self.parameters = {**self.parameters, "function_to_apply": "none"}

    def example(self, index: int, row: Row) -> Example:
        value = row.get(self.label_column)
        try:
            number = float("" if isinstance(value, bool) or value is None else value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UnusableRow(f"no number in column {self.label_column!r}")
        return text_example(self, index, row, repr(number))

    def read(self, example: Example, answer: Any) -> Prediction:
        number = repr(read_score(answer))
        return Prediction(example.index, example.text, example.gold, number, slices=example.slices)

    def as_label(self, answer: Any) -> Any:
        return read_score(answer)

    def score(self, prediction: Prediction) -> Prediction:
        error = float(prediction.predicted) - float(prediction.gold)
        values = {"squared_error": error * error, "absolute_error": abs(error)}
        return replace(prediction, values=values)

    def check_first(self, answers: Sequence[Any], golds: Collection[str]) -> None:
        check_no_classes(answers, self.name)

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        import numpy as np
        from scipy.stats import rankdata

        given = np.array([float(p.predicted) for p in predictions])
        expected = np.array([float(p.gold) for p in predictions])
        graded = (expected == expected.round()).all() and np.ptp(expected) <= MOST_GRADES
        grades = given.round().clip(expected.min(), expected.max())

        def of(rows: NDArray[np.int64]) -> dict[str, float]:
            a, b = given[rows], expected[rows]
            kappa = {"quadratic_weighted_kappa": _kappa(grades[rows], b)} if graded else {}
            return {
                "mse": float(((a - b) ** 2).mean()),
                "mae": float(np.abs(a - b).mean()),
                "r2": _r2(a, b),
                "pearson": _correlation(a, b),
                "spearman": _correlation(rankdata(a), rankdata(b)),
                **kappa,
            }

        return of


def _r2(given: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    spread = float(((expected - expected.mean()) ** 2).sum())
    missed = float(((given - expected) ** 2).sum())
    return 1 - missed / spread if spread else float(not missed)


def _kappa(given: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The weights are squared distances, so that it follows from means and variances."""
    apart = float((given.mean() - expected.mean()) ** 2)
    chance = float(given.var() + expected.var()) + apart
    return 1 - float(((given - expected) ** 2).mean()) / chance if chance else 0.0


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread else 0.0


TASK = TextRegression
