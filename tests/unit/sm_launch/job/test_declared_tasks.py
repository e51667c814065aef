"""Every layer knows the same tasks by the same names."""

from __future__ import annotations

from typing import get_args

from sm_launch.data.shapes import shapes
from sm_launch.evaluation import tasks as evaluated
from sm_launch.job.tasks import TASKS, EvaluationTask, Task
from sm_train.methods import METHODS, load_method

ONLY_ROWS = {"regression", "prompt-completion", "messages", "text"}
"""They say how rows look; the methods text-classification and sft train with them."""


def test_each_training_method_is_a_task_and_each_task_has_rows_and_measures() -> None:
    methods = {name for name in METHODS if load_method(name).trains}
    assert set(TASKS) == set(get_args(Task)) == methods | ONLY_ROWS
    assert all(shapes(task) for task in get_args(Task))
    assert set(evaluated.TASKS) == set(get_args(EvaluationTask))
    assert {facts.evaluation for facts in TASKS.values()} == set(evaluated.TASKS)


def test_rows_of_one_kind_have_one_form_in_common() -> None:
    for kind in {facts.rows for facts in TASKS.values()}:
        names = [task for task in get_args(Task) if TASKS[task].rows == kind]
        required = [{frozenset(shape.required) for shape in shapes(task)} for task in names]
        widest = set().union(*required)
        assert any(forms == widest for forms in required), kind
