"""The adapter of a classifier: its task, and the head it brings for a base model without one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_serve.artefact.model_files import read_json
from sm_serve.artefact.thresholds import read_thresholds
from sm_serve.errors import StartupError
from sm_serve.protocol import Task
from sm_serve.tasks import by_adapter_type, declared, heads

logger = logging.getLogger(__name__)

HEADS = ("out_proj.weight", "classifier.weight", "score.weight", "qa_outputs.weight")
"""Last layers of heads; that of a RoBERTa is classifier.out_proj."""
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of the base model's modules."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the values that a classifier's head gives are called, and how they become scores."""

    labels: tuple[str, ...]
    problem_type: str | None = None
    thresholds: tuple[float, ...] | None = None
    """Of each label; None for the largest score, or 0.5 where a text may have several."""


def task_of(config: Mapping[str, Any]) -> Task | None:
    """The task that an adapter's config says it was trained for."""
    named = config.get("task_type")
    return by_adapter_type().get(named) if isinstance(named, str) else None


def is_headed(config: Mapping[str, Any], task: Task) -> bool:
    """Whether a model's own architecture has the head of the task."""
    return _ends_with(config, heads()[task])


def has_another_head(config: Mapping[str, Any], task: Task) -> bool:
    """Whether it has that of another task, whose weights may have the same names."""
    others = {*heads().values(), "ForMultipleChoice"} - {heads()[task]}
    return not is_headed(config, task) and any(_ends_with(config, other) for other in others)


def _ends_with(config: Mapping[str, Any], suffix: str) -> bool:
    return any(str(name).endswith(suffix) for name in config.get("architectures") or [])


def head_options(path: Path, config: dict[str, Any], task: Task) -> dict[str, Any]:
    """Keywords of from_pretrained by which the base model gets the head that the adapter fills.

    Raises StartupError where neither has one, as a random one would answer.
    """
    if task not in heads() or not declared()[task].adapted_head:
        return {}
    headed = is_headed(config, task)
    size = head_size(path)
    if size is None and not headed:
        raise StartupError(
            f"{path} is an adapter for {task} without a head, and its base model has none: train"
            " with modules_to_save naming the classifier, or merge before deploying"
        )
    if not declared()[task].labelled:
        return {}
    base = Head(read_labels(config) or (), config.get("problem_type"))
    if size is None and not base.labels:
        return {}
    head = read_head(path, size, base)
    if headed and (head.labels, head.problem_type) == (base.labels, base.problem_type):
        return {}
    return {
        "id2label": dict(enumerate(head.labels)),
        "label2id": {label: index for index, label in enumerate(head.labels)},
        "problem_type": head.problem_type,
        # The base model's own head may be one of another size.
        "ignore_mismatched_sizes": True,
    }


def read_head(path: Path, size: int | None, base: Head) -> Head:
    """The head that answers with an adapter: its own names where it brings them.

    `size` is that of the head it brings, None for none. Raises StartupError for a bad file.
    """
    wanted = size or len(base.labels)
    file = path / "config.json"
    if file.is_file():
        own = read_json(file)
        labels = read_labels(own) or ()
        head = Head(labels, own.get("problem_type"), read_thresholds(own, labels))
    else:
        head = base
    if len(head.labels) == wanted:
        return head
    logger.warning(
        "%s does not name its %d labels: they are LABEL_0 and so on, until a config.json with their"
        " id2label is put beside it",
        path,
        wanted,
    )
    return Head(tuple(f"LABEL_{index}" for index in range(wanted)), head.problem_type)


def read_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names in a model's config, in the order of their numbers; None where it has none."""
    names = config.get("id2label")
    if not names:
        return None
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
        return tuple(by_number[number] for number in range(len(names)))
    except (AttributeError, ValueError, KeyError) as error:
        raise StartupError(
            f"config.json: id2label={str(names)[:60]} must map the numbers from 0 on to names"
        ) from error


def head_size(path: Path) -> int | None:
    """How many values the adapter's own head gives, None where it has none."""
    saved = _saved_shapes(path)
    for ending in HEADS:
        for key, shape in saved.items():
            if key.endswith(f".{ending}"):
                return shape[0]
    return None


def saved_names(path: Path) -> set[str]:
    """The model's parameters that the adapter brings in full."""
    return {key.removeprefix(PREFIX) for key in _saved_shapes(path)}


def _saved_shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / WEIGHTS, framework="numpy") as tensors:
            names = [key for key in tensors.keys() if "lora_" not in key]  # noqa: SIM118
            return {name: list(tensors.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        raise StartupError(
            f"{path / WEIGHTS} is missing or damaged: save the adapter again"
        ) from error
