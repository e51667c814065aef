"""Log probabilities of a given text, against the model's own forward pass."""

import concurrent.futures
import random

import openai
import pytest
from test_adapters import adapters  # noqa: F401
from test_generation import VOCABULARY, generate, reference  # noqa: F401
from test_sampling import client, logits, server  # noqa: F401

pytestmark = pytest.mark.slow


def ask(client, prompt, **options):  # noqa: F811
    options = {"max_tokens": 0, "logprobs": 3, "echo": True, **options}
    return client.completions.create(model="model", prompt=prompt, **options)


def check(choice, ids, read):
    """Every token's log probability is the model's own, its alternatives the best ones."""
    logprobs = choice.logprobs
    assert (
        len(logprobs.tokens) == len(logprobs.text_offset) == len(logprobs.top_logprobs) == len(ids)
    )
    assert logprobs.token_logprobs[0] is logprobs.top_logprobs[0] is None
    expected = read(ids).log_softmax(-1)
    wanted = [float(expected[i, token]) for i, token in enumerate(ids[1:])]
    assert logprobs.token_logprobs[1:] == pytest.approx(wanted, abs=1e-3)
    for i, top in enumerate(logprobs.top_logprobs[1:]):
        assert max(top.values()) == pytest.approx(float(expected[i].max()), abs=1e-3)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        if "\ufffd" not in token:
            assert choice.text[offset:].startswith(token)


def test_prompts_of_any_length_beside_generation_equal_a_forward_pass(
    server, client, logits, reference  # noqa: F811
):  # fmt: skip
    read, tokenizer = logits
    chance = random.Random(3)
    texts = [
        " ".join(chance.choices(VOCABULARY, k=k)) for k in (1, 2, 3, 5, 9, 30, 31, 33, 100, 240)
    ]
    texts += ["très bon — 映画 good", "  two  blanks\nand lines ", "</s> the <s> end"]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        others = [
            threads.submit(generate, server, text, max_new_tokens=40) for text in texts[:4] * 2
        ]
        lone = list(threads.map(lambda text: ask(client, text), texts))
        lists = list(threads.map(lambda _: ask(client, texts), range(2)))
    for answers in (lone, *[[answer] for answer in lists]):
        choices = [choice for answer in answers for choice in answer.choices]
        for choice, text in zip(choices, texts, strict=True):
            assert (choice.text, choice.finish_reason) == (text, "length")
            check(choice, tokenizer(text)["input_ids"], read)
    assert lists[0].usage.completion_tokens == 0
    assert lists[0].usage.prompt_tokens == sum(len(tokenizer(t)["input_ids"]) for t in texts)
    for other, text in zip(others, texts[:4] * 2, strict=True):
        assert other.result() == reference(text, 40)


def test_the_answer_follows_its_prompt_whole_and_streamed(client, logits, reference):  # noqa: F811
    read, tokenizer = logits
    for prompt in ("the movie was", tokenizer("the movie was")["input_ids"]):
        whole = ask(client, prompt, max_tokens=5, temperature=0, n=2)
        answer_ids, answer = reference("the movie was", 5)
        for choice in whole.choices:
            assert choice.text == "the movie was" + answer
            check(choice, tokenizer("the movie was")["input_ids"] + answer_ids, read)
    pieces = list(ask(client, "the movie was", max_tokens=5, temperature=0, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    logprobs = [piece.choices[0].logprobs for piece in pieces if piece.choices[0].logprobs]
    for name in ("tokens", "text_offset"):
        streamed = [value for part in logprobs for value in getattr(part, name)]
        assert streamed == getattr(whole.choices[0].logprobs, name)
    plain = ask(client, [61, 60], logprobs=None, max_tokens=1, temperature=0).choices[0]
    assert plain.logprobs is None
    assert plain.text.startswith(tokenizer.decode([61, 60]))


def test_a_prompt_may_fill_the_context_and_needs_echo_to_ask_for_nothing(client, logits):  # noqa: F811
    read, tokenizer = logits
    ids = (tokenizer("the movie was good ")["input_ids"] * 200)[:512]
    check(ask(client, ids).choices[0], ids, read)
    with pytest.raises(openai.BadRequestError, match="context is 512"):
        ask(client, [*ids, 5])
    with pytest.raises(openai.BadRequestError, match="max_tokens=0: ask for a token, or set echo"):
        ask(client, "hello", echo=False)
    first = ask(client, [7]).choices[0].logprobs
    assert (first.token_logprobs, first.text_offset) == ([None], [0])


def test_details_tell_the_prompt_as_prefill(server, logits):  # noqa: F811
    read, tokenizer = logits
    parameters = {"max_new_tokens": 3, "details": True, "decoder_input_details": True}
    body = {"inputs": "the movie", "parameters": parameters}
    prefill = server.invoke(body).json()[0]["details"]["prefill"]
    ids = tokenizer("the movie")["input_ids"]
    assert [token["id"] for token in prefill] == ids
    assert prefill[0]["logprob"] is None
    wanted = read(ids).log_softmax(-1)[0, ids[1]]
    assert prefill[1]["logprob"] == pytest.approx(float(wanted), abs=1e-3)
    parameters["details"] = False
    assert "decoder_input_details" in server.invoke(body).json()["error"]["message"]


def test_an_adapters_log_probabilities_are_its_own(server, adapters, language_model_dir):  # noqa: F811
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_model_dir)
    ids = tokenizer("the movie was good")["input_ids"]
    models = {"model": AutoModelForCausalLM.from_pretrained(language_model_dir).float().eval()}
    target = server.base / "prompt-logprobs"
    for name in ("formal", "rude"):
        base = AutoModelForCausalLM.from_pretrained(language_model_dir)
        models[name] = PeftModel.from_pretrained(base, adapters / name).float().eval()
        (target / name).mkdir(parents=True)
        for file in (adapters / name).iterdir():
            (target / name / file.name).write_bytes(file.read_bytes())
        added = server.client.post(
            "/adapters", json={"name": name, "src": f"prompt-logprobs/{name}"}
        )
        assert added.status_code == 200, added.text
    body = {"prompt": ids, "max_tokens": 1, "echo": True, "logprobs": 0, "temperature": 0}
    try:
        jobs = [*models] * 4
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            noise = threads.submit(
                server.client.post, "/v1/completions",
                json={"model": "rude", "prompt": "hello", "max_tokens": 60},
            )  # fmt: skip
            answers = list(
                threads.map(
                    lambda name: server.client.post(
                        "/v1/completions", json={**body, "model": name}
                    ).json(),
                    jobs,
                )
            )
        assert noise.result().status_code == 200
    finally:
        for name in ("formal", "rude"):
            server.client.delete(f"/adapters/{name}")
    with torch.inference_mode():
        rows = {name: model(torch.tensor([ids])).logits[0] for name, model in models.items()}
    for name, answer in zip(jobs, answers, strict=True):
        own = rows[name].log_softmax(-1)
        wanted = [float(own[i, token]) for i, token in enumerate(ids[1:])]
        logprobs = answer["choices"][0]["logprobs"]["token_logprobs"][1 : len(ids)]
        assert logprobs == pytest.approx(wanted, abs=1e-3)
