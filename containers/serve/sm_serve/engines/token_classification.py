"""Token classification (NER), in the result format of Hugging Face's pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_serve.adapter_head import Head
from sm_serve.config import Settings
from sm_serve.engines.encoder import EncoderEngine, Tokens
from sm_serve.engines.labels import adapter_head, own_head
from sm_serve.engines.protocol import Task
from sm_serve.errors import BadRequest

WORD_SCORES = ("first", "average", "max")
"""Strategies by which the tokens of one word agree on its label."""
STRATEGIES = ("none", "simple", *WORD_SCORES)


@dataclass(slots=True)
class Piece:
    """A token, or a word joined of several, with the probability of each label."""

    scores: list[float]
    start: int
    end: int
    words: list[str]
    index: int | None = None
    inside: bool = False
    """Whether it goes on with the word before it."""


class TokenClassificationEngine(EncoderEngine):
    """Entities an input. Parameters: aggregation_strategy, ignore_labels."""

    task = Task.TOKEN_CLASSIFICATION

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        backend = getattr(getattr(tokenizer, "_tokenizer", None), "model", None)
        self._prefixed = bool(getattr(backend, "continuing_subword_prefix", None))
        super().__init__(model, tokenizer, settings)
        self.own_profile: Head = own_head(model.config)

    def read_profile(self, path: Path) -> Head:
        """See EncoderEngine."""
        return adapter_head(path, self.own_profile, headless=bool(self.bank.gaps))

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """A list of entities an input, each with its place in the text."""
        unknown = sorted(set(parameters) - {"aggregation_strategy", "ignore_labels"})
        if unknown:
            raise BadRequest(f"parameters.{unknown[0]} is unknown to token-classification")
        strategy = parameters.get("aggregation_strategy") or "none"
        strategy = strategy.lower() if isinstance(strategy, str) else strategy
        ignored = parameters.get("ignore_labels", ["O"])
        if strategy not in STRATEGIES:
            raise BadRequest(
                f"parameters.aggregation_strategy={strategy!r}: give one of {', '.join(STRATEGIES)}"
            )
        ignored = ["O"] if ignored is None else ignored
        if not isinstance(ignored, list):
            raise BadRequest(f"parameters.ignore_labels={ignored!r}: give a list of labels")
        labels = self.profile(adapter).labels
        rows = await self.submit(inputs, {}, adapter)
        return [
            self._entities(text, tokens, labels, strategy, ignored)
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
        self,
        text: str,
        tokens: list[Any],
        labels: Sequence[str],
        strategy: str,
        ignored: list[Any],
    ) -> list[dict[str, Any]]:
        pieces = [self._piece(text, *token) for token in tokens]
        if strategy in WORD_SCORES:
            pieces = [join_word(word, strategy) for word in split_words(pieces)]
        entities = [self._entity(piece, labels) for piece in pieces]
        if strategy == "none":
            return [entity for entity in entities if entity["entity"] not in ignored]
        groups = [self._group(group) for group in group_entities(entities)]
        return [group for group in groups if group["entity_group"] not in ignored]

    def _piece(self, text: str, index: int, token: int, start: int, end: int, scores: Any) -> Piece:
        word = str(self.tokenizer.convert_ids_to_tokens(token))
        if self._prefixed:
            inside = len(word) != end - start
        else:
            inside = start > 0 and " " not in text[start - 1 : start + 1]
        if token == self.tokenizer.unk_token_id:
            word, inside = text[start:end], False
        return Piece(scores, start, end, [word], index, inside)

    def _entity(self, piece: Piece, labels: Sequence[str]) -> dict[str, Any]:
        best = max(range(len(piece.scores)), key=piece.scores.__getitem__)
        word = piece.words[0] if piece.index is not None else self._join(piece.words)
        entity = {"entity": labels[best], "score": piece.scores[best]}
        if piece.index is not None:
            entity["index"] = piece.index
        return {**entity, "word": word, "start": piece.start, "end": piece.end}

    def _join(self, words: list[str]) -> str:
        return str(self.tokenizer.convert_tokens_to_string(words))

    def _group(self, group: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entity_group": split_label(group[0]["entity"])[1],
            "score": math.fsum(entity["score"] for entity in group) / len(group),
            "word": self._join([entity["word"] for entity in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def split_words(pieces: list[Piece]) -> list[list[Piece]]:
    """The tokens of each word."""
    words: list[list[Piece]] = []
    for piece in pieces:
        if words and piece.inside:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def join_word(word: list[Piece], strategy: str) -> Piece:
    """A word with the scores of its first token, of its surest one, or their mean."""
    if strategy == "first":
        scores = word[0].scores
    elif strategy == "max":
        scores = max((piece.scores for piece in word), key=max)
    else:
        scores = [
            math.fsum(column) / len(word) for column in zip(*(p.scores for p in word), strict=True)
        ]
    return Piece(scores, word[0].start, word[-1].end, [w for piece in word for w in piece.words])


def group_entities(entities: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Joins neighbours of one kind: a B- label, or another kind, begins a new group."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        prefix, kind = split_label(entity["entity"])
        same = groups and split_label(groups[-1][-1]["entity"])[1] == kind
        if same and prefix != "B":
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def split_label(label: str) -> tuple[str, str]:
    """`B-PER` is ("B", "PER"); a label without prefix continues its group."""
    if label[:2] in ("B-", "I-"):
        return label[0], label[2:]
    return "I", label
