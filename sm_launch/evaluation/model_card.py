"""The model card of a registered version: what was trained, on which data, and how good it is.

Source: developer guide, "Model package model card schema": of the whole schema of model cards
without `model_package_details`, and of `model_overview` only creator and artefact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
# The schema's limits.
_TEXT, _NAME, _AXIS, _MATRIX, _METRICS, _HYPERPARAMETERS = 1024, 255, 63, 20, 50, 100
# Service model, ModelPackageModelCard: ModelCardContent.
CONTENT_LENGTH = 100_000


def content(
    *,
    artefact: str,
    training: Document | None,
    evaluation: Document | None,
    details: Mapping[str, str],
) -> str:
    """ModelCardContent.

    Args:
        artefact: URI of the model.
        training: DescribeTrainingJob's answer, where a job trained it.
        evaluation: evaluation.json, where it was measured.
        details: anything else, as a name and a text.
    """
    card: dict[str, Any] = {"model_overview": {"model_artifact": [artefact[:_TEXT]]}}
    if training is not None:
        card["training_details"] = {"training_job_details": _training(training)}
    if evaluation is not None:
        card["evaluation_details"] = [_evaluation(evaluation)]
    told = {key[:_TEXT]: value[:_TEXT] for key, value in details.items() if value}
    card["additional_information"] = {"custom_details": told}
    return json.dumps(card, ensure_ascii=False, allow_nan=False)


def _training(job: Document) -> dict[str, Any]:
    channels = [each["DataSource"]["S3DataSource"]["S3Uri"] for each in
                job.get("InputDataConfig", []) if "S3DataSource" in each["DataSource"]]  # fmt: skip
    given = job.get("HyperParameters", {})
    metrics = job.get("FinalMetricDataList", [])
    return {
        "training_arn": job["TrainingJobArn"],
        "training_datasets": channels[:15],
        "training_environment": {
            "container_image": [job["AlgorithmSpecification"]["TrainingImage"]]
        },
        "training_metrics": [
            {"name": each["MetricName"], "value": float(each["Value"])}
            for each in metrics[:_METRICS]
        ],
        "hyper_parameters": [
            {"name": key[:_NAME], "value": str(value)[:_NAME]}
            for key, value in list(given.items())[:_HYPERPARAMETERS]
            if str(value)
        ],
    }


def _evaluation(document: Document) -> dict[str, Any]:
    gates = document.get("gates", [])
    groups = [{"name": "metrics", "metric_data": [*_metrics(document)]}]
    if gates:
        held = [
            {"name": f"gate: {each['metric']}"[:_NAME], "type": "boolean", "value": each["passed"],
             "notes": f"{each['value']} against {each['limit']}"}
            for each in gates
        ]  # fmt: skip
        groups.append({"name": "gates", "metric_data": held})
    matrix = _matrix(document)
    if matrix:
        groups.append({"name": "confusion matrix", "metric_data": [matrix]})
    rows = document["rows"]
    run = document.get("run", {})
    told = {"task": document["task"], "command": run.get("command", "")}
    return {
        "name": "held-out rows",
        "evaluation_observation": f"{rows['evaluated']} of {rows['total']} rows, "
        f"{document['started_at']}",
        "datasets": [run["data"][:_TEXT]] if run.get("data") else [],
        "metadata": {key: str(value)[:_TEXT] for key, value in told.items() if value},
        "metric_groups": groups,
    }


def _metrics(document: Document) -> list[dict[str, Any]]:
    intervals = document.get("confidence_intervals", {})
    entries = []
    for name, value in document["metrics"].items():
        if not math.isfinite(value):
            continue
        entry: dict[str, Any] = {"name": name[:_NAME], "type": "number", "value": value}
        if name in intervals:
            low, high = intervals[name]
            entry["notes"] = f"95 % interval {low:.4f} to {high:.4f}"
        entries.append(entry)
    return entries


def _matrix(document: Document) -> dict[str, Any] | None:
    """The confusion matrix, where the schema's 20 rows hold it."""
    rows = document.get("confusion_matrix", [])
    if not 0 < len(rows) <= _MATRIX:
        return None
    axis = [str(label)[:_AXIS] for label in document["labels"]]
    return {"name": "confusion matrix", "type": "matrix", "value": rows,
            "x_axis_name": axis, "y_axis_name": axis}  # fmt: skip
