"""Extractive question answering, in the result format of Hugging Face's pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.artefact.learnt import learnt_parameters
from sm_serve.config import Settings
from sm_serve.engines import offload
from sm_serve.engines.encoders.base import EncoderEngine, Tokens, check_keys
from sm_serve.engines.encoders.spans import Span, SpanOptions, best_spans, rank
from sm_serve.errors import BadInput, BadRequest
from sm_serve.protocol import Task
from sm_serve.tasks import fields_of

MAX_ANSWER_TOKENS = 15
MAX_TOP_K = 100
RANKINGS = ("probability", "logit")
STRIDE_SHARE = 4
"""Windows over a long context overlap by this part of their length."""


class QuestionAnsweringEngine(EncoderEngine):
    """The span of a context that answers a question. Parameters: see encoder_fields.py.

    What config.json says in `task_specific_params` of question-answering holds where a request says
    nothing: a model is asked as it was measured after training.
    """

    task = Task.QUESTION_ANSWERING

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        self._spare = offload.SpareTokenizer(tokenizer)
        super().__init__(model, tokenizer, settings)

    async def answer(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any], adapter: str | None
    ) -> list[Any]:
        """The best answer an input, or with top_k above 1 a list of them."""
        parameters = {**self.defaults(), **parameters}
        options = SpanOptions(
            _bounded(parameters, "top_k", _bounded(parameters, "topk", 1, MAX_TOP_K), MAX_TOP_K),
            _bounded(parameters, "max_answer_len", MAX_ANSWER_TOKENS, self.max_length),
            _flag(parameters, "align_to_words", default=True),
            _ranking(parameters) == "logit",
        )
        may_be_none = _flag(parameters, "handle_impossible_answer", default=False)
        pairs = [read_question(item, index) for index, item in enumerate(inputs)]
        size = sum(len(context) for _, context in pairs)
        windows = await offload.run(
            size, self._all_windows, pairs, parameters, size >= offload.LARGE
        )
        rows = await self.submit([window for _, window in windows], {}, adapter)
        contexts = [context for _, context in pairs]
        return await offload.run(size, best_answers, contexts, windows, rows, options, may_be_none)

    def defaults(self) -> dict[str, Any]:
        """What the artefact says of how it is asked, as far as this engine knows it."""
        own = learnt_parameters(self.model.config, str(self.task))
        names = {field.name for field in fields_of(self.task)}
        known = {k: v for k, v in own.items() if k in names}
        for name in ("max_seq_len", "max_answer_len"):
            if isinstance(known.get(name), int):
                known[name] = min(known[name], self.max_length)
        return known

    def _all_windows(
        self, pairs: list[tuple[str, str]], parameters: Mapping[str, Any], large: bool
    ) -> list[tuple[int, Tokens]]:
        """The windows of all pairs, each with its pair's number."""
        with self._spare.use() if large else contextlib.nullcontext(self.tokenizer) as tokenizer:
            return [
                (index, window)
                for index, pair in enumerate(pairs)
                for window in self.windows(tokenizer, *pair, parameters, index)
            ]

    def windows(
        self,
        tokenizer: Any,
        question: str,
        context: str,
        parameters: Mapping[str, Any],
        owner: int,
    ) -> list[Tokens]:
        """A pair in overlapping windows; each token knows its place in the context or None."""
        asked = len(tokenizer(question)["input_ids"])
        longest = _bounded(parameters, "max_seq_len", self.max_length, self.max_length)
        room = longest - asked - 3
        if room < 1:
            raise BadInput(
                owner, f".question has {asked} tokens, which leaves no room for the context"
            )
        batch = tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=longest,
            stride=min(_bounded(parameters, "doc_stride", room // STRIDE_SHARE, 10_000), room - 1),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        return [self._window(batch, index, owner) for index in range(len(batch["input_ids"]))]

    def _window(self, batch: Any, index: int, owner: int) -> Tokens:
        window = {name: batch[name][index] for name in self._columns}
        parts, offsets = batch.sequence_ids(index), batch["offset_mapping"][index]
        places = [
            tuple(offset) if part == 1 else None
            for offset, part in zip(offsets, parts, strict=True)
        ]
        if not any(places):
            raise BadInput(owner, ".context has no token that the model can read: give a text")
        ids, token = window["input_ids"], self.tokenizer.cls_token_id
        window["none"] = ids.index(token) if token is not None and token in ids else None
        window["places"] = places
        window["words"] = whole_words(places, batch.word_ids(index))
        return window

    def encode(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[tuple[int, Tokens]]:
        """Windows are tokenized already."""
        return [(len(window["input_ids"]), window) for window in inputs]

    def read(self, output: Any, tensors: dict[str, Any], items: list[Tokens]) -> list[Any]:
        """Start and end logits of each window, without padding."""
        starts, ends = output.start_logits.float().tolist(), output.end_logits.float().tolist()
        left = self.tokenizer.padding_side == "left"
        results = []
        for item, start, end in zip(items, starts, ends, strict=True):
            size = len(item["input_ids"])
            cut = slice(len(start) - size, None) if left else slice(0, size)
            results.append((start[cut], end[cut]))
        return results


def whole_words(
    places: Sequence[tuple[int, int] | None], word_ids: Sequence[int | None]
) -> list[tuple[int, int] | None]:
    """For each token of the context the place of the whole word that it belongs to."""
    spans: dict[int, tuple[int, int]] = {}
    for place, word in zip(places, word_ids, strict=True):
        if place is not None and word is not None:
            spans[word] = (spans.get(word, place)[0], place[1])
    return [
        place if place is None or word is None else spans[word]
        for place, word in zip(places, word_ids, strict=True)
    ]


def best_answers(
    contexts: list[str],
    windows: list[tuple[int, Tokens]],
    rows: list[Any],
    options: SpanOptions,
    may_be_none: bool,
) -> list[Any]:
    """The best answers in each context, out of those in its windows."""
    candidates: list[list[Span]] = [[] for _ in contexts]
    nothing: list[list[Span]] = [[] for _ in contexts]
    for (owner, window), (starts, ends) in zip(windows, rows, strict=True):
        best, none = best_spans(window, starts, ends, options)
        candidates[owner] += best
        nothing[owner].append(none)
    answers: list[Any] = []
    for context, best, none_each in zip(contexts, candidates, nothing, strict=True):
        spans = [*best, min(none_each)] if may_be_none else best
        texts = [
            {"score": s.score, "start": s.start, "end": s.end, "answer": context[s.start : s.end]}
            for s in rank(spans, options.top_k)
        ]
        answers.append(texts[0] if options.top_k == 1 else texts)
    return answers


def read_question(item: Any, index: int) -> tuple[str, str]:
    """Question and context of one input."""
    if isinstance(item, dict):
        question, context = item.get("question"), item.get("context")
        check_keys(item, ("question", "context"), index)
        if isinstance(question, str) and isinstance(context, str) and question and context:
            return question, context
    raise BadInput(index, ' must be {"question": text, "context": text} with neither empty')


def _bounded(parameters: Mapping[str, Any], name: str, default: int, limit: int) -> int:
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise BadRequest(f"parameters.{name}={value!r}: give a whole number from 1 to {limit}")
    return value


def _ranking(parameters: Mapping[str, Any]) -> str:
    value = parameters.get("rank_by") or RANKINGS[0]
    if value not in RANKINGS:
        raise BadRequest(f"parameters.rank_by={value!r}: give {' or '.join(RANKINGS)}")
    return str(value)


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"parameters.{name}={value!r}: give true or false")
    return value
