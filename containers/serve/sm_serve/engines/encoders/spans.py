"""Answers to a question out of the scores of one window over its context."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Which spans of a window may be answers, and how many are wanted."""

    top_k: int = 1
    longest: int = 15
    whole_words: bool = True
    by_logit: bool = False
    """Compare windows by the sums of their logits, as SQuAD's reference does; else by probability
    within each window, as Hugging Face's pipeline does."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A span of the context: what it is ranked by, and its probability within its window."""

    rank: float
    score: float
    start: int = 0
    end: int = 0


def best_spans(
    window: dict[str, Any], starts: list[float], ends: list[float], options: SpanOptions
) -> tuple[list[Span], Span]:
    """The best spans of a window, and that of no answer.

    Probabilities are over the context's tokens and the classification token, which stands for no
    answer, as in Hugging Face's pipeline.
    """
    import numpy as np

    places, none = window["places"], window["none"]
    allowed = [index for index, place in enumerate(places) if place is not None]
    if not allowed:
        return [], Span(math.inf if options.by_logit else 1.0, 1.0)
    kept = allowed if none is None else [none, *allowed]
    weights = [np.array(row)[kept] for row in (starts, ends)]
    weights = [np.exp(row - row.max()) for row in weights]
    begin, finish = (row / row.sum() for row in weights)
    nothing = 0.0
    if none is not None:
        nothing = float(begin[0] * finish[0])
        begin, finish = begin[1:], finish[1:]
    scores = np.triu(np.outer(begin, finish))
    scores = scores - np.triu(scores, options.longest)
    # Several spans may come to be the same whole words.
    count = options.top_k * 2 + 10 if options.whole_words else options.top_k
    order = np.argsort(scores, axis=None)[::-1][:count]
    known = window["words"] if options.whole_words else places
    spans = []
    for flat in order:
        first, last = (allowed[i] for i in divmod(int(flat), len(allowed)))
        if (score := float(scores.flat[flat])) > 0:
            by = starts[first] + ends[last] if options.by_logit else score
            spans.append(Span(by, score, known[first][0], known[last][1]))
    empty = none or 0
    return spans, Span(starts[empty] + ends[empty] if options.by_logit else nothing, nothing)


def rank(spans: Iterable[Span], top_k: int) -> list[Span]:
    """The best spans, each once."""
    best: dict[tuple[int, int], Span] = {}
    for span in spans:
        place = (span.start, span.end)
        best[place] = max(span, best.get(place, span))
    ranked = sorted(best.values(), key=lambda s: (s.rank, s.start, s.end), reverse=True)
    return ranked[:top_k]
