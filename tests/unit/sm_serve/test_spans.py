"""Which span of a window answers, as Hugging Face's pipeline decides it."""

import pytest

from sm_serve.engines.spans import SpanOptions, best_spans, rank

WINDOW = {
    # [CLS] what [SEP] New York was big [SEP], with "York" in two tokens.
    "none": 0,
    "places": [None, None, None, (0, 3), (4, 6), (6, 8), (9, 12), (13, 16), None],
    "words": [None, None, None, (0, 3), (4, 8), (4, 8), (9, 12), (13, 16), None],
}
FLAT = [0.0] * 9


def logits(**high):
    return [high.get(f"t{index}", 0.0) for index in range(9)]


def test_the_question_has_no_share_of_the_probability():
    spans, none = best_spans(WINDOW, FLAT, FLAT, SpanOptions(whole_words=False))
    assert none == pytest.approx(1 / 36)  # five tokens of the context, and the one for none
    assert spans[0][0] == pytest.approx(1 / 36)
    high, _ = best_spans(
        WINDOW, logits(t1=50, t3=2), logits(t2=50, t5=2), SpanOptions(whole_words=False)
    )
    assert high[0][1:] == (0, 8)


def test_answers_are_whole_words_unless_asked_otherwise():
    scores = logits(t5=9), logits(t5=9)
    assert best_spans(WINDOW, *scores, SpanOptions())[0][0][1:] == (4, 8)
    assert best_spans(WINDOW, *scores, SpanOptions(whole_words=False))[0][0][1:] == (6, 8)
    several, _ = best_spans(WINDOW, *scores, SpanOptions(top_k=3))
    ranked = rank(several, 3)
    assert len({place[1:] for place in ranked}) == 3
    assert ranked == sorted(ranked, reverse=True)


def test_an_answer_goes_forward_and_is_not_too_long():
    spans, _ = best_spans(WINDOW, FLAT, FLAT, SpanOptions(top_k=99, longest=2, whole_words=False))
    assert len(spans) == 5 + 4
    assert all(start < end for _, start, end in spans)


def test_no_answer_may_be_the_most_probable():
    spans, none = best_spans(WINDOW, logits(t0=9), logits(t0=9), SpanOptions())
    assert none > 0.9
    assert rank([*spans, (none, 0, 0)], 1) == [(none, 0, 0)]
    without = {**WINDOW, "none": None}
    assert best_spans(without, logits(t0=9), FLAT, SpanOptions())[1] == 0.0
