"""OpenAI's Responses API and thoughts, by the official client against the whole application."""

import asyncio
import json

import httpx
import openai
import pytest
from serving_models import tokenizer as make_tokenizer

from sm_serve.config import Settings
from sm_serve.engines.generators.base import TextGenerator
from sm_serve.engines.generators.writing import TokenChunk
from sm_serve.handlers.engine import EngineHandler
from sm_serve.http.server import build_app
from sm_serve.protocol import Task
from sm_serve.schemas.harmony import FINAL, MARKS
from sm_serve.service import Service

pytestmark = pytest.mark.slow

THINKING = (
    "{% for m in messages %}<|{{ m.role if m.role != 'tool' else 'user' }}|> {{ m.content }}"
    "{{ m.reasoning_content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}"
    "{% endfor %} {% endfor %}{% if tools %}call by <tool_call>{% endif %}"
    "{% if add_generation_prompt %}<|assistant|> {% if opened %}<think>\n{% endif %}{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final"
    "{% endif %}<|message|>{{ m.thinking }}{{ m.content }}<|end|>"
    "{% endfor %}{% if tools %}tools{% endif %}<|start|>assistant{{ begun }}"
)
CHANNELLED = (
    "<|channel|>analysis<|message|>hm, so<|end|><|start|>assistant<|channel|>final<|message|>"
    "yes you"
)
CHANNEL_CALL = (
    "<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=functions.weather<|channel|>"
    'commentary json<|message|>{"city": "good"}<|call|>never <|start|> told'
)
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "good"}}</tool_call>'
WEATHER = {
    "type": "function", "name": "weather", "strict": True, "description": "d",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


class Scripted(TextGenerator):
    """All of a language model's engine but the model, whose words are given."""

    def __init__(self, tokenizer, script, settings):
        from transformers import GenerationConfig, LlamaConfig

        config = LlamaConfig(vocab_size=400, max_position_embeddings=512, eos_token_id=2)
        super().__init__(config, GenerationConfig(eos_token_id=2), tokenizer, settings)
        self.script = script
        self.seen = []

    async def answer(self, prompt, sampling, request):
        self.seen.append(self.tokenizer.decode(prompt))
        tokens = [*self.tokenizer(self.script, add_special_tokens=False)["input_ids"], 2]
        for token in tokens[: sampling.max_new_tokens]:
            yield TokenChunk((token,))

    async def score(self, prompt, count, adapter):
        raise NotImplementedError

    def adapters(self):
        return []

    def trouble(self):
        return None

    def close(self):
        """Nothing to close."""


@pytest.fixture(scope="module")
def connect(tmp_path_factory):
    """A client of an application whose model says what is given."""
    plain, knowing = (
        make_tokenizer(tmp_path_factory.mktemp("tokenizer"), bert=False) for _ in range(2)
    )
    marks = {"additional_special_tokens": ["<think>", "</think>", *MARKS]}
    knowing.add_special_tokens(marks)

    def make(script, template=THINKING, special=False, **more):
        tokenizer = knowing if special else plain
        tokenizer.chat_template = template
        settings = Settings(**more)
        service = Service(settings)
        engine = Scripted(tokenizer, script, settings)
        service.task = Task.TEXT_GENERATION
        service._handler = EngineHandler(engine, settings)
        service.health.ready(lambda: None)
        transport = httpx.ASGITransport(build_app(service))
        client = openai.AsyncOpenAI(
            base_url="http://server/v1", api_key="none", max_retries=0,
            http_client=httpx.AsyncClient(transport=transport),
        )  # fmt: skip
        return client, engine

    return make


def respond(client, **options):
    return asyncio.run(client.responses.create(**{"model": "m", "input": "hello", **options}))


def stream(client, **options):
    async def every():
        events = await client.responses.create(
            **{"model": "m", "input": "hello", "stream": True, **options}
        )
        return [event async for event in events]

    return asyncio.run(every())


def chat(client, **options):
    messages = [{"role": "user", "content": "hello"}]
    return client.chat.completions.create(**{"model": "m", "messages": messages, **options})


TEXT_EVENTS = ["response.content_part.added", "deltas", "response.output_text.done",
               "response.content_part.done", "response.output_item.done"]  # fmt: skip
THOUGHT_EVENTS = [name.replace("output_text", "reasoning_text") for name in TEXT_EVENTS]
CALL_EVENTS = ["deltas", "response.function_call_arguments.done", "response.output_item.done"]
ADDED, BEGIN = "response.output_item.added", ["response.created", "response.in_progress"]


def outline(events):
    """The types of events, neighbouring deltas as one."""
    lines = []
    for event in events:
        kind = "deltas" if event.type.endswith(".delta") else event.type
        if not (lines and kind == lines[-1] == "deltas"):
            lines.append(kind)
    return lines


@pytest.mark.parametrize(
    ("script", "options", "items", "expected"),
    [
        ("yes you", {}, ["message"], [ADDED, *TEXT_EVENTS]),
        ("<think>\nhm\n</think>\n\nyes", {}, ["reasoning", "message"],
         [ADDED, *THOUGHT_EVENTS, ADDED, *TEXT_EVENTS]),
        (f"I call\n{CALL}\n{CALL}", {"tools": [WEATHER]},
         ["message", "function_call", "function_call"],
         [ADDED, *TEXT_EVENTS, ADDED, *CALL_EVENTS, ADDED, *CALL_EVENTS]),
        (f"<think>hm</think>{CALL}", {"tools": [WEATHER]}, ["reasoning", "function_call"],
         [ADDED, *THOUGHT_EVENTS, ADDED, *CALL_EVENTS]),
        ("", {}, ["message"], [ADDED, *[e for e in TEXT_EVENTS if e != "deltas"]]),
    ],
)  # fmt: skip
def test_events_come_in_order_and_join_to_the_whole(connect, script, options, items, expected):
    client, _ = connect(script)
    whole = respond(client, **options)
    events = stream(client, **options)
    assert outline(events) == [*BEGIN, *expected, "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    assert [item.type for item in last.output] == items == [item.type for item in whole.output]
    for index, item in enumerate(last.output):
        own = [e for e in events if getattr(e, "output_index", None) == index]
        assert {e.item_id for e in own if hasattr(e, "item_id")} <= {item.id}
        text = "".join(e.delta for e in own if e.type.endswith(".delta"))
        shown = item.arguments if item.type == "function_call" else item.content[0].text
        again = whole.output[index]
        assert text == shown
        assert shown == (again.arguments if item.type == "function_call" else again.content[0].text)
        assert own[-1].item == item
        assert item.status == "completed"
    assert (whole.status, whole.error, whole.store) == ("completed", None, False)
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    thought = whole.usage.output_tokens_details.reasoning_tokens
    assert (0 < thought < whole.usage.output_tokens) == ("reasoning" in items)
    assert whole.output_text == "".join(
        item.content[0].text for item in whole.output if item.type == "message"
    )


def test_an_answer_that_is_cut_is_incomplete(connect):
    client, _ = connect("the movie was good and more")
    for answer in (
        respond(client, max_output_tokens=3),
        stream(client, max_output_tokens=3)[-1].response,
    ):
        assert (answer.status, answer.incomplete_details.reason) == (
            "incomplete", "max_output_tokens",
        )  # fmt: skip
        assert answer.output[0].status == "incomplete"
        assert answer.usage.output_tokens == 3


def test_a_conversation_is_sent_again_as_items(connect):
    client, engine = connect("yes")
    first = respond(connect(f"<think>hm</think>ok{CALL}")[0], tools=[WEATHER])
    items = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "input_text", "text": "what"}]},
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    ]
    respond(client, input=items, instructions="be brief")
    assert engine.seen == [
        "<|system|> be brief\n\nbe kind <|user|> what <|assistant|> okhmgood <|user|> sunny"
        " <|assistant|> "
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"previous_response_id": "r"}, "previous_response_id='r': nothing is kept"),
        ({"store": True}, "store=True: nothing is kept here"),
        ({"background": True}, "background=True"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary='auto'"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort='high': the model's chat template"),
        ({"include": ["reasoning.encrypted_content"]}, "include="),
        ({"tools": [{"type": "web_search"}]}, r"tools\[0\].type='web_search'"),
        ({"tool_choice": {"type": "function", "name": "f"}, "tools": [WEATHER]}, "names 'f'"),
        ({"input": []}, "input: give a list"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, r"input\[0\].type='item_reference'"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         r"input\[0\].content holds a part of type 'input_image'"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type='xml'"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"max_output_tokens": 0}, "max_output_tokens=0"),
        ({"extra_body": {"tempo": 1}}, "tempo is unknown"),
        ({"input": "movie " * 600}, "input: the prompt has"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(connect, options, message):
    client, _ = connect("yes")
    for streamed in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError, match=message):
            respond(client, **options, **streamed)


def test_off_is_taken_and_told_again(connect):
    client, _ = connect("yes")
    answer = respond(
        client, store=False, background=False, truncation="disabled", metadata={"a": "b"},
        parallel_tool_calls=True, include=[], reasoning={"effort": None}, user="me",
        text={"format": {"type": "text"}, "verbosity": "medium"}, temperature=0.5, tools=[],
        tool_choice="auto", service_tier="auto", previous_response_id=None,
    )  # fmt: skip
    assert (answer.metadata, answer.user, answer.temperature) == ({"a": "b"}, "me", 0.5)


def test_thoughts_of_chat_stand_beside_the_content(connect):
    client, _ = connect("<think>\nhm, so\n</think>\n\nyes you")
    whole = asyncio.run(chat(client)).choices[0]
    assert (whole.message.reasoning_content, whole.message.content) == ("hm, so", "yes you")
    assert whole.message.reasoning == "hm, so"
    assert whole.finish_reason == "stop"

    async def streamed():
        chunks = [chunk async for chunk in await chat(client, stream=True)]
        return [chunk.choices[0].delta for chunk in chunks]

    deltas = asyncio.run(streamed())
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == "hm, so"
    assert "".join(delta.content or "" for delta in deltas) == "yes you"
    assert sum(map(bool, thoughts)) > 1
    without = asyncio.run(chat(client, extra_body={"include_reasoning": False})).choices[0].message
    assert (without.content, hasattr(without, "reasoning_content")) == ("yes you", False)


def test_a_thought_may_be_opened_by_the_prompt_and_end_with_the_answer(connect):
    client, engine = connect("hm</think>yes")
    opened = {"extra_body": {"chat_template_kwargs": {"opened": True}}}
    message = asyncio.run(chat(client, **opened)).choices[0].message
    assert engine.seen[-1].endswith("<think>\n")
    assert (message.reasoning_content, message.content) == ("hm", "yes")
    plain = asyncio.run(chat(client)).choices[0].message
    assert plain.content == "hm</think>yes"
    cut = asyncio.run(chat(client, max_tokens=1, **opened)).choices[0]
    assert (cut.message.content, cut.finish_reason) == (None, "length")
    assert cut.message.reasoning_content


def test_an_answer_that_never_ends_its_thought_is_all_thought_and_counted(connect):
    client, engine = connect("hm")
    opened = {"extra_body": {"chat_template_kwargs": {"opened": True}}}
    whole = asyncio.run(chat(client, **opened)).choices[0]
    assert (whole.message.reasoning_content, whole.message.content) == ("hm", None)
    assert whole.finish_reason == "stop"
    asyncio.run(chat(client, max_tokens=1, **opened))  # cut off: it may have ended
    asyncio.run(chat(client))
    assert engine.stats()["open_thoughts_total"] == 1


@pytest.mark.parametrize("opened", [True, False])
def test_tags_may_be_special_tokens(connect, opened):
    script = "hm < 3</think>\n\nyes" if opened else "<think>hm < 3</think>\n\nyes"
    template = {"extra_body": {"chat_template_kwargs": {"opened": opened}}}
    client, _ = connect(script, special=True)
    message = asyncio.run(chat(client, **template)).choices[0].message
    assert (message.reasoning_content, message.content) == ("hm < 3", "yes")

    async def streamed():
        chunks = [chunk async for chunk in await chat(client, stream=True, **template)]
        deltas = [chunk.choices[0].delta for chunk in chunks]
        names = ("reasoning_content", "content")
        return ["".join(getattr(d, name, None) or "" for d in deltas) for name in names]

    assert asyncio.run(streamed()) == ["hm < 3", "yes"]
    client, _ = connect(script, special=True, reasoning_parser="none")
    assert asyncio.run(chat(client, **template)).choices[0].message.content == "hm < 3\n\nyes"


def test_thoughts_are_told_apart_where_the_model_knows_them_or_the_variable_says_so(connect):
    script, plain = "<think>hm</think>yes", "{{ messages[0].content }}"
    for template, setting, content in (
        (plain, "auto", script), (plain, "think", "yes"), (THINKING, "none", script),
        (THINKING, "auto", "yes"),
    ):  # fmt: skip
        client, _ = connect(script, template, reasoning_parser=setting)
        assert asyncio.run(chat(client)).choices[0].message.content == content
    forced = {"response_format": {"type": "json_object"}}
    client, _ = connect('{"a": "<think>"}')
    assert asyncio.run(chat(client, **forced)).choices[0].message.content == '{"a": "<think>"}'


async def joined(client, **options):
    """A stream's thought, text and arguments, as a client joins them."""
    chunks = [chunk async for chunk in await chat(client, stream=True, **options)]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    return (
        *(
            "".join(getattr(d, n, None) or "" for d in deltas)
            for n in ("reasoning_content", "content")
        ),
        "".join(call.function.arguments for call in calls),
        chunks[-1].choices[0].finish_reason,
    )


TOOL = {"type": "function", "function": {k: v for k, v in WEATHER.items() if k != "type"}}


@pytest.mark.parametrize("special", [True, False], ids=["tokens", "texts"])
def test_answers_in_channels_are_told_without_their_marks(connect, special):
    client, engine = connect(CHANNELLED, CHANNELS, special=special)
    whole = asyncio.run(chat(client)).choices[0]
    assert (whole.message.reasoning_content, whole.message.content) == ("hm, so", "yes you")
    assert asyncio.run(joined(client)) == ("hm, so", "yes you", "", "stop")
    answer = respond(client)
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output_text == "yes you"
    past = [{"role": "assistant", "content": "b", "reasoning_content": "a"}]
    asyncio.run(chat(client, messages=past))
    assert "final<|message|>ab<|end|>" in engine.seen[-1].replace(" ", "")
    client, engine = connect(CHANNEL_CALL, CHANNELS, special=special)
    whole = asyncio.run(chat(client, tools=[TOOL])).choices[0]
    (call,) = whole.message.tool_calls
    assert (whole.message.reasoning_content, whole.message.content) == ("hm", None)
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "good"},
    )
    assert whole.finish_reason == "tool_calls"
    told = asyncio.run(joined(client, tools=[TOOL]))
    assert told == ("hm", "", call.function.arguments, "tool_calls")
    assert [i.type for i in respond(client, tools=[WEATHER]).output] == [
        "reasoning",
        "function_call",
    ]


def test_a_format_without_thoughts_gets_the_final_channel(connect):
    client, _ = connect(CHANNELLED, CHANNELS, special=True)
    body = {"inputs": [{"role": "user", "content": "hello"}]}
    answer = asyncio.run(client.post("/../invocations", body=body, cast_to=httpx.Response))
    assert answer.json()[0]["generated_text"] == "yes you"
    body["stream"] = True
    answer = asyncio.run(client.post("/../invocations", body=body, cast_to=httpx.Response))
    events = [json.loads(line.split(":", 1)[1]) for line in answer.text.splitlines() if line]
    assert events[-1]["generated_text"] == "yes you"
    assert "".join(event["token"]["text"] for event in events) == "yes you"


def test_what_is_held_to_a_constraint_follows_the_header_of_its_channel(connect):
    client, engine = connect('{"a": 1}', CHANNELS, special=True)
    forced = {"response_format": {"type": "json_object"}}
    message = asyncio.run(chat(client, **forced)).choices[0].message
    assert json.loads(message.content) == {"a": 1}
    assert engine.seen[-1].endswith(FINAL)
    begun = {"extra_body": {"chat_template_kwargs": {"begun": FINAL}}}
    asyncio.run(chat(client, **forced, **begun))
    assert engine.seen[-1].count(FINAL) == 1
    client, engine = connect('{"name": "weather", "arguments": {}}', CHANNELS, special=True)
    whole = asyncio.run(chat(client, tools=[TOOL], tool_choice="required")).choices[0]
    assert whole.message.tool_calls[0].function.name == "weather"
    assert engine.seen[-1].endswith("<|channel|>commentary json<|message|>")


def test_answers_in_channels_that_are_thoughts_alone_are_counted(connect):
    client, engine = connect("<|channel|>analysis<|message|>hm", CHANNELS, special=True)
    whole = asyncio.run(chat(client)).choices[0]
    assert (whole.message.reasoning_content, whole.message.content) == ("hm", None)
    assert engine.stats()["open_thoughts_total"] == 1
    client, _ = connect("<|channel|>final<|message|>a", CHANNELS, reasoning_parser="none")
    assert "final" in asyncio.run(chat(client)).choices[0].message.content


def test_responses_of_a_real_model_equal_its_chat(language_model):
    client = openai.OpenAI(base_url=f"{language_model.url}/v1", api_key="none", max_retries=0)
    options = {"model": "m", "temperature": 0}
    expected = client.chat.completions.create(
        messages=[{"role": "system", "content": "good"}, {"role": "user", "content": "hello"}],
        max_tokens=12, **options,
    ).choices[0].message.content  # fmt: skip
    asked = {"input": "hello", "instructions": "good", "max_output_tokens": 12, **options}
    assert client.responses.create(**asked).output_text == expected
    with client.responses.stream(**asked) as events:
        assert "".join(e.delta for e in events if e.type.endswith("text.delta")) == expected
    by_body = language_model.invoke(asked).json()
    assert by_body["output"][0]["content"][0]["text"] == expected
    forced = client.responses.create(
        **{**asked, "max_output_tokens": 60}, tools=[WEATHER], tool_choice="required"
    )
    assert json.loads(forced.output[0].arguments).keys() <= {"city"}
    shaped = client.responses.create(
        **{**asked, "max_output_tokens": 60},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"const": {"a": 1}}}},
    )
    assert json.loads(shaped.output_text) == {"a": 1}
