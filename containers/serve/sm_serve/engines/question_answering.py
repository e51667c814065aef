"""Extractive question answering, in the result format of Hugging Face's pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.engines.encoder import EncoderEngine, Tokens
from sm_serve.engines.protocol import Task
from sm_serve.errors import BadRequest

MAX_ANSWER_TOKENS = 15
MAX_TOP_K = 100
STRIDE_SHARE = 4
"""Windows over a long context overlap by this part of their length."""


class QuestionAnsweringEngine(EncoderEngine):
    """The span of a context that answers a question. Parameters: top_k, max_answer_len."""

    task = Task.QUESTION_ANSWERING

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """The best answer an input, or with top_k above 1 a list of them."""
        unknown = sorted(set(parameters) - {"top_k", "max_answer_len"})
        if unknown:
            raise BadRequest(f"parameters.{unknown[0]} is unknown to question-answering")
        top_k = _bounded(parameters, "top_k", 1, MAX_TOP_K)
        longest = _bounded(parameters, "max_answer_len", MAX_ANSWER_TOKENS, self.max_length)
        windows: list[Any] = []
        owners: list[int] = []
        for index, item in enumerate(inputs):
            question, context = read_question(item, index)
            for window in self.windows(question, context):
                windows.append(window)
                owners.append(index)
        rows = await super().predict(windows, {})
        candidates: list[list[tuple[float, int, int]]] = [[] for _ in inputs]
        for owner, window, (starts, ends) in zip(owners, windows, rows, strict=True):
            candidates[owner] += best_spans(window, starts, ends, top_k, longest)
        answers = []
        for item, found in zip(inputs, candidates, strict=True):
            ranked = sorted(found, reverse=True)[:top_k]
            texts = [
                {"score": score, "start": start, "end": end, "answer": item["context"][start:end]}
                for score, start, end in ranked
            ]
            answers.append(texts[0] if top_k == 1 else texts)
        return answers

    def windows(self, question: str, context: str) -> list[Tokens]:
        """The pair in overlapping windows; each token knows its place in the context or None."""
        asked = len(self.tokenizer(question)["input_ids"])
        room = self.max_length - asked - 3
        if room < 1:
            raise BadRequest(f"question has {asked} tokens, which leaves no room for the context")
        batch = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=self.max_length,
            stride=room // STRIDE_SHARE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows = []
        for index, offsets in enumerate(batch["offset_mapping"]):
            parts = batch.sequence_ids(index)
            window = {name: batch[name][index] for name in self._columns}
            window["places"] = [
                tuple(offset) if part == 1 else None
                for offset, part in zip(offsets, parts, strict=True)
            ]
            windows.append(window)
        return windows

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


def best_spans(
    window: Tokens, starts: list[float], ends: list[float], top_k: int, longest: int
) -> list[tuple[float, int, int]]:
    """The most probable spans of a window: probability, start and end in the context."""
    import numpy as np

    places = window["places"]
    allowed = [index for index, place in enumerate(places) if place is not None]
    if not allowed:
        return []
    weights = [np.exp(np.array(row) - max(row)) for row in (starts, ends)]
    begin, finish = (row / row.sum() for row in weights)
    scores = np.triu(np.outer(begin[allowed], finish[allowed]))
    scores = scores - np.triu(scores, longest)
    best = np.argsort(scores, axis=None)[::-1][:top_k]
    spans = []
    for flat in best:
        first, last = divmod(int(flat), len(allowed))
        score = float(scores[first, last])
        spans.append((score, places[allowed[first]][0], places[allowed[last]][1]))
    return spans


def read_question(item: Any, index: int) -> tuple[str, str]:
    """Question and context of one input."""
    if isinstance(item, dict):
        question, context = item.get("question"), item.get("context")
        if isinstance(question, str) and isinstance(context, str) and question and context:
            return question, context
    raise BadRequest(
        f'inputs[{index}] must be {{"question": text, "context": text}} with neither empty'
    )


def _bounded(parameters: Mapping[str, Any], name: str, default: int, limit: int) -> int:
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise BadRequest(f"parameters.{name}={value!r}: give a whole number from 1 to {limit}")
    return value
