"""Every layer knows the same tasks by the same names, each declared in a file of its own."""

from __future__ import annotations

from sm_launch.evaluation import tasks as evaluated
from sm_launch.job.tasks import EVALUATED, TASKS
from sm_train.methods import METHODS, load_method

ONLY_ROWS = {"multi-label-classification", "regression", "prompt-completion", "messages", "text"}
"""They say how rows look; the methods text-classification and sft train with them."""


def test_each_training_method_is_a_task_and_each_task_has_rows_and_measures() -> None:
    trained = {name for name in METHODS if load_method(name).trains}
    assert set(TASKS) == trained | ONLY_ROWS
    assert all(each.shapes for each in TASKS.values())
    assert set(evaluated.TASKS) == set(EVALUATED)
    methods = {kind.trained_by for kind in evaluated.TASKS.values()} - {""}
    assert methods <= trained


def test_a_problem_type_says_one_thing() -> None:
    given = [each.problem_type for each in TASKS.values() if each.problem_type]
    assert len(given) == len(set(given)) > 1


def test_rows_of_one_kind_have_one_form_in_common() -> None:
    for kind in {each.rows for each in TASKS.values()}:
        names = [task for task, each in TASKS.items() if each.rows == kind]
        required = [{frozenset(shape.required) for shape in TASKS[task].shapes} for task in names]
        widest = set().union(*required)
        assert any(forms == widest for forms in required), kind
