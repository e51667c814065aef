"""Answers to a question out of the scores of one window over its context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Which spans of a window may be answers, and how many are wanted."""

    top_k: int = 1
    longest: int = 15
    whole_words: bool = True


def best_spans(
    window: dict[str, Any], starts: list[float], ends: list[float], options: SpanOptions
) -> tuple[list[tuple[float, int, int]], float]:
    """The most probable spans (probability, start and end in the context), and that of no answer.

    Probabilities are over the context's tokens and the classification token, which stands for no
    answer, as in Hugging Face's pipeline.
    """
    import numpy as np

    places, none = window["places"], window["none"]
    allowed = [index for index, place in enumerate(places) if place is not None]
    if not allowed:
        return [], 1.0
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
        first, last = divmod(int(flat), len(allowed))
        if (score := float(scores[first, last])) > 0:
            spans.append((score, known[allowed[first]][0], known[allowed[last]][1]))
    return spans, nothing


def rank(spans: Iterable[tuple[float, int, int]], top_k: int) -> list[tuple[float, int, int]]:
    """The best spans, each once."""
    best: dict[tuple[int, int], float] = {}
    for score, start, end in spans:
        best[start, end] = max(score, best.get((start, end), 0.0))
    ranked = sorted(((score, *place) for place, score in best.items()), reverse=True)
    return ranked[:top_k]
