"""The engine of vLLM for real, by its CPU build: `make test-vllm` makes the environment it needs.

A start takes long, so that one server answers for all of it.
"""

from __future__ import annotations

import concurrent.futures
import json
import time
from importlib.util import find_spec

import psutil
import pytest
import serving_models
from serving_process import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("vllm"), reason="vllm is not installed: `make test-vllm`"),
]

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
    found = server.client.get("/v1/models").json()["data"][0]["max_model_len"]
    # 2 layers, keys and values, 64 wide, of 4 bytes.
    assert CACHE_BYTES // 1024 // 2 < found <= CACHE_BYTES // 1024 < CONTEXT
    assert f"vLLM serves a context of {found} tokens" in server.log.read_text()
    refused = ask(server, "good " * found)
    assert refused.status_code == 400 and str(found) in refused.text
    refused = ask(server, "good", max_new_tokens=found)
    assert refused.status_code == 400 and str(found) in refused.text


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
        found = refused.result()
    assert found.status_code == 400 and "structured_outputs.regex" in found.text


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
    """A LLaVA of two layers over a CLIP of two, both random but fixed."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(7)
    tokenizer = serving_models.tokenizer(path, bert=False)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    template = tokenizer.chat_template.replace(
        "{{ m['content'] }}",
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
        "{% endif %}",
    )
    tokenizer.chat_template = template
    size = {"height": 28, "width": 28}
    pictures = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=size)
    processor = LlavaProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    processor.save_pretrained(path)
    tokenizer.save_pretrained(path)
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14, projection_dim=64,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
        initializer_range=0.5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-1,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=4,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if "language_model" not in name and weight.ndim > 1:
            weight.data.normal_(std=0.5)  # or no picture would matter
    model.save_pretrained(path)
    published_names(path / "model.safetensors")
    return path


def published_names(file):
    """The vision tower's tensors as published checkpoints, and vLLM, name them."""
    from safetensors.torch import load_file, save_file

    own, published = "vision_tower.", "vision_tower.vision_model."
    tensors = {
        name if published in name else name.replace(own, published): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    # Its CPU build is on PyTorch's own index alone, and transformers reads no picture without it.
    pytest.importorskip("torchvision", reason="torchvision's CPU build is not installed")
    base = tmp_path_factory.mktemp("seeing")
    seeing_model(base / "model")
    limits = {"SM_SERVE_VLLM_KV_CACHE_MEMORY_BYTES": str(CACHE_BYTES)}
    with Server(base, wait=False, **STARTS, **limits) as started:
        started.wait_ready(900)
        yield started


def picture(colour, size=(28, 28)):
    import base64
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def look(server, url):
    content = [
        {"type": "text", "text": "what is "},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": " this"},
    ]
    messages = [{"role": "user", "content": content}]
    body = {"messages": messages, "max_tokens": 12, "temperature": 0}
    return server.client.post("/v1/chat/completions", json=body)


def test_an_image_reaches_a_model_that_takes_them(seeing):
    answers = {}
    for colour in ("red", "blue", "red"):
        answer = look(seeing, picture(colour))
        assert answer.status_code == 200, answer.text
        text = answer.json()["choices"][0]["message"]["content"]
        assert answers.setdefault(colour, text) == text
    assert answers["red"] != answers["blue"]
    huge = look(seeing, picture("red", (8000, 6000)))
    assert huge.status_code == 400 and "pixels" in huge.text
    broken = look(seeing, "data:image/png;base64,AAAA")
    assert broken.status_code == 400 and "no picture" in broken.text
    plain = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    assert seeing.client.post("/v1/chat/completions", json=plain).status_code == 200
