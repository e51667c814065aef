"""Adapters that say how they answer, beside others: each as PEFT and `generate` have it."""

from __future__ import annotations

import json
import shutil

import pytest
from serving_models import tokenizer
from serving_process import Server, base_with
from test_adapters import HEADER, PROMPTS, make_adapter

pytestmark = pytest.mark.slow

TEMPLATE = "{% for message in messages %}<{{ message.content }}>{% endfor %}"


def reference(base, adapter, prompt, kind="AutoModelForCausalLM", **options):
    """The tokens of PEFT's own answer by the adapter's own generation config."""
    import torch
    import transformers
    from peft import PeftModel

    model = getattr(transformers, kind).from_pretrained(base, dtype=torch.float32)
    config = model.generation_config
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
        if (adapter / "generation_config.json").is_file():
            config = transformers.GenerationConfig.from_pretrained(adapter)
    reader = transformers.AutoTokenizer.from_pretrained(base)
    ids = reader(prompt, return_tensors="pt", **options.pop("reading", {}))
    with torch.inference_mode():
        out = model.eval().generate(**ids, generation_config=config, **options)[0]
    tokens = (
        out.tolist() if kind.endswith("Seq2SeqLM") else out[ids["input_ids"].shape[1] :].tolist()
    )
    return tokens, reader.decode(tokens, skip_special_tokens=True)


def ask(server, adapter, prompt, **parameters):
    body = {"inputs": prompt, **({"parameters": parameters} if parameters else {})}
    answer = server.invoke(body, **({HEADER: adapter} if adapter else {}))
    assert answer.status_code == 200, answer.text
    return answer.json()[0]["generated_text"]


@pytest.mark.parametrize("engine", ["continuous", "transformers"])
def test_ends_and_chat_template_are_the_adapters(pool, language_model_dir, tmp_path, engine):
    base = base_with(language_model_dir, tmp_path / "base")
    long = make_adapter(language_model_dir, base / "model" / "adapters" / "long", 1)
    short = base / "model" / "adapters" / "short"
    shutil.copytree(long, short)
    tokens, _ = reference(language_model_dir, long, PROMPTS[0], max_new_tokens=24)
    end = tokens[3]
    (short / "generation_config.json").write_text(json.dumps({"eos_token_id": [end]}))
    (short / "chat_template.jinja").write_text(TEMPLATE)
    told = {"max_new_tokens": 24, "do_sample": False}
    expected = {
        (name, prompt): reference(language_model_dir, name and base / "model/adapters" / name,
                                  prompt, **told)[1]
        for name in (None, "long", "short") for prompt in (*PROMPTS, "<hello>")
    }  # fmt: skip
    assert len(expected["short", PROMPTS[0]]) < len(expected["long", PROMPTS[0]])
    with Server(base, SM_SERVE_ENGINE=engine) as server:
        for (name, prompt), answer in expected.items():
            assert ask(server, name, prompt, max_new_tokens=24) == answer, (name, prompt)
        chat = {
            "model": "short", "max_tokens": 24, "temperature": 0,
            "messages": [{"role": "user", "content": "hello"}],
        }  # fmt: skip
        said = server.client.post("/v1/chat/completions", json=chat).json()
        assert said["choices"][0]["message"]["content"] == expected["short", "<hello>"]


@pytest.fixture
def summarizer(tmp_path):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(7)
    config = T5Config(
        vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0,
        decoder_start_token_id=0, eos_token_id=1, initializer_factor=3.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer(tmp_path / "t5", bert=False)
    return tmp_path / "t5"


def test_lengths_beams_and_penalties_are_the_adapters(summarizer, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSeq2SeqLM

    base = base_with(summarizer, tmp_path / "base")
    own = {
        "titles": {"max_length": 5},
        "abstracts": {"max_length": 30, "num_beams": 3, "no_repeat_ngram_size": 2,
                      "length_penalty": 2.0},
        "plain": None,
    }  # fmt: skip
    for seed, (name, settings) in enumerate(own.items()):
        torch.manual_seed(seed)
        lora = LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, target_modules=["q", "v"])
        tuned = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(summarizer), lora)
        for parameter in (p for n, p in tuned.named_parameters() if "lora_" in n):
            torch.nn.init.normal_(parameter, std=0.3)
        folder = base / "model" / "adapters" / name
        tuned.save_pretrained(folder)
        if settings is not None:
            described = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
            (folder / "generation_config.json").write_text(json.dumps(described | settings))
    long = "we loved the acting and the movie was good " * 8
    (base / "model/adapters/titles/tokenizer_config.json").write_text('{"model_max_length": 12}')
    with Server(base) as server:
        for name in ("titles", "abstracts"):
            reading = {"truncation": True, "max_length": 12} if name == "titles" else {}
            place = base / "model/adapters" / name
            _, answer = reference(summarizer, place, long, "AutoModelForSeq2SeqLM", reading=reading)
            cut = {"truncation": True} if reading else {}
            assert ask(server, name, long, **cut) == answer, name
        told = {"max_new_tokens": 9}
        _, answer = reference(
            summarizer, base / "model/adapters/plain", long, "AutoModelForSeq2SeqLM", **told
        )
        assert ask(server, "plain", long, **told) == answer
