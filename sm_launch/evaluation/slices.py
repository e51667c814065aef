"""Quality on parts of the data: a good mean may hide a group that the model fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sm_launch.evaluation.intervals import confidence_intervals
from sm_launch.evaluation.result import Prediction, Slice
from sm_launch.evaluation.task import Task

MOST_VALUES = 50
_RESAMPLES = 400


def measure_slices(
    predictions: Sequence[Prediction], columns: Sequence[str], task: Task
) -> list[Slice]:
    """Metrics for each value of each column, the largest first; at most 50 values a column."""
    slices = []
    for column in columns:
        counts = Counter(p.slices.get(column, "(none)") for p in predictions)
        for value, rows in counts.most_common(MOST_VALUES):
            inside = [p for p in predictions if p.slices.get(column, "(none)") == value]
            intervals = confidence_intervals(task, inside, resamples=_RESAMPLES)
            slices.append(
                Slice(
                    column,
                    value,
                    rows,
                    task.metrics(inside).summary,
                    intervals.get(task.main_metric),
                )
            )
    return slices


def too_many(predictions: Sequence[Prediction], columns: Sequence[str]) -> list[str]:
    """Columns with more values than are shown."""
    return [
        column
        for column in columns
        if len({p.slices.get(column, "(none)") for p in predictions}) > MOST_VALUES
    ]
