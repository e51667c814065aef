"""`data.task` follows from `training.method`: nobody says the same thing twice."""

from __future__ import annotations

from typing import Any, get_args

from sm_launch.data.config import Task

_SAME_ROWS: tuple[frozenset[str], ...] = (
    frozenset({"sft", "prompt-completion", "messages", "text"}),
    frozenset({"dpo", "orpo", "cpo", "reward", "kto"}),
    frozenset({"grpo", "rloo", "distillation"}),
)
"""Tasks whose rows suit each other's methods."""


def follow_method(document: dict[str, Any]) -> dict[str, Any]:
    """A job.yaml in which `data` says what its `training` implies.

    The task is the method, where no task is given; and a second text of a pair, which preparation
    calls `text_pair`, is the classifier's.
    """
    data, training = document.get("data"), document.get("training") or {}
    if not isinstance(data, dict) or not isinstance(training, dict):
        return document
    method = training.get("method", "text-classification")
    if method in get_args(Task) and data.get("task") is None:
        data = data | {"task": method}
    columns = data.get("columns")
    if isinstance(columns, dict) and columns.get("text_pair") is not None:
        given = training.get("hyperparameters") or {}
        if method == "text-classification" and isinstance(given, dict):
            implied = {"text_pair_column": "text_pair"} | given
            training = training | {"hyperparameters": implied}
            return document | {"data": data, "training": training}
    return document | {"data": data}


def misfit(task: Task, method: str) -> str | None:
    """Why the rows of a task are of no use to a method; None where they are."""
    if method not in get_args(Task) or task == method:
        return None
    if any(task in same and method in same for same in _SAME_ROWS):
        return None
    return (
        f"data.task {task} prepares rows that the method {method} cannot learn from: "
        "leave data.task out, and it follows from training.method"
    )
