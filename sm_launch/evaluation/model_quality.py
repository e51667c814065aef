"""An evaluation in the words of SageMaker Model Monitor, which the model registry shows.

Source: developer guide, "Model quality metrics and Amazon CloudWatch monitoring": statistics.json
and constraints.json of a model quality job. Tasks that Model Monitor does not have get a group of
their own name, with the same form of each metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sm_launch.evaluation.gates import ALIASES

Document = Mapping[str, Any]
BINARY, MULTICLASS = "binary_classification", "multiclass_classification"
_GROUPS = {"regression": "regression"}
# Model Monitor's names for what an evaluation calls otherwise; the others keep theirs.
_MULTICLASS_NAMES = {
    "recall_weighted": "weighted_recall",
    "precision_weighted": "weighted_precision",
    "f1_weighted": "weighted_f1",
}
# A 95 % interval of a normal distribution is so many standard deviations wide.
_DEVIATIONS = 2 * 1.959964


def group_of(document: Document) -> str:
    """Model Monitor's name of the kind of problem."""
    task = str(document["task"])
    if document.get("confusion_matrix"):
        return BINARY if len(document["labels"]) == 2 else MULTICLASS
    return _GROUPS.get(task, task.replace("-", "_"))


def statistics(document: Document) -> dict[str, Any]:
    """statistics.json of an `evaluation.json`.

    Standard deviations are those that the 95 % intervals tell; null where a metric has none.
    """
    group = group_of(document)
    measured: dict[str, Any] = {}
    if document.get("confusion_matrix"):
        measured["confusion_matrix"] = _confusion(document)
    for name, value in _named(document, group).items():
        measured[name] = {
            "value": value,
            "standard_deviation": _deviation(document, _original(name, group)),
        }
    if group == BINARY:
        measured |= _of_the_positive_class(document)
    dataset = {
        "item_count": document["rows"]["evaluated"],
        "start_time": document["started_at"],
        "evaluation_time": document["started_at"],
    }
    return {"version": 0.0, "dataset": dataset, f"{group}_metrics": measured}


def constraints(document: Document) -> dict[str, Any]:
    """constraints.json of the gates that an evaluation was held against; empty without gates."""
    group = group_of(document)
    names = {_original(name, group): name for name in _named(document, group)}
    limits = {}
    for gate in document.get("gates", []):
        metric = ALIASES.get(gate["metric"], gate["metric"])
        operator = "GreaterThanThreshold" if gate["at_most"] else "LessThanThreshold"
        limits[names.get(metric, metric)] = {
            "threshold": gate["limit"],
            "comparison_operator": operator,
        }
    return {"version": 0.0, f"{group}_constraints": limits} if limits else {}


def _named(document: Document, group: str) -> dict[str, float]:
    names = _MULTICLASS_NAMES if group == MULTICLASS else {}
    return {
        names.get(name, name): value
        for name, value in document["metrics"].items()
        if math.isfinite(value)
    }


def _original(name: str, group: str) -> str:
    if group != MULTICLASS:
        return name
    return {theirs: ours for ours, theirs in _MULTICLASS_NAMES.items()}.get(name, name)


def _deviation(document: Document, name: str) -> float | None:
    interval = document.get("confidence_intervals", {}).get(name)
    return (interval[1] - interval[0]) / _DEVIATIONS if interval else None


def _confusion(document: Document) -> dict[str, dict[str, int]]:
    labels = document["labels"]
    return {
        label: dict(zip(labels, row, strict=True))
        for label, row in zip(labels, document["confusion_matrix"], strict=True)
    }


def _of_the_positive_class(document: Document) -> dict[str, Any]:
    """What Model Monitor calls recall, precision and F1 of two classes: those of the second one."""
    (tn, fp), (fn, tp) = document["confusion_matrix"]
    positive = document["per_class"][document["labels"][1]]
    values = {
        "recall": positive["recall"],
        "precision": positive["precision"],
        "f1": positive["f1"],
        "auc": positive.get("roc_auc"),
        "true_positive_rate": _share(tp, fn),
        "true_negative_rate": _share(tn, fp),
        "false_positive_rate": _share(fp, tn),
        "false_negative_rate": _share(fn, tp),
    }
    return {
        name: {"value": value, "standard_deviation": None}
        for name, value in values.items()
        if value is not None
    }


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
