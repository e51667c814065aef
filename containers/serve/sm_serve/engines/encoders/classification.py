"""Sequence classification, in the result format of Hugging Face's text-classification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.artefact.adapter_head import Head
from sm_serve.engines import offload
from sm_serve.engines.encoders.base import Tokens
from sm_serve.engines.encoders.labels import LabelEngine
from sm_serve.errors import BadRequest
from sm_serve.protocol import Task

LABEL_WORK = 50
"""What an answer costs, in characters of text."""
ACTIVATIONS = ("softmax", "sigmoid", "none")


class ClassificationEngine(LabelEngine):
    """Labels with scores. Parameters: top_k, function_to_apply, and those of the tokenizer.

    `return_all_scores` is the pipeline's older word for all labels, in the model's order.
    """

    task = Task.TEXT_CLASSIFICATION
    learnt_as = ("text-classification", "reranking")

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """{"label", "score"} an input, or a list of them, best first, when top_k is given."""
        head: Head = self.profile(adapter)
        top_k = read_top_k(parameters, len(head.labels))
        default = default_activation(head.problem_type, len(head.labels))
        activation = parameters.get("function_to_apply") or default
        activation = activation.lower() if isinstance(activation, str) else activation
        if activation not in ACTIVATIONS:
            raise BadRequest(
                f"parameters.function_to_apply={activation!r}: give one of {', '.join(ACTIVATIONS)}"
            )
        rows = await self.submit(inputs, parameters, adapter)
        ranked = not parameters.get("return_all_scores") or "top_k" in parameters

        def answers() -> list[Any]:
            return [
                rank(activate(row, activation), head.labels, top_k, ranked=ranked) for row in rows
            ]

        return await offload.run(len(rows) * LABEL_WORK, answers)

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """The logits of each item."""
        rows: list[Any] = output.logits.float().tolist()
        return rows


def rank(scores: Sequence[float], labels: Sequence[str], top_k: int | None, *, ranked: bool) -> Any:
    """The best label with its score; a list of several where top_k is given, best first."""
    if top_k is None:
        best = max(range(len(scores)), key=scores.__getitem__)
        return {"label": labels[best], "score": scores[best]}
    order = list(range(len(scores)))
    if ranked:
        order.sort(key=scores.__getitem__, reverse=True)
    return [{"label": labels[i], "score": scores[i]} for i in order[:top_k]]


def default_activation(problem_type: str | None, labels: int) -> str:
    """As Hugging Face's pipeline chooses it."""
    if problem_type == "regression":
        return "none"
    if problem_type == "multi_label_classification" or labels == 1:
        return "sigmoid"
    return "softmax"


def read_top_k(parameters: Mapping[str, Any], labels: int) -> int | None:
    """How many labels to list; None for the best alone. An explicit null means all labels."""
    if "top_k" not in parameters:
        return labels if parameters.get("return_all_scores") else None
    value = parameters["top_k"]
    if value is None:
        return labels
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest(f"parameters.top_k={value!r}: give a whole number from 1, or null for all")
    return min(value, labels)


def activate(logits: list[float], activation: str) -> list[float]:
    """Scores of one input's logits."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        return [1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
                for x in logits]  # fmt: skip
    peak = max(logits)
    powers = [math.exp(x - peak) for x in logits]
    total = sum(powers)
    return [power / total for power in powers]
