"""Everything that can be said of a set of predictions, however they were come by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sm_launch.evaluation.calibration import calibrate
from sm_launch.evaluation.calibration_error import debiased_error
from sm_launch.evaluation.intervals import confidence_intervals, share_interval
from sm_launch.evaluation.result import (
    CalibrationBin,
    Interval,
    Metrics,
    Prediction,
    Slice,
)
from sm_launch.evaluation.slices import MOST_VALUES, measure_slices, too_many
from sm_launch.evaluation.task import Task

LEAST_OF_CLASS = 20
"""How often a class must occur, or its precision, recall and F1 are nearly anything."""
_MOST_NAMED = 10


@dataclass(frozen=True)
class Measured:
    """Quality, its uncertainty and its parts."""

    metrics: Metrics | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    calibration: tuple[CalibrationBin, ...] = ()
    slices: tuple[Slice, ...] = ()
    warnings: tuple[str, ...] = ()


def measure(task: Task, predictions: Sequence[Prediction], slices: Sequence[str] = ()) -> Measured:
    """Metrics with 95 % intervals, calibration, and metrics of every slice."""
    if not predictions:
        return Measured()
    warnings = [
        f"column {column!r} has more than {MOST_VALUES} values: the largest are shown"
        for column in too_many(predictions, slices)
    ]
    warnings += _about_labels(task, predictions) if task.labelled else []
    warnings += task.remarks(predictions)
    metrics = task.metrics(predictions)
    warnings += small_classes(metrics)
    intervals = confidence_intervals(task, predictions)
    bins = calibrate(predictions) if task.calibrated else ()
    if bins:
        intervals |= dict.fromkeys(("ece", "ece_debiased"), debiased_error(bins).interval)
    return Measured(
        metrics=metrics,
        intervals=intervals,
        calibration=bins,
        slices=tuple(measure_slices(predictions, slices, task)),
        warnings=tuple(warnings),
    )


def small_classes(metrics: Metrics) -> list[str]:
    """A warning that names the classes of too few rows, and what those can say at most."""
    small = sorted(
        (entry for entry in metrics.per_class if 0 < entry.support < LEAST_OF_CLASS),
        key=lambda entry: entry.support,
    )
    if not small:
        return []
    worst = small[0]
    sure = share_interval(worst.recall, worst.support)
    shown = ", ".join(f"{entry.label!r} {entry.support}" for entry in small[:_MOST_NAMED])
    more = f" and {len(small) - _MOST_NAMED} more" if len(small) > _MOST_NAMED else ""
    return [
        f"classes that occur fewer than {LEAST_OF_CLASS} times say little: {shown}{more}; the "
        f"recall {worst.recall:.2f} of {worst.label!r} may as well be {sure.low:.2f} or "
        f"{sure.high:.2f}"
    ]


def _about_labels(task: Task, predictions: Sequence[Prediction]) -> list[str]:
    golds = {label for p in predictions for label in task.labels_in(p.gold)}
    named = {label for p in predictions for label in (*p.scores, *task.labels_in(p.predicted))}
    if golds and not golds & named:
        shown = (", ".join(map(repr, sorted(labels)[:20])) for labels in (named, golds))
        return ["the model answers {}, and the data has {}: every row is wrong".format(*shown)]
    # One label an answer does not tell what else the model knows.
    told_all = all(len(p.scores) > 1 for p in predictions)
    if told_all and golds - named:
        unknown = ", ".join(map(repr, sorted(golds - named)))
        return [f"the model never named the labels {unknown}: their rows count as wrong"]
    return []
