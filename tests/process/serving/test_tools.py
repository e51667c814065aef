"""Tool calls with the official OpenAI client, forced and by the model's own will."""

import concurrent.futures
import json
import shutil

import openai
import pydantic
import pytest

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% if tools %}<|system|> {% for t in tools %}{{ t.function.name }} {% endfor %}"
    "call by <tool_call> {% endif %}"
    "{% for m in messages %}<|{{ m.role if m.role != 'tool' else 'user' }}|> {{ m.content }} "
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
HELLO = [{"role": "user", "content": "hello"}]


class Weather(pydantic.BaseModel):
    """The weather of a city."""

    class Day(pydantic.BaseModel):
        number: int = pydantic.Field(ge=1, le=7)

    city: str = pydantic.Field(max_length=6)
    unit: str = pydantic.Field(pattern="^(metric|imperial)$")
    days: list[Day] = pydantic.Field(max_length=2)


TOOLS = [
    openai.pydantic_function_tool(Weather, name="weather"),
    {"type": "function", "function": {"name": "now", "description": "the time"}},
]


def connect(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def hermes(pool, language_model_dir):
    """A model whose template shows tools."""

    def make(path):
        shutil.copytree(language_model_dir, path)
        (path / "chat_template.jinja").write_text(TEMPLATE)
        return path

    return connect(pool.server(pool.model("tools", make)))


@pytest.fixture(scope="module", params=["hermes", "without"])
def client(request, language_model):
    """The same, and one whose template has none: it can be made to call all the same."""
    if request.param == "hermes":
        return request.getfixturevalue("hermes")
    return connect(language_model)


def ask(client, **options):
    options = {"messages": HELLO, "tools": TOOLS, "max_tokens": 250, "temperature": 1, **options}
    return client.chat.completions.create(model="model", **options)


def test_forced_calls_are_valid_whole_and_streamed_under_concurrency(client):
    def both(seed):
        choice = "required" if seed % 2 else {"type": "function", "function": {"name": "weather"}}
        whole = ask(client, seed=seed, tool_choice=choice).choices[0]
        chunks = list(ask(client, seed=seed, tool_choice=choice, stream=True))
        return choice, whole, chunks

    names = set()
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        for choice, whole, chunks in threads.map(both, range(12)):
            assert whole.finish_reason == "tool_calls"
            assert whole.message.content is None
            (call,) = whole.message.tool_calls
            assert call.type == "function"
            assert call.id.startswith("call_")
            if choice != "required" or call.function.name == "weather":
                assert call.function.name == "weather"
                Weather.model_validate_json(call.function.arguments)
            else:
                assert json.loads(call.function.arguments) == {}
            names.add(call.function.name)
            deltas = [part for c in chunks for part in c.choices[0].delta.tool_calls or ()]
            assert deltas[0].id
            assert {part.index for part in deltas} == {0}
            assert [part.function.name for part in deltas if part.id] == [call.function.name]
            joined = "".join(part.function.arguments for part in deltas)
            assert joined == call.function.arguments
            assert not any(c.choices[0].delta.content for c in chunks)
            reasons = [c.choices[0].finish_reason for c in chunks]
            assert reasons[-1] == "tool_calls"
            assert set(reasons[:-1]) == {None}
            assert call.function.name == "now" or len(deltas) > 3
    assert names == {"weather", "now"}


def test_the_clients_own_stream_helper_assembles_a_forced_call(client):
    with client.chat.completions.stream(
        model="model", messages=HELLO, tools=TOOLS, tool_choice="required", max_tokens=250, seed=1,
    ) as stream:  # fmt: skip
        message = stream.get_final_completion().choices[0].message
    assert len(message.tool_calls) == 1


def test_tools_that_the_model_is_not_shown_are_refused(language_model):
    client = connect(language_model)
    with pytest.raises(openai.BadRequestError, match="shows it no tools"):
        ask(client)
    assert ask(client, tool_choice="none", max_tokens=3).choices[0].message.tool_calls is None


def test_none_and_auto_answer_in_words(hermes):
    client = hermes
    plain = ask(client, tools=openai.omit, temperature=0, max_tokens=20).choices[0]
    for options in ({"tool_choice": "none"}, {"tool_choice": "none", "parallel_tool_calls": False}):
        choice = ask(client, temperature=0, max_tokens=20, **options).choices[0]
        assert (choice.message.content, choice.finish_reason) == (
            plain.message.content,
            plain.finish_reason,
        )
    choice = ask(client, temperature=0, max_tokens=20, tool_choice="auto").choices[0]
    assert choice.message.tool_calls is None
    assert choice.message.content
    assert choice.finish_reason in ("length", "stop")


def test_calls_that_the_model_writes_by_itself_are_read(hermes):
    """A constraint makes the tiny model write what a trained one writes by its own will."""
    call = (
        r'<tool_call>\n\{"name": "weather", "arguments": \{"city": "(good|bad)"\}\}\n</tool_call>'
    )
    client = hermes
    extra = {"guided_regex": rf"Sure\. {call}\n{call}".replace("\\n", "\n")}
    choice = ask(client, extra_body=extra).choices[0]
    chunks = list(ask(client, extra_body=extra, stream=True, n=2))
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Sure."
    assert [c.function.name for c in choice.message.tool_calls] == ["weather"] * 2
    for made in choice.message.tool_calls:
        assert json.loads(made.function.arguments)["city"] in ("good", "bad")
    assert len({made.id for made in choice.message.tool_calls}) == 2
    for index in (0, 1):
        parts = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert "".join(p.delta.content or "" for p in parts) == "Sure."
        starts = [t.index for p in parts for t in p.delta.tool_calls or () if t.id]
        assert starts == [0, 1]
        assert parts[-1].finish_reason == "tool_calls"
    lone = ask(client, extra_body=extra, parallel_tool_calls=False).choices[0]
    assert len(lone.message.tool_calls) == 1


def test_a_conversation_with_calls_goes_on(hermes):
    client = hermes
    call = {"id": "c1", "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "one"}'}}  # fmt: skip
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "good"},
    ]
    assert ask(client, messages=messages, max_tokens=5).choices[0].message.role == "assistant"
    cut = ask(client, tool_choice="required", max_tokens=12).choices[0]
    assert cut.finish_reason == "length"
