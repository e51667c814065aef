"""Answers in channels: thoughts, calls and text are told apart, and no mark reaches a client."""

import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.protocol import Delta
from sm_serve.schemas.harmony import (
    FIRST,
    MARKS,
    breaks_off,
    knows_channels,
    opened_message,
    with_thinking,
)
from sm_serve.schemas.message_reader import AnswerReader, MessageReader
from sm_serve.schemas.tools import HARMONY, ToolUse, find_format

TOOLS = ToolUse([{"type": "function", "function": {"name": name}} for name in ("weather", "time")])
THOUGHT = "<|channel|>analysis<|message|>I think.<|end|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|start|>assistant"
CALL = 'to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{"a": "<"}<|call|>'
LATE = '<|channel|>commentary to=functions.weather json<|message|>{"a": "<"}<|call|>'
ASKED = [("weather", '{"a": "<"}')]
CASES = [
    (FIRST, f"{THOUGHT}{NEXT}{FINAL}Yes.\n<|return|>", ("I think.", "Yes.\n", [])),
    (FIRST, f"{FINAL}a < b <| c", ("", "a < b <| c", [])),
    (f"{FIRST}{FINAL}", "fine", ("", "fine", [])),
    (f"{FIRST}{FINAL}", "fine<|return|>\n", ("", "fine", [])),
    (f"{FIRST}{FINAL}so f", "ar", ("", "ar", [])),
    (f"{FIRST}<|channel|>analysis<|message|>", f"hm<|end|>{NEXT}{FINAL}a", ("hm", "a", [])),
    (f"{FIRST}<|channel|>", "analysis<|message|>hm", ("hm", "", [])),
    (FIRST, f"{THOUGHT}{NEXT} {CALL}", ("I think.", "", ASKED)),
    (FIRST, f"{THOUGHT}{NEXT}{LATE}", ("I think.", "", ASKED)),
    (FIRST, f" {CALL}", ("", "", ASKED)),
    (FIRST, f" {CALL.removesuffix('<|call|>')}", ("", "", ASKED)),
    (FIRST, f" {CALL}{NEXT} {CALL}", ("", "", ASKED * 2)),
    (FIRST, " to=functions.time<|channel|>commentary json<|message|><|call|>",
     ("", "", [("time", "")])),
    (FIRST, f"<|channel|>commentary<|message|>First.<|end|>{NEXT}{LATE}", ("", "First.", ASKED)),
    (FIRST, f"{THOUGHT}{NEXT}{THOUGHT}{NEXT}{FINAL}a", ("I think.\n\nI think.", "a", [])),
    (FIRST, "<|channel|>analysis to=python code<|message|>1 + 1<|call|>", ("1 + 1", "", [])),
    (FIRST, CALL.replace("weather", "rm"), ("", 'functions.rm {"a": "<"}', [])),
    (FIRST, " to=self<|message|>I think.<|eom|><|start|>assistant to=user<|message|>a<|eot|>",
     ("I think.", "a", [])),
    (FIRST, " to=weather<|message|><city>x</city><|eom|>", ("", "weather <city>x</city>", [])),
    (FIRST, CALL.replace("json<|message|>", "json<|message|> \n"), ("", "", ASKED)),
    (FIRST, "no header <at all>", ("", "no header <at all>", [])),
    (FIRST, "to go or not to go", ("", "to go or not to go", [])),
    (FIRST, f"{THOUGHT}\nso", ("I think.", "so", [])),
    (FIRST, f"{FINAL}a{FINAL}b<|message|>c", ("", "a\n\nbc", [])),
    (FIRST, f"{THOUGHT}{NEXT}<|channel|>fin", ("I think.", "", [])),
    (FIRST, f"{THOUGHT}{NEXT} to=func", ("I think.", "", [])),
    (FIRST, f"{FINAL}cut <|retu", ("", "cut ", [])),
    (FIRST, "<|channel|>", ("", "", [])),
    (FIRST, "<|channel|>final is no header", ("", "final is no header", [])),
    (FIRST, f"<|channel|>{'x' * 400}", ("", "x" * 400, [])),
    (FIRST, f"<|channel|>{'x ' * 300}<|message|>y", ("", "x " * 300 + "y", [])),
    (FIRST, f"<|channel|>{' ' * 250}!", ("", " " * 250 + "!", [])),
    (FIRST, f"{THOUGHT}{NEXT}<|channel|>final<|mess", ("I think.", "", [])),
    (FIRST, f" {CALL.split('{', maxsplit=1)[0]}{NEXT}{FINAL}a", ("", "a", [("weather", "")])),
    (FIRST, " \n", ("", " \n", [])),
]  # fmt: skip


def read(opened, pieces, tools=TOOLS):
    """Thought, text and (name, arguments) of each call, the deltas joined as a client does."""
    reader, thought, text, calls, reason = MessageReader(tools, HARMONY), "", "", [], None
    for number, piece in enumerate(pieces, start=1):
        finish = "stop" if number == len(pieces) else None
        parsed = reader.read(Delta(piece, finish_reason=finish, opened=opened))
        thought, text, reason = thought + parsed.thought, text + parsed.text, parsed.reason
        for call in parsed.calls:
            if "id" in call:
                assert call["index"] == len(calls)
                calls.append([call["function"]["name"], ""])
            calls[call["index"]][1] += call["function"]["arguments"]
    assert reason == ("tool_calls" if calls else "stop")
    return thought, text, [tuple(call) for call in calls]


@pytest.mark.parametrize(("opened", "answer", "expected"), CASES)
def test_each_message_is_told_as_what_it_is(opened, answer, expected):
    assert read(opened, [answer]) == expected
    assert read(opened, list(answer)) == expected


def pieces_of(text, cuts):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


PARTS = st.sampled_from(
    [*MARKS, "assistant", "analysis", "final", "commentary json", " to=functions.weather",
     " to=functions.rm", "<|", "|>", "<", "a", " ", "\n", '{"a": 1}', "x" * 299]
)  # fmt: skip
OPENED = st.sampled_from([FIRST, f"{FIRST}{FINAL}", f"{FIRST}<|channel|>analysis<|message|>"])


@given(OPENED, st.lists(PARTS, max_size=14).map("".join), st.lists(st.integers(0, 80), max_size=30))
def test_any_pieces_give_the_same_and_never_a_mark(opened, answer, cuts):
    parsed = read(opened, pieces_of(answer, cuts))
    assert parsed == read(opened, [answer])
    told = [parsed[0], parsed[1], *itertools.chain.from_iterable(parsed[2])]
    assert not any(mark in text for mark in MARKS for text in told)


@given(OPENED, st.text("<|channel>fistrmg to=\n", max_size=40), st.lists(st.integers(0, 40)))
def test_pieces_of_any_text(opened, answer, cuts):
    assert read(opened, pieces_of(answer, cuts)) == read(opened, [answer])


def test_of_calls_in_turn_the_first_alone_where_one_is_asked_for():
    single = ToolUse(TOOLS.tools, parallel=False)
    assert read(FIRST, [f" {CALL}{NEXT} {CALL}"], single) == ("", "", ASKED)
    assert read(FIRST, [f" {CALL}"], None) == ("", 'functions.weather {"a": "<"}', [])


def test_a_format_without_thoughts_has_the_text_alone():
    reader = AnswerReader()
    deltas = [Delta(piece, opened=FIRST) for piece in (THOUGHT, f"{NEXT}{FINAL}a", "b")]
    assert "".join(reader.read(delta).text for delta in deltas) == "ab"
    assert AnswerReader().read(Delta("<think>a</think>b", opened="")).text == "<think>a</think>b"


def test_what_the_prompt_and_the_template_tell():
    template = "{{ tools }}<|start|>{{ m }}<|channel|>final<|message|>"
    assert knows_channels(template)
    assert not knows_channels("<|channel>thought<channel|>")
    tokenizer = SimpleNamespace(get_added_vocab=lambda: {"<|channel|>": 7})
    assert knows_channels("<|start|>{{ m }}<|message|>", tokenizer)
    assert not knows_channels("<|im_start|>{{ m }}<|im_end|>", tokenizer)
    assert find_format(template) is HARMONY
    assert opened_message(f"<|start|>user<|message|>a<|end|>{FIRST}") == FIRST
    assert opened_message("far into a message") == f"{FIRST}{FINAL}"
    assert breaks_off(f"{FIRST}{THOUGHT}")
    assert not breaks_off(f"{FIRST}{THOUGHT}{NEXT} {CALL}")
    assert not breaks_off(f"{FIRST}{THOUGHT}{NEXT}{FINAL}a")
    assert breaks_off(f"{FIRST} to=self<|message|>hm")
    assert not breaks_off("no message at all")


def test_past_thoughts_stand_where_the_template_reads_them():
    said = {"role": "assistant", "content": "so", "reasoning_content": "hm"}
    called = {**said, "tool_calls": [json.loads("{}")]}
    (one, two) = with_thinking([said, called], "{{ message.thinking }}")
    assert (one["thinking"], one["content"]) == ("hm", "so")
    assert (two["thinking"], two["content"]) == ("hm\n\nso", "")
    assert with_thinking([said], "{{ m.reasoning_content or m.thinking }}") == [said]
    user = {"role": "user", "content": "a", "reasoning_content": "b"}
    assert with_thinking([user], "{{ message.thinking }}") == [user]
