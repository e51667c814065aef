"""The adapter of a classifier: its task, and the head it brings for a base model without one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sm_serve.engines.protocol import Task
from sm_serve.errors import StartupError

logger = logging.getLogger(__name__)

TASK_TYPES = {
    "SEQ_CLS": Task.TEXT_CLASSIFICATION,
    "TOKEN_CLS": Task.TOKEN_CLASSIFICATION,
    "QUESTION_ANS": Task.QUESTION_ANSWERING,
    "FEATURE_EXTRACTION": Task.EMBEDDING,
    "CAUSAL_LM": Task.TEXT_GENERATION,
    "SEQ_2_SEQ_LM": Task.TEXT_GENERATION,
}
"""PEFT's task_type in adapter_config.json: the base model's own architecture may lack the head."""
SUFFIXES = {
    Task.TEXT_CLASSIFICATION: "ForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "ForTokenClassification",
    Task.QUESTION_ANSWERING: "ForQuestionAnswering",
}
HEADS = ("out_proj.weight", "classifier.weight", "score.weight", "qa_outputs.weight")
"""Last layers of heads; that of a RoBERTa is classifier.out_proj."""


def head_options(path: Path, config: dict[str, Any], task: Task) -> dict[str, Any]:
    """Keywords of from_pretrained by which the base model gets the head that the adapter fills.

    Raises StartupError where neither has one, as a random one would answer.
    """
    suffix = SUFFIXES.get(task)
    if suffix is None:
        return {}
    headed = any(str(name).endswith(suffix) for name in config.get("architectures") or [])
    size = _head_size(path)
    if size is None:
        if headed:
            return {}
        raise StartupError(
            f"{path} is an adapter for {task} without a head, and its base model has none: train"
            " with modules_to_save naming the classifier, or merge before deploying"
        )
    if task is Task.QUESTION_ANSWERING:
        return {}
    labels = config.get("id2label") or {}
    if headed and len(labels) == size:
        return {}
    if len(labels) != size:
        logger.warning(
            "%s does not name its %d labels: they are LABEL_0 and so on, until the base model's"
            " config.json has an id2label",
            path,
            size,
        )
        labels = {index: f"LABEL_{index}" for index in range(size)}
    names = {int(index): str(label) for index, label in labels.items()}
    return {"id2label": names, "label2id": {label: index for index, label in names.items()}}


def _head_size(path: Path) -> int | None:
    """How many values the adapter's own head gives, None where it has none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / "adapter_model.safetensors", framework="numpy") as tensors:
            saved = [key for key in tensors.keys() if "lora_" not in key]  # noqa: SIM118
            for ending in HEADS:
                for key in saved:
                    if key.endswith(f".{ending}"):
                        return int(tensors.get_slice(key).get_shape()[0])
    except (OSError, SafetensorError) as error:
        raise StartupError(
            f"{path / 'adapter_model.safetensors'} is missing or damaged: save the adapter again"
        ) from error
    return None
