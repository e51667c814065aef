"""Answers as spans of a context: overlapping windows in, the best span out, SQuAD's scores."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Windows:
    """Tokenised windows: of which row each is, and where its tokens lie in the context."""

    rows: Sequence[dict[str, Any]]
    row_of: list[int]
    offsets: list[list[tuple[int, int] | None]]
    dataset: Any


def windows(
    rows: Sequence[dict[str, Any]] | None, tokenizer: Any, max_length: int, stride: int
) -> Windows | None:
    """Cut long contexts into windows, and find each first answer's first and last token."""
    if rows is None:
        return None
    from datasets import Dataset

    limit, stride = sizes(tokenizer, max_length, stride)
    encoded = tokenizer(
        _cut([row["question"] for row in rows], tokenizer, limit // 2),
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    row_of = list(encoded.pop("overflow_to_sample_mapping"))
    offsets = [
        [
            tuple(place) if part == 1 else None
            for place, part in zip(places, encoded.sequence_ids(index), strict=True)
        ]
        for index, places in enumerate(encoded.pop("offset_mapping"))
    ]
    spans = [_token_span(rows[row], places) for row, places in zip(row_of, offsets, strict=True)]
    columns = {key: encoded[key] for key in encoded}
    columns["start_positions"] = [first for first, _ in spans]
    columns["end_positions"] = [last for _, last in spans]
    columns["length"] = [len(tokens) for tokens in encoded["input_ids"]]
    return Windows(rows, row_of, offsets, Dataset.from_dict(columns))


def sizes(tokenizer: Any, max_length: int, stride: int) -> tuple[int, int]:
    """Tokens of a window, and how many of them two windows share."""
    limit = min(max_length, tokenizer.model_max_length)
    return limit, min(stride, limit // 3)


def _cut(questions: list[str], tokenizer: Any, limit: int) -> list[str]:
    """Questions of at most `limit` tokens, so that room is left for the context."""
    encoded = tokenizer(
        questions,
        add_special_tokens=False,
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
    )
    return [
        question[: places[-1][1]] if places else question
        for question, places in zip(questions, encoded["offset_mapping"], strict=True)
    ]


def _token_span(row: dict[str, Any], places: Sequence[tuple[int, int] | None]) -> tuple[int, int]:
    """First and last token of the first answer; (0, 0) when it is not within this window."""
    if not row["starts"]:
        return 0, 0
    start, end = row["starts"][0], row["starts"][0] + len(row["texts"][0])
    inside = [i for i, p in enumerate(places) if p and p[0] < end and p[1] > start]
    whole = inside and places[inside[0]][0] <= start and places[inside[-1]][1] >= end  # type: ignore[index]
    return (inside[0], inside[-1]) if whole else (0, 0)


def accepted(texts: Sequence[str]) -> list[str]:
    """What answers a question; answers that are nothing in SQuAD's normal form count as none."""
    return [text for text in texts if plain(text)] or [""]


def best_answers(
    asked: Windows, starts: Any, ends: Any, longest: int, may_be_none: bool
) -> list[str]:
    """The text of the likeliest span of each row; "" where no answer is likelier still.

    `may_be_none`: whether some questions have no answer.
    """
    best: dict[int, tuple[float, str]] = {}
    if may_be_none:
        for window, row in enumerate(asked.row_of):
            nothing = float(starts[window][0] + ends[window][0])
            best[row] = min(best.get(row, (nothing, "")), (nothing, ""))
    for window, row in enumerate(asked.row_of):
        places, context = asked.offsets[window], asked.rows[row]["context"]
        span = _best_span(places, starts[window], ends[window], longest)
        if span and (row not in best or span[0] > best[row][0]):
            score, first, last = span
            begin, end = places[first], places[last]
            assert begin is not None
            assert end is not None
            best[row] = (score, context[begin[0] : end[1]])
    return [best.get(row, (0.0, ""))[1] for row in range(len(asked.rows))]


def _best_span(
    places: Sequence[Any], starts: Any, ends: Any, longest: int
) -> tuple[float, int, int] | None:
    """The highest sum of logits, and its first and last token."""
    import numpy

    inside = [i for i, place in enumerate(places) if place is not None]
    if not inside:
        return None
    sums = numpy.asarray(starts)[inside][:, None] + numpy.asarray(ends)[inside][None]
    allowed = numpy.triu(numpy.ones_like(sums, dtype=bool))
    allowed &= ~numpy.triu(allowed, longest)
    first, last = divmod(int(numpy.where(allowed, sums, -numpy.inf).argmax()), len(inside))
    return float(sums[first, last]), inside[first], inside[last]


def plain(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def word_f1(given: str, expected: str) -> float:
    """F1 of the words that both have; two empty answers agree."""
    left, right = plain(given).split(), plain(expected).split()
    if not left or not right:
        return float(left == right)
    common = (Counter(left) & Counter(right)).total()
    return 2 * common / (len(left) + len(right))
