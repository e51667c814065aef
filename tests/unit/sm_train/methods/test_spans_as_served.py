"""The answer that training scores is the one that the server gives, with what the artefact says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_serve.engines.encoders.question_answering import best_answers as served
from sm_serve.engines.encoders.spans import SpanOptions
from sm_train.methods.spans import Windows, best_answers

CONTEXTS = ("New York was big in 1900", "no a b c d e f g")


def places_of(context: str) -> list[tuple[int, int]]:
    """Each word in pieces of two characters."""
    places, at = [], 0
    for word in context.split(" "):
        places += [(at + i, min(at + i + 2, at + len(word))) for i in range(0, len(word), 2)]
        at += len(word) + 1
    return places


@st.composite
def cases(draw: Any) -> tuple[list[int], list[list[Any]], list[list[float]], list[list[float]]]:
    owners, all_places, starts, ends = [], [], [], []
    for owner, context in enumerate(CONTEXTS):
        pieces = places_of(context)
        for _ in range(draw(st.integers(1, 3))):
            begin = draw(st.integers(0, len(pieces) - 1))
            end = draw(st.integers(begin + 1, len(pieces)))
            places = [None, None, None, *pieces[begin:end], None]
            # Distinct numbers: equal sums would leave the answer to chance.
            chance = np.random.default_rng([draw(st.integers(0, 10_000)), len(owners)])
            owners.append(owner)
            all_places.append(places)
            starts.append((chance.normal(size=len(places)) * 4).tolist())
            ends.append((chance.normal(size=len(places)) * 4).tolist())
    return owners, all_places, starts, ends


@pytest.mark.slow
@settings(max_examples=100)
@given(case=cases(), longest=st.integers(1, 12), may_be_none=st.booleans())
def test_the_answer_is_the_one_that_is_served(case, longest: int, may_be_none: bool):
    owners, places, starts, ends = case
    rows = [{"context": context, "texts": []} for context in CONTEXTS]
    asked = Windows(rows, owners, places, None)
    measured = best_answers(asked, starts, ends, longest, may_be_none)
    windows: Any = [
        (owner, {"none": 0, "places": each, "words": each})
        for owner, each in zip(owners, places, strict=True)
    ]
    options = SpanOptions(1, longest, whole_words=False, by_logit=True)
    logits = list(zip(starts, ends, strict=True))
    given_ = served(list(CONTEXTS), windows, logits, options, may_be_none)
    assert [answer["answer"] for answer in given_] == measured
