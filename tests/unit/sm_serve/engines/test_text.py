"""Decoding and stop strings, with a tokenizer of bytes: one byte a token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.engines.generators.text import IncrementalDecoder, StopMatcher


class Bytes:
    """Every byte is a token."""

    def decode(self, ids, skip_special_tokens):
        return bytes(ids).decode(errors="replace")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")),
       st.integers(1, 4))  # fmt: skip
def test_pieces_join_to_the_whole_and_hold_no_half_characters(text, step):
    decoder = IncrementalDecoder(Bytes())
    ids = list(text.encode())
    pieces = [
        decoder.push(ids[i : i + step], last=i + step >= len(ids)) for i in range(0, len(ids), step)
    ]
    assert "".join(pieces) == text


def test_an_unfinished_character_is_shown_at_the_end_only():
    decoder = IncrementalDecoder(Bytes())
    euro = list("€".encode())
    assert decoder.push(euro[:1]) == ""
    assert decoder.push(euro[1:2], last=True) == "\ufffd"


@pytest.mark.slow
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1,
       max_size=3), st.integers(1, 5))  # fmt: skip
def test_text_is_cut_at_the_first_stop_however_it_arrives(text, stops, step):
    matcher = StopMatcher(stops)
    sent = ""
    for i in range(0, max(len(text), 1), step):
        sent += matcher.push(text[i : i + step], last=i + step >= len(text))
    # Of stops that overlap, the one that is complete first ends the answer.
    matches = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert matcher.matched == bool(matches)
    assert sent == (text[: min(matches)[1]] if matches else text)


def test_nothing_follows_a_stop():
    matcher = StopMatcher(["END"])
    assert matcher.push("one E") == "one "
    assert matcher.push("ND two") == ""
    assert matcher.push("three", last=True) == ""
