"""Which span of a window answers, as Hugging Face's pipeline decides it."""

import pytest

from sm_serve.engines.encoders.spans import Span, SpanOptions, best_spans, rank

WINDOW = {
    # [CLS] what [SEP] New York was big [SEP], with "York" in two tokens.
    "none": 0,
    "places": [None, None, None, (0, 3), (4, 6), (6, 8), (9, 12), (13, 16), None],
    "words": [None, None, None, (0, 3), (4, 8), (4, 8), (9, 12), (13, 16), None],
}
FLAT = [0.0] * 9


def place(span):
    return span.start, span.end


def logits(**high):
    return [high.get(f"t{index}", 0.0) for index in range(9)]


def test_the_question_has_no_share_of_the_probability():
    spans, none = best_spans(WINDOW, FLAT, FLAT, SpanOptions(whole_words=False))
    assert none.score == pytest.approx(1 / 36)  # five tokens of the context, and the one for none
    assert spans[0].score == pytest.approx(1 / 36)
    high, _ = best_spans(
        WINDOW, logits(t1=50, t3=2), logits(t2=50, t5=2), SpanOptions(whole_words=False)
    )
    assert place(high[0]) == (0, 8)


def test_answers_are_whole_words_unless_asked_otherwise():
    scores = logits(t5=9), logits(t5=9)
    best = best_spans(WINDOW, *scores, SpanOptions())[0][0]
    assert place(best) == (4, 8)
    part = best_spans(WINDOW, *scores, SpanOptions(whole_words=False))[0][0]
    assert place(part) == (6, 8)
    several, _ = best_spans(WINDOW, *scores, SpanOptions(top_k=3))
    ranked = rank(several, 3)
    assert len(set(map(place, ranked))) == 3
    assert ranked == sorted(ranked, reverse=True)


def test_an_answer_goes_forward_and_is_not_too_long():
    spans, _ = best_spans(WINDOW, FLAT, FLAT, SpanOptions(top_k=99, longest=2, whole_words=False))
    assert len(spans) == 5 + 4
    assert all(span.start < span.end for span in spans)


def test_no_answer_may_be_the_most_probable():
    spans, none = best_spans(WINDOW, logits(t0=9), logits(t0=9), SpanOptions())
    assert none.score > 0.9
    assert rank([*spans, none], 1) == [none]
    without = {**WINDOW, "none": None}
    assert best_spans(without, logits(t0=9), FLAT, SpanOptions())[1] == Span(0.0, 0.0)


def test_windows_may_be_compared_by_their_logits():
    """Sure of little in one window, and less sure of more in another."""
    options = SpanOptions(by_logit=True)
    alone = best_spans(WINDOW, logits(t3=2), logits(t3=2), options)[0][0]
    crowded = best_spans(WINDOW, [3.0] * 9, [3.0] * 9, options)[0][0]
    assert (alone.rank, crowded.rank) == (4.0, 6.0)
    assert alone.score > crowded.score
    assert rank([alone, crowded], 1) == [crowded]
    _, none = best_spans(WINDOW, logits(t0=1), logits(t0=4), options)
    assert none.rank == 5.0
