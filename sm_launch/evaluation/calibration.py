"""Whether a model is right as often as it is sure: expected calibration error, Brier score."""

from __future__ import annotations

from collections.abc import Sequence

from sm_launch.evaluation.result import CalibrationBin, Prediction

BINS = 10


def calibrate(predictions: Sequence[Prediction]) -> tuple[CalibrationBin, ...]:
    """Predictions in bins of equal width by confidence; empty ones are left out.

    Empty where some answer has no score: a label alone says nothing about certainty.
    """
    confidences = [p.confidence for p in predictions]
    if not predictions or any(confidence is None for confidence in confidences):
        return ()
    binned: dict[int, list[Prediction]] = {}
    for prediction, confidence in zip(predictions, confidences, strict=True):
        binned.setdefault(min(int((confidence or 0.0) * BINS), BINS - 1), []).append(prediction)
    return tuple(
        CalibrationBin(
            low=at / BINS,
            high=(at + 1) / BINS,
            rows=len(inside),
            confidence=sum(p.confidence or 0.0 for p in inside) / len(inside),
            accuracy=sum(p.correct for p in inside) / len(inside),
        )
        for at, inside in sorted(binned.items())
    )


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """The mean distance of confidence and accuracy, weighted by rows."""
    rows = sum(bucket.rows for bucket in bins)
    return sum(bucket.rows * abs(bucket.accuracy - bucket.confidence) for bucket in bins) / rows


def brier_score(predictions: Sequence[Prediction]) -> float | None:
    """Mean squared distance of the scores from the truth over all labels (0 best, 2 worst).

    None where an answer does not score every label.
    """
    labels = {label for p in predictions for label in (p.gold, *p.scores)}
    if any(set(p.scores) != labels for p in predictions):
        return None
    total = sum(
        (score - (label == p.gold)) ** 2 for p in predictions for label, score in p.scores.items()
    )
    return float(total / len(predictions))
