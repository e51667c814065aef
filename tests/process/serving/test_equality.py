"""A search for an answer that differs from `model.generate`, among requests of every mixture."""

import concurrent.futures
import json
import os
import random
import shutil

import pytest
from serving_process import Server, base_with
from test_adapters import HEADER, adapters  # noqa: F401
from test_generation import VOCABULARY

pytestmark = pytest.mark.slow

JOBS = int(os.environ.get("SM_SERVE_TEST_JOBS", "60"))
ADAPTERS = (None, "formal", "rude")


@pytest.fixture(scope="module")
def models(adapters, language_model_dir):  # noqa: F811
    """The base model and each adapter by PEFT, and the tokenizer."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    by_adapter = {}
    for name in ADAPTERS:
        model = AutoModelForCausalLM.from_pretrained(language_model_dir).float()
        by_adapter[name] = (
            PeftModel.from_pretrained(model, adapters / name) if name else model
        ).eval()
    return by_adapter, AutoTokenizer.from_pretrained(language_model_dir)


@pytest.fixture(scope="module")
def server(adapters, language_model_dir, tmp_path_factory):  # noqa: F811
    """A small cache, so that long requests are put aside and taken up again."""
    base = base_with(language_model_dir, tmp_path_factory.mktemp("equality"))
    for name in ADAPTERS[1:]:
        shutil.copytree(adapters / name, base / "model" / "adapters" / name)
    with Server(base, SM_SERVE_KV_CACHE_TOKENS="2048") as running:
        yield running


def make_jobs(seed):
    chance = random.Random(seed)
    prompts = [" ".join(chance.choices(VOCABULARY, k=k)) for k in (1, 2, 7, 20, 60, 90)]
    prompts += ["the the the the", "très — 映画", prompts[-1] + " good"]  # a shared beginning
    for _ in range(JOBS):
        yield {
            "prompt": chance.choice(prompts),
            "adapter": chance.choice(ADAPTERS),
            "tokens": chance.choice([1, 2, 9, 30, 80]),
            "penalty": chance.choice([1.0, 1.0, 1.3]),
            "stop": chance.random() < 0.4,
            "stream": chance.random() < 0.4,
            "wait": chance.random() * 2,
        }


def expect(models, job):
    """Tokens and text by `generate`, cut at a stop string out of the middle of the text."""
    import torch

    model, tokenizer = models[0][job["adapter"]], models[1]
    ids = tokenizer(job["prompt"], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, max_new_tokens=job["tokens"], do_sample=False,
            repetition_penalty=job["penalty"],
        )  # fmt: skip
    tokens = out[0, ids.shape[1] :].tolist()
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    if not job["stop"] or len(text) < 4 or "\ufffd" in text:
        return tokens, text, None
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    return tokens, text[: text.index(stop)], stop


def ask(server, job, stop):
    body = {
        "model": job["adapter"] or "model",
        "prompt": job["prompt"],
        "max_tokens": job["tokens"],
        "temperature": 0,
        "repetition_penalty": job["penalty"],
        "stop": stop,
        "logprobs": 0 if job["tokens"] > 9 else None,
    }
    if not job["stream"]:
        answer = server.client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["text"]
    inputs = {
        "inputs": job["prompt"],
        "stream": True,
        "parameters": {
            "max_new_tokens": job["tokens"],
            "repetition_penalty": job["penalty"],
            **({"stop": [stop]} if stop else {}),
        },
    }
    headers = {"accept": "application/jsonlines"}
    if job["adapter"]:
        headers[HEADER.replace("_", "-")] = job["adapter"]
    with server.client.stream("POST", "/invocations", json=inputs, headers=headers) as answer:
        assert answer.status_code == 200
        pieces = [line for line in answer.iter_lines() if line]
    texts = [json.loads(piece) for piece in pieces]
    joined = "".join(piece["token"]["text"] for piece in texts)
    assert texts[-1]["generated_text"] == joined
    return joined


def test_every_answer_equals_generate(server, models):
    jobs = list(make_jobs(int(os.environ.get("SM_SERVE_TEST_SEED", "1"))))
    known = {}
    for job in jobs:
        key = tuple(job[name] for name in ("prompt", "adapter", "tokens", "penalty", "stop"))
        if key not in known:
            known[key] = expect(models, job)
        job["expected"] = known[key]
    scored = {"prompt": "the movie was good", "max_tokens": 0, "echo": True, "logprobs": 1}
    with concurrent.futures.ThreadPoolExecutor(24) as threads:
        noise = [
            threads.submit(server.client.post, "/v1/completions", json=scored) for _ in range(8)
        ]
        answers = list(threads.map(lambda job: ask(server, job, job["expected"][2]), jobs))
        assert all(done.result().status_code == 200 for done in noise)
    wrong = [
        (job, answer)
        for job, answer in zip(jobs, answers, strict=True)
        if answer != job["expected"][1]
    ]
    assert wrong == []
    assert server.ping() == 200
