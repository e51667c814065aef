"""What the launcher knows of each task: one line here.

Its rows are in `data/shapes.py`, its measures in `evaluation/tasks/`; who trains and serves it are
the containers' own `methods/` and `engines/`. `data.task` follows from `training.method`: nobody
says the same thing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Task = Literal[
    "text-classification", "multi-label-classification", "regression", "token-classification",
    "question-answering", "embedding",
    "sft", "prompt-completion", "messages", "text", "dpo", "orpo", "cpo", "kto", "reward",
    "grpo", "rloo", "distillation",
]  # fmt: skip
"""The training methods, and tasks that only say how rows look."""
EvaluationTask = Literal[
    "text-classification",
    "multi-label-classification",
    "text-regression",
    "question-answering",
    "text-generation",
    "token-classification",
    "embedding",
    "reward",
]

MULTI_LABEL: Literal["multi-label-classification"] = "multi-label-classification"
_OF_PROBLEM: Mapping[Any, Task] = {
    "regression": "regression",
    "multi_label_classification": MULTI_LABEL,
}
"""transformers' `problem_type` to what the rows of text-classification are then."""
_ENCODER, _DECODER = "distilbert-base-uncased", "Qwen/Qwen3-0.6B"
_SENTENCES = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class TaskFacts:
    """What other rooms need to know of a task.

    Attributes:
        rows: tasks whose rows are of one kind suit each other's methods.
        evaluation: what a model that was trained for it is asked.
        base: a base model for a first try.
        one_text: rows are texts as they stand, which lose line breaks and length and stay true.
    """

    rows: str
    evaluation: EvaluationTask = "text-generation"
    base: str = _DECODER
    one_text: bool = False

    @property
    def encoder(self) -> bool:
        """Whether an encoder is trained: small, and for several epochs."""
        return self.base != _DECODER


TASKS: Mapping[str, TaskFacts] = {
    "text-classification": TaskFacts("labelled", "text-classification", _ENCODER, True),
    MULTI_LABEL: TaskFacts("labelled", MULTI_LABEL, _ENCODER, True),
    "regression": TaskFacts("labelled", "text-regression", _ENCODER, True),
    "token-classification": TaskFacts("tagged", "token-classification", _ENCODER),
    "question-answering": TaskFacts("questions", "question-answering", _ENCODER),
    "embedding": TaskFacts("pairs", "embedding", _SENTENCES),
    "sft": TaskFacts("answers"),
    "prompt-completion": TaskFacts("answers"),
    "messages": TaskFacts("answers"),
    "text": TaskFacts("answers", one_text=True),
    "dpo": TaskFacts("preferences"),
    "orpo": TaskFacts("preferences"),
    "cpo": TaskFacts("preferences"),
    "kto": TaskFacts("preferences"),
    "reward": TaskFacts("preferences", "reward"),
    "grpo": TaskFacts("prompts"),
    "rloo": TaskFacts("prompts"),
    "distillation": TaskFacts("prompts"),
}


def classifier_task(hyperparameters: Mapping[str, Any]) -> Task:
    """What the rows of the method text-classification are, by its problem_type."""
    task = _OF_PROBLEM.get(hyperparameters.get("problem_type"))
    if task is None and hyperparameters.get("num_labels") in (1, "1"):
        return "regression"
    return task or "text-classification"


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
    if method in get_args(Task) and data.get("task") is None:
        task = classifier_task(given) if method == "text-classification" else method
        data = data | {"task": task}
    columns = data.get("columns")
    paired = isinstance(columns, dict) and columns.get("text_pair") is not None
    if paired and method == "text-classification":
        implied = {"text_pair_column": "text_pair"} | given
        training = training | {"hyperparameters": implied}
        return document | {"data": data, "training": training}
    return document | {"data": data}


def misfit(task: Task, method: str, hyperparameters: Mapping[str, Any]) -> str | None:
    """Why the rows of a task are of no use to a method; None where they are."""
    learns = classifier_task(hyperparameters) if method == "text-classification" else method
    if task != learns and MULTI_LABEL in (task, learns) and method == "text-classification":
        return (
            f"data.task {task} does not go with training.hyperparameters.problem_type "
            f"{hyperparameters.get('problem_type')}: leave data.task out, and set problem_type to "
            "multi_label_classification where cells are lists of labels"
        )
    if method not in get_args(Task) or task == method:
        return None
    if TASKS[task].rows == TASKS[method].rows:
        return None
    return (
        f"data.task {task} prepares rows that the method {method} cannot learn from: "
        "leave data.task out, and it follows from training.method"
    )
