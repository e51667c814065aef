"""`data.task` follows from `training.method`: nobody says the same thing twice."""

from __future__ import annotations

from typing import Any, get_args

from sm_launch.job.data import Task

_SAME_ROWS: tuple[frozenset[str], ...] = (
    frozenset({"text-classification", "regression"}),
    frozenset({"sft", "prompt-completion", "messages", "text"}),
    frozenset({"dpo", "orpo", "cpo", "reward", "kto"}),
    frozenset({"grpo", "rloo", "distillation"}),
)
"""Tasks whose rows suit each other's methods."""


def follow_method(document: dict[str, Any]) -> dict[str, Any]:
    """A job.yaml in which `data` says what its `training` implies.

    The task is the method (or regression), where no task is given; and a second text of a pair,
    which preparation calls `text_pair`, is the classifier's.
    """
    data, training = document.get("data"), document.get("training") or {}
    if not isinstance(data, dict) or not isinstance(training, dict):
        return document
    method = training.get("method", "text-classification")
    given = training.get("hyperparameters") or {}
    if not isinstance(given, dict):
        return document
    if method in get_args(Task) and data.get("task") is None:
        measure = given.get("problem_type") == "regression" or given.get("num_labels") in (1, "1")
        regression = method == "text-classification" and measure
        data = data | {"task": "regression" if regression else method}
    columns = data.get("columns")
    paired = isinstance(columns, dict) and columns.get("text_pair") is not None
    if paired and method == "text-classification":
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
