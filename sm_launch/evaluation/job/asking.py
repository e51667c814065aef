"""What a model is asked in an evaluation: job.yaml, the artefact and its training say it."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sm_launch import evaluation
from sm_launch.job.config import JobConfig
from sm_launch.job.tasks import classifier_task
from sm_launch.target.context import JobContext


def task_of(
    config: JobConfig,
    rows: Sequence[Mapping[str, Any]],
    artefact: evaluation.Artefact | None,
) -> evaluation.Task:
    """What is asked, and how: as job.yaml says, else as the artefact does, else as its training."""
    wanted = config.evaluation
    name = wanted.task or _task_of(config, artefact)
    kind = evaluation.TASKS[name]
    told = artefact.asked(kind.trained_by or name) if artefact else ({}, {})
    parameters, columns = told if any(told) else ({}, _columns_of_training(config, kind))
    known: set[str] = set().union(*rows)
    text = columns.get("text", columns.get("question", columns.get("tokens")))
    return evaluation.make_task(
        name,
        text_column=wanted.text_column or _if_in(text, known),
        label_column=wanted.label_column or _if_in(columns.get("label"), known),
        parameters={**parameters, **wanted.parameters},
        columns=list(rows[0]),
        pair_column=wanted.text_pair_column or columns.get("text_pair"),
        known_labels=artefact.labels if artefact else (),
        answer_pattern=wanted.answer_pattern,
    )


def artefact_of(context: JobContext, model: str) -> tuple[evaluation.Artefact | None, str]:
    """A model's artefact, or why it was not read."""
    try:
        artefact = evaluation.read_artefact(model, context.clients)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        return None, str(error)
    return artefact, "" if artefact else "there is none"


def _task_of(config: JobConfig, artefact: evaluation.Artefact | None) -> str:
    """What the method trains for; a classifier's problem_type says whether classes are several."""
    name = evaluation.task_of_method(config.training.method)
    if not evaluation.TASKS[name].calibrated:
        return name
    said: Mapping[str, Any] = config.training.hyperparameters
    if artefact is not None:
        said = {"problem_type": artefact.config.get("problem_type")}
    return evaluation.task_of_method(classifier_task(said))


def _if_in(column: str | None, known: Collection[str]) -> str | None:
    """The column where the data has it: prepared data may go by the task's own names."""
    return column if column in known else None


def _columns_of_training(config: JobConfig, kind: type[evaluation.Task]) -> dict[str, str]:
    """The columns that job.yaml names for training, by the names of the pipeline's inputs."""
    if config.training.method != (kind.trained_by or kind.name):
        return {}
    given = config.training.hyperparameters
    names = {
        "text": kind.text_key,
        "text_pair": "text_pair_column",
        "tokens": "tokens_column",
        "label": kind.label_key,
    }
    return {ours: str(given[key]) for ours, key in names.items() if given.get(key)}
