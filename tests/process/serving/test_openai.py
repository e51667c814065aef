"""The official OpenAI client against the server, unchanged."""

import base64
import json
import math

import numpy as np
import openai
import pytest
from serving_models import embedding_model
from serving_process import Server, base_with
from test_generation import reference  # noqa: F401

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(language_model):
    return openai.OpenAI(base_url=f"{language_model.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def embedder(pool):
    return pool.server(pool.model("embedder", embedding_model))


def test_chat_equals_generate(client, reference):  # noqa: F811
    answer = client.chat.completions.create(
        model="model", messages=HELLO, max_tokens=12, temperature=0
    )
    ids, text = reference(HELLO, 12)
    assert answer.choices[0].message.content == text
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == len(ids) == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_chat_streams_with_usage(client, reference):  # noqa: F811
    chunks = list(
        client.chat.completions.create(
            model="model",
            messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            max_completion_tokens=30,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == reference(HELLO, 30)[1]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens == 30
    assert len(chunks) > 5


def test_end_of_sequence_is_finish_reason_stop(client, reference):  # noqa: F811
    for prompt in ("hello", "the movie", "good", "bad", "we", "plot was", "i", "you", "not very"):
        ids, text = reference(prompt, 300)
        if ids[-1] == 2:
            break
    else:
        pytest.fail("no prompt ends by itself: change the tiny model's seed")
    answer = client.completions.create(model="model", prompt=prompt, max_tokens=300, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].text == text
    assert answer.usage.completion_tokens == len(ids)


def test_completions_take_lists_tokens_n_echo_and_stop(client, reference):  # noqa: F811
    answer = client.completions.create(
        model="model", prompt=["hello", "good"], n=2, max_tokens=5, temperature=0, echo=True
    )
    expected = [p + reference(p, 5)[1] for p in ("hello", "hello", "good", "good")]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.completion_tokens == 20
    by_id = client.completions.create(model="model", prompt=[5, 60], max_tokens=3, temperature=0)
    assert by_id.usage.prompt_tokens == 2


def test_several_seeded_choices_differ_and_repeat(client):
    def draw():
        answer = client.chat.completions.create(
            model="model", messages=HELLO, max_tokens=20, n=3, seed=11, temperature=1
        )
        return [choice.message.content for choice in answer.choices]

    first = draw()
    assert first == draw()
    assert len(set(first)) == 3


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["model"]
    assert client.models.retrieve("model").id == "model"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("gpt-9")


def test_without_adapters_the_models_name_is_the_clients_label(client):
    answer = client.chat.completions.create(model="gpt-9", messages=HELLO, max_tokens=2)
    assert answer.model == "gpt-9"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logit_bias": {"9999": 2}}, "logit_bias holds token 9999"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"frequency_penalty": 3.0}, "frequency_penalty=3.0"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"top_logprobs": 2}, "top_logprobs=2: set logprobs"),
        ({"extra_body": {"guided_regex": "("}}, "guided_regex"),
        ({"temperature": -1}, "temperature=-1"),
        ({"extra_body": {"tempo": 3}}, "tempo is unknown"),
        ({"max_tokens": 9999}, "exceed the context of 512"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client, options, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.chat.completions.create(**{"model": "model", "messages": HELLO, **options})


def test_top_p_of_zero_leaves_the_best_token(client, reference):  # noqa: F811
    answer = client.chat.completions.create(
        model="model", messages=HELLO, max_tokens=12, temperature=1, top_p=0,
        modalities=["text"], prompt_cache_key="k",
    )  # fmt: skip
    assert answer.choices[0].message.content == reference(HELLO, 12)[1]


def test_the_chat_template_gets_the_clients_variables(language_model_dir, tmp_path):
    from transformers import AutoTokenizer

    base = base_with(language_model_dir, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base / "model")
    tokenizer.chat_template = (
        "{{ messages[0]['content'] }}{% if thinking %} bad{% endif %}{{ reasoning_effort }}"
    )
    tokenizer.save_pretrained(base / "model")
    with Server(base) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

        def ask(**more):
            answer = client.chat.completions.create(
                model="model", messages=HELLO, max_tokens=4, temperature=0, **more
            )
            return answer.choices[0].message.content, answer.usage.prompt_tokens

        def expect(prompt):
            answer = client.completions.create(
                model="model", prompt=prompt, max_tokens=4, temperature=0
            )
            return answer.choices[0].text, answer.usage.prompt_tokens

        thinking = {"chat_template_kwargs": {"thinking": True}}
        assert ask(verbosity="medium", prompt_cache_retention="in_memory") == expect("hello")
        assert ask(extra_body=thinking) == expect("hello bad")
        assert ask(reasoning_effort="low") == expect("hellolow")
        with pytest.raises(openai.BadRequestError, match=r"kwargs\.tools is not for") as refused:
            ask(extra_body={"chat_template_kwargs": {"tools": []}})
        assert refused.value.type == "invalid_request_error"


def test_routes_that_are_not_there_name_those_that_are(client):
    with pytest.raises(openai.NotFoundError, match="no route /v1/moderations: of OpenAI's there"):
        client.moderations.create(input="hello")


def test_the_same_bodies_work_through_invocations(language_model, reference):  # noqa: F811
    expected = reference(HELLO, 8)[1]
    body = {"messages": HELLO, "max_tokens": 8, "temperature": 0}
    by_body = language_model.invoke(body).json()
    assert by_body["choices"][0]["message"]["content"] == expected
    by_route = language_model.invoke(
        body, x_amzn_sagemaker_custom_attributes="route=/v1/chat/completions"
    ).json()
    assert by_route["choices"][0]["message"]["content"] == expected
    with language_model.client.stream("POST", "/invocations", json={**body, "stream": True}) as s:
        lines = [line for line in s.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    pieces = [json.loads(line[6:])["choices"][0]["delta"].get("content", "") for line in lines[:-1]]
    assert "".join(pieces) == expected
    wrong = language_model.invoke(body, x_amzn_sagemaker_custom_attributes="route=/v1/nope")
    assert wrong.status_code == 400


def test_embeddings_equal_the_models_mean_pooling(embedder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    client = openai.OpenAI(base_url=f"{embedder.url}/v1", api_key="none", max_retries=0)
    path = embedder.base / "model"
    model, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    texts = ["the movie was good", "bad"]
    expected = []
    with torch.inference_mode():
        for text in texts:
            vector = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
            expected.append((vector / vector.norm()).tolist())
    answer = client.embeddings.create(model="model", input=texts)  # the client asks for base64
    plain = client.embeddings.create(model="model", input=texts, encoding_format="float")
    for item, wanted in zip([*answer.data, *plain.data], expected * 2, strict=True):
        assert item.embedding == pytest.approx(wanted, abs=1e-5)
    assert answer.usage.prompt_tokens == sum(len(tokenizer(t)["input_ids"]) for t in texts)
    assert embedder.invoke({"inputs": texts}).json()[1] == pytest.approx(expected[1], abs=1e-5)


def test_embeddings_of_token_ids(embedder):
    from transformers import AutoTokenizer

    client = openai.OpenAI(base_url=f"{embedder.url}/v1", api_key="none", max_retries=0)
    tokenizer = AutoTokenizer.from_pretrained(embedder.base / "model")
    texts = ["the movie was good", "bad"]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    expected = client.embeddings.create(model="model", input=texts)
    for given, rows in ((ids, expected.data), (ids[0], expected.data[:1])):
        answer = client.embeddings.create(model="model", input=given)
        for row, wanted in zip(answer.data, rows, strict=True):
            assert row.embedding == pytest.approx(wanted.embedding, abs=1e-5)
        assert answer.usage.prompt_tokens == sum(len(i) for i in ids[: len(rows)])
    for wrong in ([[1, 400]], [[-1]], [[1], "a"], [[]], [1, True], [[1] * 129]):
        answer = embedder.client.post("/v1/embeddings", json={"input": wrong})
        assert (answer.status_code, "input" in answer.text) == (400, True)
    mixed = embedder.invoke({"inputs": [[1, 2], "a"]})
    assert mixed.status_code == 400
    assert embedder.invoke({"inputs": ["a", [1, 2]]}).status_code == 400


def test_embeddings_of_fewer_dimensions_have_length_one(embedder):
    client = openai.OpenAI(base_url=f"{embedder.url}/v1", api_key="none", max_retries=0)
    whole = client.embeddings.create(model="model", input="good").data[0].embedding
    for encoding in ("float", "base64"):
        cut = client.embeddings.create(
            model="model", input="good", dimensions=5, encoding_format=encoding
        )
        vector = cut.data[0].embedding
        if encoding == "base64":
            vector = np.frombuffer(base64.b64decode(vector), dtype=np.float32).tolist()
        assert len(vector) == 5
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
        assert vector[0] / vector[1] == pytest.approx(whole[0] / whole[1], rel=1e-3)
    with pytest.raises(openai.BadRequestError, match="dimensions=99: the model's vectors have 32"):
        client.embeddings.create(model="model", input="good", dimensions=99)
