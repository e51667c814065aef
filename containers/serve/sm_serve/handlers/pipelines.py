"""Tasks of Hugging Face's pipelines that are made of another task's answers.

Zero-shot classification asks a model of entailment about each label; sentence similarity compares
vectors. Results as of the pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sm_serve.errors import BadInput, BadRequest, placing
from sm_serve.schemas.encoder_fields import ZERO_SHOT
from sm_serve.schemas.fields import Values
from sm_serve.schemas.ranking import cosine

Predict = Callable[[Sequence[Any], Mapping[str, Any]], Awaitable[list[Any]]]
TEMPLATE = "This example is {}."
LABELS = "candidate_labels"
SOURCE, SENTENCES = "source_sentence", "sentences"


async def classify_zero_shot(
    predict: Predict, inputs: Sequence[Any], parameters: Mapping[str, Any], most: int
) -> list[Any]:
    """{"sequence", "labels", "scores"} an input, as transformers' pipeline computes them.

    `most` bounds texts times labels. Raises BadRequest.
    """
    fields = Values(ZERO_SHOT, parameters, "parameters.", "zero-shot-classification")
    labels = read_labels(fields)
    template = fields.get("hypothesis_template", TEMPLATE)
    if "{}" not in template:
        raise fields.wrong("hypothesis_template", template, "write {} where the label belongs")
    if len(inputs) * len(labels) > most:
        raise BadRequest(
            f"{len(inputs)} texts times {len(labels)} labels are over {most}: send fewer",
            code="too_many_items",
        )
    for index, text in enumerate(inputs):
        if not isinstance(text, str) or not text:
            raise BadInput(index, ": give a text")
    pairs = [
        {"text": text, "text_pair": template.replace("{}", label)}
        for text in inputs
        for label in labels
    ]
    options = {"return_all_scores": True, "function_to_apply": "none", "truncation": "only_first"}
    with placing(lambda pair: (pair // len(labels), "")):
        rows = await predict(pairs, options)
    entails, contradicts = find_entailment([entry["label"] for entry in rows[0]])
    alone = fields.flag("multi_label") or len(labels) == 1
    results = []
    for number, text in enumerate(inputs):
        mine = rows[number * len(labels) : (number + 1) * len(labels)]
        logits = [row[entails]["score"] for row in mine]
        if alone:
            scores = [
                softmax([row[contradicts]["score"], row[entails]["score"]])[1] for row in mine
            ]
        else:
            scores = softmax(logits)
        order = sorted(range(len(labels)), key=lambda index: -scores[index])
        results.append(
            {
                "sequence": text,
                "labels": [labels[i] for i in order],
                "scores": [scores[i] for i in order],
            }
        )
    return results


def read_labels(fields: Values) -> list[str]:
    """Labels as a list, or as one text with commas."""
    value = fields.get(LABELS)
    labels = value.split(",") if isinstance(value, str) else value
    labels = [label.strip() if isinstance(label, str) else label for label in labels or ()]
    if not labels or not all(isinstance(label, str) and label for label in labels):
        raise fields.wrong(LABELS, value, "give labels as a list of texts, none empty")
    return labels


def find_entailment(names: Sequence[str]) -> tuple[int, int]:
    """Places of entailment and contradiction among a model's labels."""
    matches = [index for index, name in enumerate(names) if name.lower().startswith("entail")]
    if not matches:
        raise BadRequest(
            f"parameters.{LABELS}: the model's labels are {', '.join(names)[:200]}, and zero-shot"
            " classification needs one that begins with entail"
        )
    return matches[0], len(names) - 1 if matches[0] == 0 else 0


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities of logits."""
    peak = max(logits)
    powers = [math.exp(value - peak) for value in logits]
    return [power / sum(powers) for power in powers]


def asks_similarity(inputs: Sequence[Any]) -> bool:
    """Whether the inputs are of sentence similarity."""
    return any(isinstance(item, dict) and SOURCE in item for item in inputs)


async def compare_sentences(
    predict: Predict, inputs: Sequence[Any], parameters: Mapping[str, Any]
) -> list[Any]:
    """For each {"source_sentence", "sentences"} the cosine of each sentence with the source."""
    results = []
    for index, item in enumerate(inputs):
        source, others = item.get(SOURCE), item.get(SENTENCES)
        right = isinstance(others, list) and others and set(item) == {SOURCE, SENTENCES}
        if not right or not all(isinstance(text, str) and text for text in (source, *others)):
            raise BadInput(
                index, f': give {{"{SOURCE}": text, "{SENTENCES}": [text, ...]}}, none empty'
            )
        with placing(partial(_place_of_sentence, index)):
            first, *rest = await predict([source, *others], parameters)
        results.append([cosine(first, vector) for vector in rest])
    return results


def _place_of_sentence(owner: int, index: int) -> tuple[int, str]:
    return owner, f".{SENTENCES}[{index - 1}]" if index else f".{SOURCE}"
