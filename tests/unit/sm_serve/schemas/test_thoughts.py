"""Thoughts are told apart from answers, however the tags are cut into pieces."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.protocol import Delta
from sm_serve.schemas.message_reader import MessageReader
from sm_serve.schemas.thoughts import KNOWN, THINK, ThoughtReader, is_open, opens_thought
from sm_serve.schemas.tools import HERMES, ToolUse

CASES = [
    (False, "<think>\nhm, so\n</think>\n\nyes", ("hm, so", "yes")),
    (False, "\n<think>a</think>b", ("a", "b")),
    (False, "no thought < here <think>", ("", "no thought < here <think>")),
    (False, "<thi", ("", "<thi")),
    (False, " \n", ("", " \n")),
    (False, "<think></think>yes ", ("", "yes ")),
    (True, "hm < 3 </thin or </think> yes\n</think>", ("hm < 3 </thin or", "yes\n</think>")),
    (True, "\n\nhm\n\nwell ", ("hm\n\nwell", "")),
    (True, "hm</thi", ("hm</thi", "")),
    (True, "</think>\n\nyes", ("", "yes")),
    (True, "<think>a</think>b", ("a", "b")),
]


def read(inside, pieces, tags=THINK):
    reader = ThoughtReader(tags, inside=inside)
    parts = [reader.push(piece, last=i == len(pieces)) for i, piece in enumerate(pieces, 1)]
    return "".join(thought for thought, _ in parts), "".join(text for _, text in parts)


@given(st.sampled_from(CASES), st.sampled_from(KNOWN), st.lists(st.integers(0, 60), max_size=60))
def test_any_pieces_give_the_same(case, tags, cuts):
    inside, text, expected = case
    if "</thi" in expected[0] + expected[1] or "<thi" in expected[1]:
        tags = THINK
    text = text.replace(THINK.opening, tags.opening).replace(THINK.closing, tags.closing)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert read(inside, [text[a:b] for a, b in itertools.pairwise(places)], tags) == expected


@given(st.text("<>think/ a\n", max_size=40), st.booleans())
def test_nothing_but_tags_and_blanks_is_lost(text, inside):
    thought, answer = read(inside, list(text) or [""])
    kept = "".join((thought + answer).split())
    whole = "".join(text.split())
    assert kept in (whole, whole.replace("</think>", "", 1),
                    whole.replace("<think>", "", 1).replace("</think>", "", 1),
                    whole.replace("<think>", "", 1))  # fmt: skip


def test_whether_a_prompt_has_opened_a_thought():
    assert opens_thought("<|assistant|><think>\n")
    assert not opens_thought("<think> is a tag<|assistant|>")
    assert is_open("a<think>b")
    assert not is_open("<think>b</think>c")


@pytest.mark.parametrize("opened", [None, ""])
def test_a_call_after_a_thought_is_a_call(opened):
    tools = ToolUse([{"type": "function", "function": {"name": "f"}}])
    reader = MessageReader(tools, HERMES)
    text = '<think>\nI call</think>\n<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    piece = reader.read(Delta(text, finish_reason="stop", opened=opened))
    assert piece.reason == "tool_calls"
    assert (piece.thought, piece.text) == (
        ("I call", "") if opened is not None else ("", "<think>\nI call</think>")
    )
