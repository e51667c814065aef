"""The tasks that can be evaluated, by the name that job.yaml and the report give them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.tasks.generation import TextGeneration
from sm_launch.job.tasks import TASKS as METHODS


def _declared() -> dict[str, type[Task]]:
    names = (each.name for each in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    kinds = [module.TASK for module in modules if hasattr(module, "TASK")]
    return {kind.name: kind for kind in kinds}


TASKS: Mapping[str, type[Task]] = _declared()
"""Every task, by its own name: a file of this folder declares its TASK."""

__all__ = ["TASKS", "Statistic", "Task", "kind_of", "make_task", "task_of_method"]


def kind_of(name: str) -> type[Task]:
    """What is known of a task by its name; of one that there is no more, what holds for all."""
    return TASKS.get(name, Task)


def make_task(
    name: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    columns: Sequence[str] = (),
    pair_column: str | None = None,
    known_labels: Sequence[str] = (),
    answer_pattern: str | None = None,
) -> Task:
    """A task by name.

    Args:
        name: a key of TASKS.
        text_column: column of the input; default: the task's own.
        label_column: column of the expected answer; default: the task's own.
        labels: order of the labels in tables.
        parameters: sent with each request (`max_new_tokens`, …).
        columns: the columns of the data, from which some tasks choose their default.
        pair_column: column of the second text of a pair (text-classification).
        known_labels: the model's classes in the order of their ids, which numbers in the data name.
        answer_pattern: what is taken out of generated text before exact match.

    Raises:
        UserInputError: there is no such task, or it generates no text to take an answer from.
    """
    extra = {"answer_pattern": answer_pattern} if answer_pattern is not None else {}
    if extra and not issubclass(TASKS.get(name, Task), TextGeneration):
        raise UserInputError(
            f"the task {name} generates no text",
            field="evaluation.answer_pattern",
            value=answer_pattern,
            fix="remove it",
        )
    if name not in TASKS:
        raise UserInputError(
            "this task cannot be evaluated",
            field="evaluation.task",
            value=name,
            fix=f"choose one of {', '.join(TASKS)}",
        )
    return TASKS[name](
        text_column=text_column,
        label_column=label_column,
        labels=labels,
        parameters=parameters or {},
        data_columns=columns,
        pair_column=pair_column,
        known_labels=known_labels,
        **extra,
    )


def task_of_method(method: str) -> str:
    """The task that a model trained with this method serves."""
    facts = METHODS.get(method)  # none for a script of the user's
    return facts.evaluation if facts else "text-generation"
