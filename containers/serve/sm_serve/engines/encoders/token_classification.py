"""Token classification (NER), in the result format of Hugging Face's pipeline."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sm_serve.artefact.learnt import learnt_parameters
from sm_serve.config import Settings
from sm_serve.engines import offload
from sm_serve.engines.encoders.base import Tokens, read_max_length
from sm_serve.engines.encoders.labels import LabelEngine
from sm_serve.errors import BadInput, BadRequest, placing
from sm_serve.protocol import Task

WORD_SCORES = ("first", "average", "max")
"""Strategies by which the tokens of one word agree on its label."""
STRATEGIES = ("none", "simple", *WORD_SCORES)
WINDOWS = "windows"
"""For `encode`: the inputs are tokenized already."""


@dataclass(slots=True)
class Piece:
    """A token, or a word joined of several, with the probability of each label."""

    scores: list[float]
    start: int
    end: int
    texts: list[str]
    index: int | None = None
    inside: bool = False
    """Whether it goes on with the word before it."""


class TokenClassificationEngine(LabelEngine):
    """Entities an input. Parameters: see encoder_fields.py. How tokens are joined where a request
    does not say it stands in config.json, where training has told it; else they are not.

    A longer text is cut to the length that the model has learnt or can read, or to `max_length`
    tokens; with `stride` it is read to its end, in windows that overlap by so many tokens.
    """

    task = Task.TOKEN_CLASSIFICATION
    learnt_as = ("token-classification",)

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        backend = getattr(getattr(tokenizer, "_tokenizer", None), "model", None)
        self._prefixed = bool(getattr(backend, "continuing_subword_prefix", None))
        self._spare = offload.SpareTokenizer(tokenizer)
        super().__init__(model, tokenizer, settings)
        self._usual_strategy = learnt_strategy(model.config)

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """A list of entities an input, each with its place in the text."""
        strategy = parameters.get("aggregation_strategy") or self._usual_strategy
        strategy = strategy.lower() if isinstance(strategy, str) else strategy
        ignored = parameters.get("ignore_labels", ["O"])
        if strategy not in STRATEGIES:
            raise BadRequest(
                f"parameters.aggregation_strategy={strategy!r}: give one of {', '.join(STRATEGIES)}"
            )
        ignored = ["O"] if ignored is None else ignored
        if not isinstance(ignored, list):
            raise BadRequest(f"parameters.ignore_labels={ignored!r}: give a list of labels")
        for index, text in enumerate(inputs):
            if not isinstance(text, str):
                raise BadInput(index, f" is a {type(text).__name__}: give a text")
        longest = read_max_length(parameters, self.usual_length, self.max_length)
        stride = self._stride(parameters, strategy, longest)
        labels = self.profile(adapter).labels
        windows = await self._read(inputs, stride, longest, adapter)
        size = sum(map(len, inputs))
        return await offload.run(size, self._answers, inputs, windows, labels, strategy, ignored)

    def _answers(
        self, texts: Sequence[str], windows: list[tuple[int, Any]], *reading: Any
    ) -> list[list[dict[str, Any]]]:
        """The entities of each text, out of those of its windows."""
        entities: list[list[list[dict[str, Any]]]] = [[] for _ in texts]
        for index, tokens in windows:
            entities[index].append(self._entities(texts[index], tokens, *reading))
        return [
            windows[0] if len(windows) == 1 else largest_of_overlapping(itertools.chain(*windows))
            for windows in entities
        ]

    def _stride(self, parameters: Mapping[str, Any], strategy: str, longest: int) -> int | None:
        stride = parameters.get("stride")
        if stride is None:
            return None
        most = longest - self.tokenizer.num_special_tokens_to_add() - 1
        if isinstance(stride, bool) or not isinstance(stride, int) or not 0 <= stride <= most:
            raise BadRequest(f"parameters.stride={stride!r}: give a whole number from 0 to {most}")
        if strategy == "none":
            raise BadRequest("parameters.stride needs an aggregation_strategy other than none")
        return stride

    async def _read(
        self, texts: Sequence[str], stride: int | None, longest: int, adapter: str | None
    ) -> list[tuple[int, Any]]:
        """What `read` gives for each window of each text, with the text's number."""
        owners = [index for index, text in enumerate(texts) if text]
        if stride is None:
            cut = {"max_length": longest}
            with placing(lambda index: (owners[index], "")):
                rows = await self.submit([texts[index] for index in owners], cut, adapter)
            return list(zip(owners, rows, strict=True))
        windows = await asyncio.to_thread(self._windows, texts, owners, stride, longest)
        rows = await self.submit([window for _, window in windows], {WINDOWS: True}, adapter)
        return [(index, row) for (index, _), row in zip(windows, rows, strict=True)]

    def encode(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """Tokenizes texts, unless they are windows of one already."""
        if parameters.get(WINDOWS):
            return [(len(window["input_ids"]), window) for window in inputs]
        longest = read_max_length(parameters, self.usual_length, self.max_length)
        return self._tokenize(self.tokenizer, inputs, max_length=longest)

    def _windows(
        self, texts: Sequence[str], owners: list[int], stride: int, longest: int
    ) -> list[tuple[int, Tokens]]:
        """Overlapping windows of the texts, each with its text's number."""
        options = {"stride": stride, "return_overflowing_tokens": True, "max_length": longest}
        with self._spare.use() as tokenizer:
            return [
                (index, window)
                for index in owners
                for _, window in self._tokenize(tokenizer, [texts[index]], **options)
            ]

    def _tokenize(
        self, tokenizer: Any, texts: Sequence[str], **options: Any
    ) -> list[tuple[int, Tokens]]:
        """Columns of each text or window, with where in the text each token came from."""
        batch = tokenizer(
            list(texts),
            truncation=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            **options,
        )
        names = [*self._columns, "offset_mapping", "special_tokens_mask"]
        rows = [
            (len(ids), {name: batch[name][index] for name in names})
            for index, ids in enumerate(batch["input_ids"])
        ]
        if any(length == 0 for length, _ in rows):
            raise BadRequest("inputs has a text without a token that the model can read")
        return rows

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
        parts = parts_of(labels)
        groups = [self._group(group, parts) for group in group_entities(entities, parts)]
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
        word = piece.texts[0] if piece.index is not None else self._join(piece.texts)
        entity = {"entity": labels[best], "score": piece.scores[best]}
        if piece.index is not None:
            entity["index"] = piece.index
        return {**entity, "word": word, "start": piece.start, "end": piece.end}

    def _join(self, texts: list[str]) -> str:
        return str(self.tokenizer.convert_tokens_to_string(texts))

    def _group(
        self, group: list[dict[str, Any]], parts: Mapping[str, tuple[str, str]]
    ) -> dict[str, Any]:
        # Hugging Face's pipeline drops all before a hyphen: person-actor would be actor, and
        # person-other and location-other the same.
        return {
            "entity_group": parts[group[0]["entity"]][1],
            "score": math.fsum(entity["score"] for entity in group) / len(group),
            "word": self._join([entity["word"] for entity in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def split_words(pieces: list[Piece]) -> list[list[Piece]]:
    """The tokens of each word."""
    whole_words: list[list[Piece]] = []
    for piece in pieces:
        if whole_words and piece.inside:
            whole_words[-1].append(piece)
        else:
            whole_words.append([piece])
    return whole_words


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
    return Piece(scores, word[0].start, word[-1].end, [w for piece in word for w in piece.texts])


def group_entities(
    entities: list[dict[str, Any]], parts: Mapping[str, tuple[str, str]]
) -> list[list[dict[str, Any]]]:
    """Joins neighbours of one kind: a B- label, or another kind, begins a new group."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        prefix, kind = parts[entity["entity"]]
        before, its_kind = parts[groups[-1][-1]["entity"]] if groups else ("", "")
        ended = before in _ENDS or prefix in _BEGINS
        if groups and its_kind == kind and not ended:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def largest_of_overlapping(entities: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that overlap, as windows find them, the longest; of equally long ones the surest.

    As Hugging Face's pipeline: compared with what was kept last.
    """
    kept: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda each: each["start"]):
        last = kept[-1] if kept else None
        if last is None or not last["start"] <= entity["start"] < last["end"]:
            kept.append(entity)
        elif _size(entity) > _size(last):
            kept[-1] = entity
    return kept


def _size(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def learnt_strategy(config: Any) -> str:
    """How training told to join tokens; `none`, as Hugging Face's pipeline, where it did not."""
    strategy = learnt_parameters(config, str(Task.TOKEN_CLASSIFICATION)).get("aggregation_strategy")
    return strategy if strategy in STRATEGIES else "none"


_BEGINS, _ENDS = ("B", "S", "U"), ("E", "L", "S", "U")
"""Of BIOES and BILOU: labels that begin a group, and that end one."""


def parts_of(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Each label as its prefix and its kind; E-, S-, L- and U- are prefixes where the same kind
    has a B- label too."""
    return {
        label: (label[0], label[2:])
        if label[:2] in ("E-", "S-", "L-", "U-") and f"B-{label[2:]}" in labels
        else split_label(label)
        for label in labels
    }


def split_label(label: str) -> tuple[str, str]:
    """`B-PER` is ("B", "PER"); a label without prefix continues its group."""
    if label[:2] in ("B-", "I-"):
        return label[0], label[2:]
    return "I", label
