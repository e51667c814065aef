"""Classification quality from predictions. The arithmetic is scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sm_launch.evaluation.result import ClassificationMetrics, ClassMetrics, Prediction


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
    from sklearn.metrics import accuracy_score, confusion_matrix, matthews_corrcoef
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
    per_class = _per_class(gold, predicted, order, areas)
    confusion = confusion_matrix(gold, predicted, labels=list(order))
    return ClassificationMetrics(
        labels=order,
        summary=summary,
        per_class=per_class,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


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
