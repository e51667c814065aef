"""Generation over real HTTP: equal to `generate`, streamed, stopped, seeded, cancelled."""

import concurrent.futures
import json
import random
import time

import httpx
import pytest

pytestmark = pytest.mark.slow

VOCABULARY = "the a movie was good bad great poor plot hello world".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def reference(language_model_dir):
    """Greedy answers straight from model.generate, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(language_model_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(language_model_dir)

    def answer(prompt, tokens, **options):
        if isinstance(prompt, str):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        else:
            ids = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
        with torch.inference_mode():
            out = model.generate(ids, max_new_tokens=tokens, do_sample=False, **options)
        new = out[0, ids.shape[1] :].tolist()
        return new, tokenizer.decode(new, skip_special_tokens=True)

    return answer


def generate(server, prompt, **parameters):
    answer = server.invoke({"inputs": prompt, "parameters": {"details": True, **parameters}})
    assert answer.status_code == 200, answer.text
    result = answer.json()[0]
    return [token["id"] for token in result["details"]["tokens"]], result["generated_text"]


def test_greedy_under_concurrency_equals_generate_token_by_token(language_model, reference):
    chance = random.Random(5)
    jobs = [
        (
            " ".join(chance.choices(VOCABULARY, k=chance.randint(1, 60))),
            chance.choice([1, 5, 20, 60]),
        )
        for _ in range(40)
    ]
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        noise = threads.submit(
            generate, language_model, "the movie", max_new_tokens=100, temperature=1.5
        )
        answers = list(
            threads.map(lambda job: generate(language_model, job[0], max_new_tokens=job[1]), jobs)
        )
        noise.result()
    for (prompt, tokens), answer in zip(jobs, answers, strict=True):
        assert answer == reference(prompt, tokens)


def test_repetition_penalty_equals_generate(language_model, reference):
    prompt = "the movie was good the movie was"
    expected = reference(prompt, 30, repetition_penalty=1.7)
    assert generate(language_model, prompt, max_new_tokens=30, repetition_penalty=1.7) == expected
    assert expected != reference(prompt, 30)


def test_chat_messages_go_through_the_template(language_model, reference):
    messages = [{"role": "user", "content": "hello"}]
    answer = generate(language_model, messages, max_new_tokens=12)
    assert answer == reference(messages, 12)


def test_a_list_of_prompts_gives_a_list_in_order(language_model, reference):
    body = {"inputs": ["the movie", "hello world"], "parameters": {"max_new_tokens": 6}}
    answers = language_model.invoke(body).json()
    assert [answer["generated_text"] for answer in answers] == [
        reference("the movie", 6)[1],
        reference("hello world", 6)[1],
    ]


def test_seeds_repeat_in_any_company_and_differ_among_themselves(language_model):
    def draw(seed):
        return generate(language_model, "hello", max_new_tokens=30, temperature=1.0, seed=seed)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(draw, [1, 2, 1, 3, 1, 2]))
    assert answers[0] == answers[2] == answers[4]
    assert answers[1] == answers[5]
    assert answers[0] != answers[1] != answers[3]


def test_top_k_of_one_is_greedy(language_model, reference):
    answer = generate(language_model, "hello", max_new_tokens=10, temperature=2.0, top_k=1)
    assert answer == reference("hello", 10)


def test_stop_strings_end_the_answer_before_them(language_model, reference):
    _, text = reference("the movie", 60)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    body = {"inputs": "the movie", "parameters": {"max_new_tokens": 60, "stop": [stop]}}
    for stream in (False, True):
        if stream:
            answer = events(language_model, {**body, "stream": True})[-1]
        else:
            body["parameters"]["details"] = True
            answer = language_model.invoke(body).json()[0]
        assert answer["generated_text"] == text[: text.index(stop)]
        assert answer["details"]["finish_reason"] == "stop_sequence"


def events(server, body, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with server.client.stream("POST", "/invocations", json=body, headers=named) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line]
    return [json.loads(line.removeprefix("data:")) for line in lines]


@pytest.mark.parametrize("accept", ["text/event-stream", "application/jsonlines"])
def test_streams_come_in_pieces_that_join_to_the_whole(language_model, reference, accept):
    body = {"inputs": "hello", "stream": True, "parameters": {"max_new_tokens": 40}}
    pieces = events(language_model, body, accept=accept)
    _, text = reference("hello", 40)
    assert len(pieces) > 5
    assert "".join(piece["token"]["text"] for piece in pieces) == text
    assert pieces[-1]["generated_text"] == text
    assert pieces[-1]["details"]["generated_tokens"] == 40


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_new_tokens": 0}, "parameters.max_new_tokens=0"),
        ({"temperature": "hot"}, "parameters.temperature='hot'"),
        ({"top_p": 2}, "parameters.top_p=2"),
        ({"length_penalty": 4}, "parameters.length_penalty=4 is for a search"),
        ({"tempature": 1}, "parameters.tempature is unknown"),
        ({"max_new_tokens": 600}, "exceed the context of 512"),
        ({"stop": [""]}, "parameters.stop=['']"),
    ],
)
def test_what_the_engine_cannot_do_is_a_clear_400(language_model, parameters, message):
    answer = language_model.invoke({"inputs": "hello", "parameters": parameters})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_prompts_beyond_the_context_are_refused_and_the_loop_lives(language_model):
    answer = language_model.invoke({"inputs": "movie " * 600})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert language_model.invoke({"inputs": ""}).status_code == 400
    assert language_model.ping() == 200


def test_a_client_that_leaves_frees_its_place(language_model):
    body = {
        "inputs": "hello",
        "stream": True,
        "parameters": {"max_new_tokens": 500, "ignore_eos_token": True},
    }
    with httpx.Client(base_url=language_model.url) as client:
        for _ in range(4):
            with client.stream("POST", "/invocations", json=body) as answer:
                next(answer.iter_lines())
    deadline = time.monotonic() + 2
    while "active_generations 0" not in language_model.client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.02)
