"""Every layer knows the same tasks by the same names, each declared in a file of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sm_launch.commands.deploy import _trial
from sm_launch.commands.invoke import _body
from sm_launch.evaluation import tasks as evaluated
from sm_launch.job.config import JobConfig
from sm_launch.job.tasks import EVALUATED, TASKS
from sm_serve.engines.encoders.base import split_pairs
from sm_serve.engines.encoders.question_answering import read_question
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


@pytest.mark.parametrize(
    ("training", "pair", "parameters"),
    [
        ({"method": "sft"}, False, None),
        ({"method": "token-classification"}, False, {"aggregation_strategy": "first"}),
        ({"hyperparameters": {"problem_type": "multi_label_classification"}}, False,
         {"top_k": None}),
        ({"hyperparameters": {"text_pair_column": "second"}}, True, None),
        ({"method": "reranking"}, True, None),
    ],
)  # fmt: skip
def test_what_deploy_says_to_try_is_what_the_model_takes(
    training: dict[str, Any], pair: bool, parameters: Any
) -> None:
    body = _asked(training)
    first, second = split_pairs([body["inputs"]])
    assert (bool(first[0]), second is not None) == (True, pair)
    assert body.get("parameters") == parameters


def test_a_question_is_tried_with_its_context() -> None:
    assert all(read_question(_asked({"method": "question-answering"})["inputs"], 0))


def _asked(training: dict[str, Any]) -> dict[str, Any]:
    """The body that `invoke` sends with what `deploy` says."""
    arguments = _trial(JobConfig.model_validate({"name": "a", "training": training}))
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    given = (options.get(name) for name in ("--text", "--inputs"))
    body, _ = _body(*given, None, options.get("--parameters"), stream=False)
    asked: dict[str, Any] = json.loads(body)
    return asked
