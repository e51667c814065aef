"""The engine of vLLM for real, by its CPU build: `make test-vllm` makes the environment it needs.

A start takes long, so that one server answers for all of it.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import shutil
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import serving_models
from seeing_models import as_png, drawn, save_seeing
from serving_process import Server
from training_jobs import lay_out

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("vllm"), reason="vllm is not installed: `make test-vllm`"),
]

TRAIN = Path(__file__).parents[3] / ".venv" / "bin" / "train"
CACHE_BYTES = 32 * 2**20
CONTEXT = 1_000_000
STARTS = {
    "SM_SERVE_ENGINE": "vllm",
    "SM_SERVE_VLLM_ENFORCE_EAGER": "true",
}


def language_model(path):
    """A Llama that vLLM's kernels for the CPU take, with a context far beyond its cache."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=400, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        initializer_range=0.5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer = serving_models.tokenizer(path, bert=False)
    tokenizer.model_max_length = CONTEXT
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("vllm")
    language_model(base / "model")
    (base / "model" / "vllm.yaml").write_text(
        f"kv_cache_memory_bytes: {CACHE_BYTES}\nenforce-eager: false\nmax_num_seqs: 8\n"
    )
    with Server(base, wait=False, **STARTS) as started:
        started.wait_ready(900)
        yield started


def ask(server, text, **parameters):
    return server.invoke({"inputs": text, "parameters": {"max_new_tokens": 12, **parameters}})


def test_the_context_is_the_longest_that_fits_and_holds_everywhere(server):
    context = server.client.get("/v1/models").json()["data"][0]["max_model_len"]
    # 2 layers, keys and values, 64 wide, of 4 bytes.
    assert CACHE_BYTES // 1024 // 2 < context <= CACHE_BYTES // 1024 < CONTEXT
    assert f"vLLM serves a context of {context} tokens" in server.log.read_text()
    refused = ask(server, "good " * context)
    assert refused.status_code == 400 and str(context) in refused.text
    refused = ask(server, "good", max_new_tokens=context)
    assert refused.status_code == 400 and str(context) in refused.text


def test_answers_are_those_of_generate_together_and_streamed(server):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = server.base / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = ["hello movie", "not very", "the film was good", "who", "great acting in it"] * 2

    def generated(prompt):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=12, do_sample=False)
        return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: ask(server, text).json(), prompts))
    assert [each[0]["generated_text"] for each in answers] == list(map(generated, prompts))
    body = {"prompt": prompts[0], "max_tokens": 12, "temperature": 0, "stream": True}
    lines = server.client.post("/v1/completions", json=body).text.splitlines()
    pieces = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(each["choices"][0]["text"] for each in pieces if each["choices"])
    assert text == answers[0][0]["generated_text"] and len(pieces) > 5
    same = [ask(server, "hello", temperature=1.0, seed=4).json() for _ in range(2)]
    assert same[0] == same[1]


def test_a_constraint_is_held_and_an_endless_one_spoils_nobody(server):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    body = {"prompt": "hello", "max_tokens": 40, "structured_outputs": {"json": schema}}
    answer = server.client.post("/v1/completions", json=body).json()
    assert json.loads(answer["choices"][0]["text"])["a"] in (1, 2)
    endless = {**body, "structured_outputs": {"regex": "(((a{100}){100}){100}){100}"}}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        refused = pool.submit(server.client.post, "/v1/completions", json=endless)
        time.sleep(0.2)
        assert ask(server, "hello").status_code == 200
        assert server.ping() == 200
        error = refused.result()
    assert error.status_code == 400 and "structured_outputs.regex" in error.text


def test_an_image_is_refused_by_a_model_that_takes_none(server):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    answer = server.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400 and "messages[0].content" in answer.text


def test_engine_processes_that_die_are_started_again(server):
    before = ask(server, "hello movie").json()
    own = psutil.Process(server.process.pid)
    (core,) = [each for each in own.children() if "EngineCore" in " ".join(each.cmdline())]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        long = {"max_new_tokens": 20_000, "ignore_eos_token": True}
        waiting = pool.submit(ask, server, "hello", **long)
        time.sleep(1)
        core.kill()
        assert waiting.result().status_code == 503
    assert server.ping() == 503
    assert "died" in server.client.get("/ping").json()["reason"]
    server.wait_ready(900)
    assert ask(server, "hello movie").json() == before
    assert "vLLM's engine answers again" in server.log.read_text()


def seeing_model(path):
    """Few of vLLM's models do without torchvision, whose CPU build is on PyTorch's own index."""
    tokenizer = serving_models.tokenizer(path, bert=False)
    template = tokenizer.chat_template.replace(
        "{{ m['content'] }}",
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
        "{% endif %}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}",
    )
    return save_seeing(path, tokenizer, template)


def asking(part):
    """Messages with a picture amid their text."""
    parts = ({"type": "text", "text": text} for text in ("what is ", " this"))
    return [{"role": "user", "content": [next(parts), part, next(parts)]}]


def answering(text):
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


PLACE = {"type": "image"}
ROWS = [
    {"prompt": asking(PLACE), "completion": answering(text), "images": [f"images/{colour}.png"]}
    for colour, text in (("red", "good movie"), ("blue", "bad plot"), ("green", "not you"))
]
SETTINGS = {
    "method": "sft", "max_steps": 4, "per_device_train_batch_size": 3, "learning_rate": 0.01,
    "use_peft": True, "lora_r": 4, "lora_alpha": 32, "lora_dropout": 0.0, "export": "both",
    "report_to": "none", "bf16": False, "save_strategy": "no", "eval_strategy": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A base model, and what the training container made of it: merged, and as an adapter."""
    folder = tmp_path_factory.mktemp("trained")
    begun = seeing_model(folder / "begun")
    job = replace(lay_out(folder / "job", SETTINGS, train=ROWS, model=begun), command=TRAIN)
    images = job.path / "input" / "data" / "train" / "images"
    images.mkdir()
    for colour in ("red", "blue", "green"):
        (images / f"{colour}.png").write_bytes(as_png(drawn(colour)))
    code, log = job.train()
    assert code == 0, log
    return begun, job.model


@contextlib.contextmanager
def served(base):
    limits = {"SM_SERVE_VLLM_KV_CACHE_MEMORY_BYTES": str(CACHE_BYTES)}
    with Server(base, wait=False, **STARTS, **limits) as started:
        started.wait_ready(900)
        yield started


@pytest.fixture(scope="module")
def seeing(tmp_path_factory, trained):
    """The merged model. Beside it the adapter, which then counts twice where it is asked for."""
    base = tmp_path_factory.mktemp("seeing")
    shutil.copytree(trained[1], base / "model")
    shutil.copytree(trained[1] / "adapter", base / "model" / "adapters" / "twice")
    with served(base) as started:
        yield started


def written(picture):
    return "data:image/png;base64," + base64.b64encode(as_png(picture)).decode()


def look(server, url, **more):
    messages = asking({"type": "image_url", "image_url": {"url": url}})
    body = {"messages": messages, "max_tokens": 12, "temperature": 0, **more}
    return server.client.post("/v1/chat/completions", json=body)


def expected_of(folder, pictures, adapter=None):
    """What transformers itself answers, with PEFT's adapter if one is given."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    model = model if adapter is None else PeftModel.from_pretrained(model, adapter)
    tokenizer = processor.tokenizer
    text = tokenizer.apply_chat_template(
        asking({"type": "image"}), tokenize=False, add_generation_prompt=True
    )
    for picture in pictures:
        read = processor(text=text, images=[picture], return_tensors="pt", add_special_tokens=False)
        out = model.generate(**read, max_new_tokens=12, do_sample=False)
        yield tokenizer.decode(out[0, read["input_ids"].shape[1] :], skip_special_tokens=True)


def said(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


PICTURES = ("red", "blue", "red")


def test_a_model_that_was_trained_on_images_is_asked_about_them(seeing, trained):
    pictures = list(map(drawn, PICTURES))
    expected = list(expected_of(seeing.base / "model", pictures))
    assert expected[0] == expected[2] != expected[1]
    assert expected != list(expected_of(trained[0], pictures))
    assert [said(look(seeing, written(picture))) for picture in pictures] == expected
    huge = look(seeing, written(drawn("red", (8000, 6000))))
    assert huge.status_code == 400 and "pixels" in huge.text
    broken = look(seeing, "data:image/png;base64,AAAA")
    assert broken.status_code == 400 and "no picture" in broken.text
    plain = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    assert seeing.client.post("/v1/chat/completions", json=plain).status_code == 200


def test_an_adapter_changes_what_is_seen_and_what_is_said(seeing):
    model = seeing.base / "model"
    pictures = list(map(drawn, PICTURES))
    expected = list(expected_of(model, pictures, model / "adapters" / "twice"))
    assert expected != list(expected_of(model, pictures))
    answers = [said(look(seeing, written(picture), model="twice")) for picture in pictures]
    assert answers == expected


def test_an_adapter_that_vllm_would_apply_in_part_is_refused(seeing):
    from safetensors.torch import load_file, save_file

    deeper = seeing.base / "deeper"
    shutil.copytree(seeing.base / "model" / "adapters" / "twice", deeper)
    weights = load_file(deeper / "adapter_model.safetensors")
    more = {name.replace("layers.1.", "layers.7."): each.clone() for name, each in weights.items()}
    save_file(weights | more, deeper / "adapter_model.safetensors")
    answer = seeing.client.post("/adapters", json={"name": "deeper", "src": str(deeper)})
    assert answer.status_code == 400
    assert "would leave out" in answer.text and "layers.7" in answer.text
    assert seeing.client.get("/adapters").json() == {"adapters": ["twice"]}


def test_an_artefact_that_is_an_adapter_answers_as_one(tmp_path, trained):
    begun, model = trained
    shutil.copytree(model / "adapter", tmp_path / "model")
    shutil.copytree(begun, tmp_path / "model" / "base")
    pictures = list(map(drawn, PICTURES))
    expected = list(expected_of(begun, pictures, model / "adapter"))
    with served(tmp_path) as server:
        assert [said(look(server, written(picture))) for picture in pictures] == expected
