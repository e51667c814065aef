"""Log probabilities, penalties, biases and constraints, against the model's own logits."""

import concurrent.futures
import json
import re

import openai
import pytest
from test_generation import events, generate

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
    },
    "required": ["mood", "stars", "words"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["continuous", "transformers"])
def server(request, pool, language_model_dir, language_model):
    """The same model behind either backend: both must answer alike."""
    if request.param == "continuous":
        return language_model
    return pool.server(language_model_dir, SM_SERVE_ENGINE="transformers")


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def logits(language_model_dir):
    """Log probabilities of the token after each position, and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(language_model_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(language_model_dir)

    def read(ids):
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits[0]

    return read, tokenizer


def test_logprobs_are_the_models_own(server, logits):
    read, tokenizer = logits
    prompt = tokenizer("the movie")["input_ids"]
    for options in ({}, {"temperature": 1.5}, {"temperature": 1.5, "seed": 3}):
        parameters = {"max_new_tokens": 6, "top_n_tokens": 3, "frequency_penalty": 0.5, **options}
        answer = server.invoke({"inputs": "the movie", "parameters": parameters}).json()[0]
        details = answer["details"]
        ids = [token["id"] for token in details["tokens"]]
        assert answer["generated_text"] == tokenizer.decode(ids, skip_special_tokens=True)
        expected = read(prompt + ids).log_softmax(-1)[len(prompt) - 1 :]
        for row, token, top in zip(
            expected, details["tokens"], details["top_tokens"], strict=False
        ):
            assert token["logprob"] == pytest.approx(float(row[token["id"]]), abs=1e-3)
            assert token["text"] == tokenizer.decode([token["id"]])
            best = row.topk(3)
            assert [other["id"] for other in top] == best.indices.tolist()
            assert [o["logprob"] for o in top] == pytest.approx(best.values.tolist(), abs=1e-3)


def test_completions_have_logprobs_in_their_own_form(client):
    answer = client.completions.create(
        model="model", prompt="the movie", max_tokens=6, logprobs=2, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 6
    for token, value, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert top[token] == value == max(top.values())


def test_chat_logprobs_whole_and_streamed_are_equal(client):
    def ask(**more):
        return client.chat.completions.create(
            model="model", messages=HELLO, max_tokens=8, temperature=0, logprobs=True,
            top_logprobs=2, **more,
        )  # fmt: skip

    whole = ask().choices[0].logprobs.content
    pieces = [c.choices[0].logprobs for c in ask(stream=True) if c.choices[0].logprobs]
    streamed = [entry for piece in pieces for entry in piece.content]
    assert [e.token for e in whole] == [e.token for e in streamed]
    assert [e.logprob for e in whole] == pytest.approx([e.logprob for e in streamed], abs=1e-3)
    assert len(whole) == 8
    for entry in whole:
        assert len(entry.top_logprobs) == 2
        assert entry.top_logprobs[0].token == entry.token
        assert entry.bytes is None or bytes(entry.bytes).decode() == entry.token


def test_details_tell_each_tokens_logprob_and_alternatives(server):
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 5, "top_n_tokens": 2}}
    details = server.invoke(body).json()[0]["details"]
    assert [len(top) for top in details["top_tokens"]] == [2] * 5
    assert [t["logprob"] for t in details["tokens"]] == [
        top[0]["logprob"] for top in details["top_tokens"]
    ]


def greedy(read, prompt, count, change):
    """Greedy decoding by hand with changed logits."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(change(read(ids)[-1].clone(), ids[len(prompt) :]).argmax()))
    return ids[len(prompt) :]


def test_penalties_and_biases_change_the_logits_as_openai_says(server, logits):
    read, tokenizer = logits
    prompt = tokenizer("the movie was good")["input_ids"]
    plain = greedy(read, prompt, 12, lambda row, answer: row)

    def change(row, answer):
        for token in set(answer):
            row[token] -= 1.5 * answer.count(token) + 0.5
        row[plain[0]] -= 100
        return row

    expected = greedy(read, prompt, 12, change)
    ids, _ = generate(
        server,
        "the movie was good",
        max_new_tokens=12,
        frequency_penalty=1.5,
        presence_penalty=0.5,
        logit_bias={str(plain[0]): -100},
    )
    assert ids == expected != plain


def test_filters_keep_to_the_most_probable(server, logits):
    read, tokenizer = logits
    first = read(tokenizer("hello")["input_ids"])[-1].softmax(-1)
    order = first.argsort(descending=True).tolist()
    nucleus = next(n for n in range(1, 401) if float(first[order[:n]].sum()) >= 0.5)
    likely = int((first >= 0.3 * first.max()).sum())
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for options, allowed in (({"top_k": 3}, 3), ({"top_p": 0.5}, nucleus),
                                 ({"min_p": 0.3}, likely)):  # fmt: skip
            draws = threads.map(
                lambda seed, options=options: generate(
                    server, "hello", max_new_tokens=1, seed=seed, **options
                )[0][0],
                range(40),
            )
            seen = set(draws)
            assert seen <= set(order[:allowed])
            assert len(seen) > 1 or allowed == 1


def test_answers_keep_to_a_json_schema_under_concurrency(client):
    import jsonschema

    form = {"type": "json_schema", "json_schema": {"name": "review", "schema": SCHEMA}}

    def ask(seed):
        answer = client.chat.completions.create(
            model="model", messages=HELLO, max_tokens=200, temperature=1, seed=seed,
            response_format=form,
        )  # fmt: skip
        assert answer.choices[0].finish_reason == "stop"
        return answer.choices[0].message.content

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, [1, 2, 3, 4, 5, 1]))
    for answer in answers:
        jsonschema.validate(json.loads(answer), SCHEMA)
    assert answers[0] == answers[5]
    assert len(set(answers)) > 2


def test_answers_keep_to_a_regex_a_choice_and_a_grammar(client, server):
    def ask(**extra):
        answer = client.completions.create(
            model="model", prompt="hello", max_tokens=60, temperature=0, extra_body=extra
        )
        return answer.choices[0].text

    assert re.fullmatch(r"[0-9]{3}-[a-c]+x", ask(guided_regex=r"[0-9]{3}-[a-c]{1,4}x"))
    assert ask(guided_choice=["très bon", "sehr schlecht"]) in ("très bon", "sehr schlecht")
    assert ask(structured_outputs={"grammar": 'start: ("ab" | "cd")~2..2'}) in (
        "abab", "abcd", "cdab", "cdcd",
    )  # fmt: skip
    body = {"inputs": "hello", "parameters": {"grammar": {"type": "regex", "value": "(no|yes)!"}}}
    assert server.invoke(body).json()[0]["generated_text"] in ("no!", "yes!")
    pieces = events(server, {**body, "stream": True})
    assert "".join(p["token"]["text"] for p in pieces) in ("no!", "yes!")


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ({"type": "regex", "value": "("}, "parameters.grammar"),
        ({"type": "json", "value": {"type": "nonsense"}}, "parameters.grammar"),
        ({"type": "xml", "value": "a"}, "parameters.grammar"),
    ],
)
def test_malformed_constraints_are_a_clear_400(server, grammar, message):
    answer = server.invoke({"inputs": "a", "parameters": {"grammar": grammar}})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_min_new_tokens_and_a_seed_are_alike_in_both_backends(server, language_model):
    options = {"max_new_tokens": 40, "min_new_tokens": 40, "temperature": 1.0, "seed": 9}
    answer = generate(server, "hello", **options)
    assert answer == generate(language_model, "hello", **options)
    assert len(answer[0]) == 40
    assert 2 not in answer[0][:39]
