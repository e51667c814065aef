"""The tasks of the launcher: one file each, which declares how rows look and what is asked.

Measures are in `evaluation/tasks/`; who trains and serves a task are the containers' own `methods/`
and `tasks/`. `data.task` follows from `training.method`: nobody says the same thing twice.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from sm_launch.job.tasks.declaration import Declaration, Kind, Shape

__all__ = [
    "EVALUATED", "MULTI_LABEL", "TASKS", "Declaration", "EvaluationTask", "Kind", "NamedTask",
    "Shape", "Task", "classifier_task", "follow_method", "misfit", "trial",
]  # fmt: skip

Task = str
"""A training method, or a task that only says how rows look: a key of TASKS."""
MULTI_LABEL = "multi-label-classification"


def _declared() -> dict[str, Declaration]:
    names = (each.name for each in pkgutil.iter_modules(__path__))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {
        name.replace("_", "-"): module.TASK
        for name, module in modules.items()
        if hasattr(module, "TASK")
    }


TASKS: Mapping[Task, Declaration] = _declared()
"""Every task, by its file's name."""
EVALUATED = tuple(sorted({each.evaluation for each in TASKS.values()}))
"""What models are asked."""


def _one_of(known: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"should be one of {', '.join(known)}{hint}")
        return name

    return AfterValidator(check)


def _schema_of(known: Collection[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(known)})


NamedTask = Annotated[str, _one_of(TASKS), _schema_of(TASKS)]
EvaluationTask = Annotated[str, _one_of(EVALUATED), _schema_of(EVALUATED)]


def classifier_task(hyperparameters: Mapping[str, Any]) -> Task:
    """What the rows of the method text-classification are, by its problem_type."""
    given = hyperparameters.get("problem_type")
    if given is None and hyperparameters.get("num_labels") in (1, "1"):
        given = "regression"
    of_problem: dict[Any, Task] = {
        each.problem_type: name for name, each in TASKS.items() if each.problem_type
    }
    return of_problem.get(given, "text-classification")


def follow_method(document: dict[str, Any]) -> dict[str, Any]:
    """A job.yaml in which `data` says what its `training` implies.

    The task is the method, or what a classifier's problem_type makes of it, where none is given;
    and a second text of a pair, which preparation calls `text_pair`, is the classifier's.
    """
    data, training = document.get("data"), document.get("training") or {}
    if not isinstance(data, dict) or not isinstance(training, dict):
        return document
    method = training.get("method", "text-classification")
    given = training.get("hyperparameters") or {}
    if not isinstance(given, dict):
        return document
    if method in TASKS and data.get("task") is None:
        task = classifier_task(given) if method == "text-classification" else method
        data = data | {"task": task}
    data = _in_groups(data)
    columns = data.get("columns")
    paired = isinstance(columns, dict) and columns.get("text_pair") is not None
    if paired and method == "text-classification":
        implied = {"text_pair_column": "text_pair"} | given
        training = training | {"hyperparameters": implied}
        return document | {"data": data, "training": training}
    return document | {"data": data}


def _in_groups(data: dict[str, Any]) -> dict[str, Any]:
    """`data` whose split keeps together what the task compares: the documents of a query."""
    task, split, columns = (data.get(key) or {} for key in ("task", "split", "columns"))
    group = TASKS[task].group if isinstance(task, str) and task in TASKS else None
    if group is None or not isinstance(split, dict) or not isinstance(columns, dict):
        return data
    if "group" in split or split.get("time") is not None:
        return data
    return data | {"split": {**split, "group": columns.get(group, group)}}


def trial(
    method: str, hyperparameters: Mapping[str, Any]
) -> tuple[str | Mapping[str, str], Mapping[str, Any] | None]:
    """What a model that was trained so can be asked, to see whether it answers, and parameters."""
    learns = classifier_task(hyperparameters) if method == "text-classification" else method
    task = TASKS.get(learns, TASKS["text-classification"])
    if method == "text-classification" and hyperparameters.get("text_pair_column"):
        pair = {"text": "Ann wrote it in Rome.", "text_pair": "Ann was in Rome."}
        return pair, task.trial_parameters
    return task.trial, task.trial_parameters


def misfit(task: Task, method: str, hyperparameters: Mapping[str, Any]) -> str | None:
    """Why the rows of a task are of no use to a method; None where they are."""
    learns = classifier_task(hyperparameters) if method == "text-classification" else method
    if task != learns and MULTI_LABEL in (task, learns) and method == "text-classification":
        return (
            f"data.task {task} does not go with training.hyperparameters.problem_type "
            f"{hyperparameters.get('problem_type')}: leave data.task out, and set problem_type to "
            "multi_label_classification where cells are lists of labels"
        )
    if method not in TASKS or task == method:
        return None
    if TASKS[task].rows == TASKS[method].rows:
        return None
    return (
        f"data.task {task} prepares rows that the method {method} cannot learn from: "
        "leave data.task out, and it follows from training.method"
    )
