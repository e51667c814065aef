"""ROC-AUC, calibration error and Brier score of any sample of the rows, quick to resample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sm_launch.evaluation.calibration import BINS
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_SCORES = 500_000
"""Rows times labels: above, a thousand areas under the curve would take minutes."""


def score_statistics(predictions: Sequence[Prediction]) -> list[Statistic]:
    """Those of the three that these predictions have scores enough for."""
    statistics = []
    if all(p.confidence is not None for p in predictions):
        statistics.append(_calibration_error(predictions))
    labels = sorted({label for p in predictions for label in (p.gold, *p.scores)})
    if any(p.scores for p in predictions) and len(labels) * len(predictions) <= _MOST_SCORES:
        statistics.append(_areas(predictions, labels))
    if labels and all(set(p.scores) == set(labels) for p in predictions):
        statistics.append(_brier(predictions))
    return statistics


def _calibration_error(predictions: Sequence[Prediction]) -> Statistic:
    import numpy as np

    confidence = np.array([p.confidence or 0.0 for p in predictions])
    correct = np.array([float(p.correct) for p in predictions])
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = correct - confidence

    def of(rows: NDArray[np.int64]) -> dict[str, float]:
        sums = np.bincount(bins[rows], weights=gap[rows], minlength=BINS)
        return {"ece": float(np.abs(sums).sum() / len(rows))}

    return of


def _areas(predictions: Sequence[Prediction], labels: Sequence[str]) -> Statistic:
    import numpy as np

    of_labels = []
    for label in labels:
        truth = np.array([p.gold == label for p in predictions])
        if truth.any() and not truth.all() and all(label in p.scores for p in predictions):
            scores = np.array([p.scores[label] for p in predictions])
            # Equal scores share a place; the area needs nothing but the order.
            values, places = np.unique(scores, return_inverse=True)
            of_labels.append(
                (np.array([p.gold == label for p in predictions]), places, values.size)
            )

    def of(rows: NDArray[np.int64]) -> dict[str, float]:
        known = [
            area
            for truth, places, count in of_labels
            if (area := _area(truth[rows], places[rows], count)) is not None
        ]
        # A sample may have rows of one label only.
        if not of_labels:
            return {}
        return {"roc_auc_macro": sum(known) / len(known) if known else float("nan")}

    return of


def _area(truth: NDArray[np.bool_], places: NDArray[np.int64], count: int) -> float | None:
    """Share of the pairs of a positive and a negative row that are in the right order."""
    import numpy as np

    positive = np.bincount(places[truth], minlength=count)
    negative = np.bincount(places[~truth], minlength=count)
    pairs = int(positive.sum()) * int(negative.sum())
    if not pairs:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / pairs)


def _brier(predictions: Sequence[Prediction]) -> Statistic:
    import numpy as np

    distances = np.array(
        [
            sum((score - (label == p.gold)) ** 2 for label, score in p.scores.items())
            for p in predictions
        ]
    )

    def of(rows: NDArray[np.int64]) -> dict[str, float]:
        return {"brier": float(distances[rows].mean())}

    return of
