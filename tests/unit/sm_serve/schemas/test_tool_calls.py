"""Tools in, tool calls out, however the answer is cut into pieces."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.errors import BadRequest
from sm_serve.schemas import openai
from sm_serve.schemas.tool_calls import CallReader
from sm_serve.schemas.tools import HERMES, LLAMA, MISTRAL, PLAIN, call_schema, find_format

HELLO = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time"}}
CALL = '{"name": "weather", "arguments": {"city": "a } \\" { b"}}'
ARGUMENTS = '{"city": "a } \\" { b"}'


def read(form, pieces, *, forced=False, single=False):
    """Content and (name, arguments) of each call, the deltas joined as a client joins them."""
    reader = CallReader(form, frozenset({"weather", "time"}), forced=forced, single=single)
    text, calls = "", []
    for index, piece in enumerate(pieces, start=1):
        parsed = reader.push(piece, last=index == len(pieces))
        text += parsed.text
        for call in parsed.calls:
            if "id" in call:
                assert call["index"] == len(calls)
                calls.append([call["function"]["name"], ""])
            calls[call["index"]][1] += call["function"]["arguments"]
    return text, [tuple(call) for call in calls]


CASES = [
    (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", "", [("weather", ARGUMENTS)]),
    (
        HERMES,
        f'Let me look.\n<tool_call>{CALL}</tool_call>\n<tool_call>{{"arguments": {{"a": 1}},'
        ' "name": "time"}</tool_call>\n',
        "Let me look.",
        [("weather", ARGUMENTS), ("time", '{"a": 1}')],
    ),
    (HERMES, "no call < here <tool_ca", "no call < here <tool_ca", []),
    (HERMES, "<tool_call>", "<tool_call>", []),
    (HERMES, "I call \n<tool_call>", "I call \n<tool_call>", []),
    (HERMES, "<tool_call>no json</tool_call> ok ", "<tool_call>no json</tool_call> ok ", []),
    (HERMES, '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
     '<tool_call>{"name": "rm", "arguments": {}}</tool_call>', []),
    (HERMES, '<tool_call>{"name": "weather", "arguments": {"ci', "", [("weather", '{"ci')]),
    (HERMES, '<tool_call>{"name": "weath', '<tool_call>{"name": "weath', []),
    (HERMES, '<tool_call>{"name": "time", "arguments": "{\\"a\\": 1}"}</tool_call>', "",
     [("time", '{"a": 1}')]),
    (LLAMA, CALL.replace("arguments", "parameters"), "", [("weather", ARGUMENTS)]),
    (LLAMA, f"<|python_tag|>{CALL}; {CALL}", "", [("weather", ARGUMENTS)] * 2),
    (LLAMA, "plain words { with braces }", "plain words { with braces }", []),
    (LLAMA, '{"answer": 42}', '{"answer": 42}', []),
    (MISTRAL, f"[TOOL_CALLS] [{CALL}, {CALL}]", "", [("weather", ARGUMENTS)] * 2),
    (MISTRAL, "[1, 2]", "[1, 2]", []),
    (LLAMA, "  \n", "  \n", []),
]  # fmt: skip


@pytest.mark.parametrize(("form", "answer", "text", "calls"), CASES)
def test_calls_are_found_however_the_answer_is_cut(form, answer, text, calls):
    assert read(form, [answer]) == (text, calls)
    for size in (1, 2, 3, 7):
        pieces = [answer[i : i + size] for i in range(0, len(answer), size)]
        assert read(form, pieces) == (text, calls)


@given(st.text('<tool_ca>{}[]", :nme\\ \n', max_size=40), st.sampled_from([HERMES, LLAMA, MISTRAL]))
def test_what_is_no_call_stays_as_it_is(answer, form):
    """No text is lost or changed but marks of calls that come before one."""
    reader_text, calls = read(form, [*answer, ""])
    assert calls == []
    assert reader_text == answer
    assert read(form, [answer]) == (answer, [])


def test_a_forced_answer_is_one_call_and_a_single_one_the_first():
    for form in (HERMES, PLAIN):
        assert read(form, list(CALL), forced=True) == ("", [("weather", ARGUMENTS)])
    assert read(HERMES, [CALL[:9]], forced=True) == (CALL[:9], [])
    both = f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>"
    assert read(HERMES, list(both), single=True) == ("", [("weather", ARGUMENTS)])


def test_the_format_is_read_off_the_template():
    assert find_format("{{ tools }} <tool_call>") is HERMES
    assert find_format('{{ tools }} {"name": .., "parameters": ..} ipython') is LLAMA
    assert find_format("{{ tools }} [TOOL_CALLS]") is MISTRAL
    assert find_format("{{ tools }} <tool_call><function=f>") is None
    assert find_format("{{ messages }} <tool_call>") is None


def parse(**more):
    return openai.parse_generation(openai.CHAT, {"messages": HELLO, **more})


def test_who_may_call_what():
    tools = [WEATHER, TIME]
    assert parse(tools=tools).requests[0].tools == tools
    assert parse(tools=tools, tool_choice="none").requests[0].tools is None
    assert parse(tools=[], tool_choice="auto").tools is None
    job = parse(tools=tools, tool_choice="required").calling("{{ tools }} <tool_call>")
    assert job.requests[0].answer_prefix == "<tool_call>\n"
    schema = json.loads(job.requests[0].sampling.constraint.value)
    names = [call["properties"]["name"]["const"] for call in schema["anyOf"]]
    assert names == ["weather", "time"]
    named = {"type": "function", "function": {"name": "time"}}
    job = parse(tools=tools, tool_choice=named).calling("")
    schema = json.loads(job.requests[0].sampling.constraint.value)
    assert schema["properties"]["name"] == {"const": "time"}
    assert job.requests[0].answer_prefix == ""


def test_references_and_open_objects_of_parameters():
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    parameters = {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/P"}, "q": {"anyOf": [inner]}},
        "$defs": {"P": inner},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    job = parse(tools=[tool], tool_choice="required")
    schema = call_schema(job.tools, "arguments")
    arguments = schema["$defs"]["tool0"]
    assert arguments["properties"]["p"] == {"$ref": "#/$defs/tool0/$defs/P"}
    assert arguments["additionalProperties"] is False
    assert arguments["$defs"]["P"]["additionalProperties"] is False
    assert "additionalProperties" not in parameters  # the client's own is left alone


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tools": "x"}, "tools='x'"),
        ({"tools": [{"type": "function"}]}, r"tools\[0\]: give"),
        ({"tools": [{"type": "web_search"}]}, r"tools\[0\]: give"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, r"tools\[0\].function.na"),
        ({"tools": [WEATHER, WEATHER]}, "same name"),
        ({"tool_choice": "required"}, "tool_choice='required': give the tools"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice='any': give"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
         "tool_choice names 'x': tools has weather"),
        ({"tools": [WEATHER], "tool_choice": "required", "guided_regex": "a"},
         "tool_choice and guided_regex cannot hold at once"),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "tool_calls: give a list"),
    ],
)  # fmt: skip
def test_wrong_tools_are_named(body, message):
    with pytest.raises(BadRequest, match=message):
        parse(**body).calling("")


def test_past_calls_reach_the_template_as_objects():
    call = {"id": "c", "type": "function", "function": {"name": "time", "arguments": '{"a": 1}'}}
    bad = {"function": {"name": "time", "arguments": "{"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, bad]}
    calls = openai.read_messages([*HELLO, message])[1]["tool_calls"]
    assert [c["function"]["arguments"] for c in calls] == [{"a": 1}, "{"]
    assert call["function"]["arguments"] == '{"a": 1}'
