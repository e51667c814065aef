"""Token classification (NER), in the result format of Hugging Face's pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.config import Settings
from sm_serve.engines.encoder import EncoderEngine, Tokens
from sm_serve.engines.protocol import Task
from sm_serve.errors import BadRequest

STRATEGIES = ("none", "simple")


class TokenClassificationEngine(EncoderEngine):
    """Entities an input. Parameters: aggregation_strategy (none, simple), ignore_labels."""

    task = Task.TOKEN_CLASSIFICATION

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        self.labels: list[str] = [
            str(model.config.id2label[index]) for index in range(model.config.num_labels)
        ]
        super().__init__(model, tokenizer, settings)

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """A list of entities an input, each with its place in the text."""
        unknown = sorted(set(parameters) - {"aggregation_strategy", "ignore_labels"})
        if unknown:
            raise BadRequest(f"parameters.{unknown[0]} is unknown to token-classification")
        strategy = parameters.get("aggregation_strategy") or "none"
        ignored = parameters.get("ignore_labels", ["O"])
        if strategy not in STRATEGIES:
            raise BadRequest(
                f"parameters.aggregation_strategy={strategy!r}: give one of {', '.join(STRATEGIES)}"
            )
        if not isinstance(ignored, list):
            raise BadRequest(f"parameters.ignore_labels={ignored!r}: give a list of labels")
        rows = await super().predict(inputs, {})
        return [
            self._entities(text, tokens, strategy, ignored)
            for text, tokens in zip(inputs, rows, strict=True)
        ]

    def encode(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """Tokenizes texts, keeping where in the text each token came from."""
        for index, text in enumerate(inputs):
            if not isinstance(text, str) or not text:
                raise BadRequest(f"inputs[{index}] must be a text that is not empty")
        batch = self.tokenizer(
            list(inputs),
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        names = [*self._columns, "offset_mapping", "special_tokens_mask"]
        return [
            (len(ids), {name: batch[name][index] for name in names})
            for index, ids in enumerate(batch["input_ids"])
        ]

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """For each item its tokens that are text: id, start, end, probabilities."""
        scores = output.logits.float().softmax(-1).tolist()
        left = self.tokenizer.padding_side == "left"
        width = tensors["input_ids"].shape[1]
        results = []
        for item, rows in zip(items, scores, strict=True):
            first = width - len(item["input_ids"]) if left else 0
            results.append(
                [
                    (index, token, start, end, rows[first + index])
                    for index, (token, (start, end), special) in enumerate(
                        zip(
                            item["input_ids"],
                            item["offset_mapping"],
                            item["special_tokens_mask"],
                            strict=True,
                        )
                    )
                    if not special
                ]
            )
        return results

    def _entities(
        self, text: str, tokens: list[Any], strategy: str, ignored: list[Any]
    ) -> list[dict[str, Any]]:
        entities = []
        for index, token, start, end, scores in tokens:
            best = max(range(len(scores)), key=scores.__getitem__)
            entities.append(
                {
                    "entity": self.labels[best],
                    "score": scores[best],
                    "index": index,
                    "word": self.tokenizer.convert_ids_to_tokens(token),
                    "start": start,
                    "end": end,
                }
            )
        if strategy == "simple":
            groups = group_entities(text, entities)
            return [group for group in groups if group["entity_group"] not in ignored]
        return [entity for entity in entities if entity["entity"] not in ignored]


def group_entities(text: str, entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins neighbours of one kind: a B- label, or another kind, begins a new group."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        prefix, kind = split_label(entity["entity"])
        same = groups and split_label(groups[-1][-1]["entity"])[1] == kind
        if same and prefix != "B":
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [
        {
            "entity_group": split_label(group[0]["entity"])[1],
            "score": math.fsum(entity["score"] for entity in group) / len(group),
            "word": text[group[0]["start"] : group[-1]["end"]].strip(),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }
        for group in groups
    ]


def split_label(label: str) -> tuple[str, str]:
    """`B-PER` is ("B", "PER"); a label without prefix continues its group."""
    if label[:2] in ("B-", "I-"):
        return label[0], label[2:]
    return "I", label
