"""Sequence classification, in the result format of Hugging Face's text-classification."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sm_serve.artefact.adapter_head import Head
from sm_serve.artefact.thresholds import MULTI_LABEL, USUAL
from sm_serve.engines import offload
from sm_serve.engines.encoders.base import Tokens
from sm_serve.engines.encoders.labels import LabelEngine
from sm_serve.errors import BadRequest
from sm_serve.protocol import Task

LABEL_WORK = 50
"""What an answer costs, in characters of text."""
Choice = Callable[[list[float], list[float]], int | list[int]]
"""From logits and scores to the place of a label, or of several."""
ACTIVATIONS = ("softmax", "sigmoid", "none")


class ClassificationEngine(LabelEngine):
    """Labels with scores. Parameters: see encoder_fields.py.

    Which label is best, its thresholds say where the model has some for one class a text. With
    `apply_threshold` the answer is the labels that the text has by them. `return_all_scores` is the
    pipeline's older word for all labels, in the model's order.
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
        choose = read_choice(parameters, head, top_k)
        rows = await self.submit(inputs, parameters, adapter)

        def answers() -> list[Any]:
            scored = [(row, activate(row, activation)) for row in rows]
            return [named(scores, head.labels, choose(row, scores)) for row, scores in scored]

        return await offload.run(len(rows) * LABEL_WORK, answers)

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """The logits of each item."""
        rows: list[Any] = output.logits.float().tolist()
        return rows


def read_choice(parameters: Mapping[str, Any], head: Head, top_k: int | None) -> Choice:
    """How the label that is answered is chosen, or several, best first.

    `top_k`: how many at most; None for the best alone.
    """
    everything = parameters.get("return_all_scores") and "top_k" not in parameters
    if parameters.get("apply_threshold"):
        if everything:
            raise BadRequest("parameters.apply_threshold and return_all_scores exclude each other")
        return lambda logits, scores: decided(logits, scores, head)[:top_k]
    if everything:
        return lambda logits, _: list(range(len(logits)))
    if top_k is None:
        return lambda logits, scores: best(rates(logits, scores, head))
    return lambda logits, scores: ordered(rates(logits, scores, head))[:top_k]


def rates(logits: list[float], scores: list[float], head: Head) -> list[float]:
    """What labels are ordered by: their scores; a class's share by its threshold if it has one."""
    if head.thresholds is None or head.problem_type == MULTI_LABEL:
        return scores
    shares = activate(logits, "softmax")
    return [share / limit for share, limit in zip(shares, head.thresholds, strict=True)]


def best(values: Sequence[float]) -> int:
    """The place of the largest value."""
    return max(range(len(values)), key=values.__getitem__)


def ordered(values: Sequence[float]) -> list[int]:
    """Places, the largest value first."""
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)


def decided(logits: list[float], scores: list[float], head: Head) -> list[int]:
    """The labels of a text, best first: those that reach their threshold, or the one class."""
    places = ordered(rates(logits, scores, head))
    if head.problem_type != MULTI_LABEL:
        return places[:1]
    limits = head.thresholds or [USUAL] * len(logits)
    reached = activate(logits, "sigmoid")
    return [place for place in places if reached[place] >= limits[place]]


def named(scores: Sequence[float], labels: Sequence[str], chosen: int | list[int]) -> Any:
    """{"label", "score"} of a label, or a list of them."""
    if isinstance(chosen, int):
        return {"label": labels[chosen], "score": scores[chosen]}
    return [{"label": labels[place], "score": scores[place]} for place in chosen]


def default_activation(problem_type: str | None, labels: int) -> str:
    """As Hugging Face's pipeline chooses it."""
    if problem_type == "regression":
        return "none"
    if problem_type == MULTI_LABEL or labels == 1:
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
