"""Classification quality from predictions. The arithmetic is scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sm_launch.evaluation.calibration import brier_score, calibrate, expected_calibration_error
from sm_launch.evaluation.calibration_error import debiased_error
from sm_launch.evaluation.certainty import score_statistics
from sm_launch.evaluation.result import ClassificationMetrics, ClassMetrics, Prediction
from sm_launch.evaluation.task import Statistic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def label_order(
    preferred: Sequence[str] | None, predictions: Iterable[Prediction]
) -> tuple[str, ...]:
    """All labels: the preferred ones first, then the others by name."""
    seen = {label for p in predictions for label in (p.gold, p.predicted, *p.scores)}
    first = list(dict.fromkeys(preferred or ()))
    return (*first, *sorted(seen.difference(first)))


def classification_metrics(
    predictions: Sequence[Prediction], labels: Sequence[str] | None = None
) -> ClassificationMetrics:
    """Quality over `predictions`, of which there must be at least one.

    Macro averages go over the labels that occur as truth or as prediction, as scikit-learn's
    defaults do, so that a label without any row does not pull them down.

    Args:
        predictions: one for each row that got an answer.
        labels: order of labels in tables and in the confusion matrix.
    """
    from sklearn.metrics import accuracy_score, matthews_corrcoef
    from sklearn.metrics import precision_recall_fscore_support as prf

    order = label_order(labels, predictions)
    gold = [p.gold for p in predictions]
    predicted = [p.predicted for p in predictions]
    present = sorted(set(gold) | set(predicted))
    summary = {"accuracy": float(accuracy_score(gold, predicted))}
    for average in ("macro", "weighted"):
        values = prf(gold, predicted, labels=present, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            summary[f"{name}_{average}"] = float(value)
    if len(present) > 1:  # undefined, and scikit-learn warns, where there is one label only
        summary["mcc"] = float(matthews_corrcoef(gold, predicted))
    areas = _roc_auc(predictions, order)
    known = [area for area in areas.values() if area is not None]
    if known:
        summary["roc_auc_macro"] = sum(known) / len(known)
    bins = calibrate(predictions)
    if bins:
        summary["ece"] = expected_calibration_error(bins)
        summary["ece_debiased"] = debiased_error(bins).value
        brier = brier_score(predictions)
        if brier is not None:
            summary["brier"] = brier
    per_class = _per_class(gold, predicted, order, areas)
    return ClassificationMetrics(
        labels=order,
        summary=summary,
        per_class=per_class,
        confusion=_confusion(gold, predicted, order),
    )


def _confusion(
    gold: Sequence[str], predicted: Sequence[str], order: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    places = {label: place for place, label in enumerate(order)}
    counts = [[0] * len(order) for _ in order]
    for truth, answer in zip(gold, predicted, strict=True):
        counts[places[truth]][places[answer]] += 1
    return tuple(map(tuple, counts))


def _per_class(
    gold: Sequence[str],
    predicted: Sequence[str],
    order: Sequence[str],
    areas: dict[str, float | None],
) -> tuple[ClassMetrics, ...]:
    from sklearn.metrics import precision_recall_fscore_support as prf

    precision, recall, f1, support = prf(gold, predicted, labels=list(order), zero_division=0)
    return tuple(
        ClassMetrics(
            label=label,
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
            support=int(support[i]),
            predicted=predicted.count(label),
            roc_auc=areas[label],
        )
        for i, label in enumerate(order)
    )


def _roc_auc(predictions: Sequence[Prediction], order: Sequence[str]) -> dict[str, float | None]:
    """Area under the curve of each label against the rest.

    None for a label without positive or negative rows, or that some answer has no score for.
    """
    from sklearn.metrics import roc_auc_score

    areas: dict[str, float | None] = {}
    for label in order:
        truth = [p.gold == label for p in predictions]
        scored = all(label in p.scores for p in predictions)
        if scored and any(truth) and not all(truth):
            areas[label] = float(roc_auc_score(truth, [p.scores[label] for p in predictions]))
        else:
            areas[label] = None
    return areas


def classification_statistic(predictions: Sequence[Prediction]) -> Statistic:
    """The metrics of `classification_metrics`, quick enough for a thousand samples of the rows."""
    import numpy as np

    names = sorted({label for p in predictions for label in (p.gold, p.predicted)})
    codes = {name: code for code, name in enumerate(names)}
    gold = np.array([codes[p.gold] for p in predictions])
    predicted = np.array([codes[p.predicted] for p in predictions])
    of_scores = score_statistics(predictions)

    def of(rows: NDArray[np.int64]) -> dict[str, float]:
        truth, answer = gold[rows], predicted[rows]
        right = np.bincount(truth[truth == answer], minlength=len(names)).astype(float)
        support = np.bincount(truth, minlength=len(names)).astype(float)
        named = np.bincount(answer, minlength=len(names)).astype(float)
        metrics = _from_counts(right, support, named)
        for statistic in of_scores:
            metrics |= statistic(rows)
        return metrics

    return of


def _from_counts(
    right: NDArray[np.float64], support: NDArray[np.float64], named: NDArray[np.float64]
) -> dict[str, float]:
    import numpy as np

    rows, present = support.sum(), (support + named) > 0
    parts = {
        "precision": right / np.maximum(named, 1),
        "recall": right / np.maximum(support, 1),
        "f1": 2 * right / np.maximum(support + named, 1),
    }
    metrics = {"accuracy": float(right.sum() / rows)}
    for name, values in parts.items():
        metrics[f"{name}_macro"] = float(values[present].mean())
        metrics[f"{name}_weighted"] = float((values * support).sum() / rows)
    spread = (rows**2 - (named**2).sum()) * (rows**2 - (support**2).sum())
    if spread > 0:
        product = right.sum() * rows - (named * support).sum()
        metrics["mcc"] = float(product / np.sqrt(spread))
    return metrics
