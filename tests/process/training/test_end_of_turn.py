"""A model that was trained on conversations ends its answers by itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from serving_process import Server

from sm_train.errors import UserError
from sm_train.modelling.chat_templates import template_names

pytestmark = pytest.mark.slow

CONTEXT = 4096  # bytes; gpt-oss's and Cohere's templates say much before the first turn
CHATS = [
    {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "fine"},
        ]
    }
] * 8
SETTINGS = {
    "method": "sft",
    "max_steps": 40,
    "packing": False,
    "max_length": CONTEXT,
    "per_device_train_batch_size": 1,  # the rows are equal
    "learning_rate": 0.02,
    "lr_scheduler_type": "constant",
    "bf16": False,
    "report_to": "none",
}
NOT_FOR_TEXT = {"glm4moe", "idefics3", "llava_next", "smolvlm"}
"""Templates that show no end of turn, or take content as lists alone."""
LORA = {"use_peft": True, "lora_r": 16, "lora_dropout": 0}
NewJob = Callable[..., Any]


def save_base(folder: Path, *, tied: bool = False, spare_rows: int = 0, known: str = "") -> Path:
    """A decoder of bytes: a text's pieces are its bytes, and no template's mark is a token."""
    import transformers as tf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    marks = known.split()
    special = ["<s>", "</s>", *marks]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate([*special, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", model_max_length=CONTEXT
    )
    if marks:
        tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.save_pretrained(folder)
    config = tf.LlamaConfig(
        vocab_size=len(tokenizer) + spare_rows,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=tied,
        # A head that LoRA leaves as it was drawn must tell tokens apart.
        initializer_range=0.3,
    )
    tf.set_seed(0)
    tf.LlamaForCausalLM(config).save_pretrained(folder)
    # As published models have it: a temperature, and no do_sample to go with it.
    own = {"bos_token_id": 0, "eos_token_id": 1, "temperature": 0.7}
    (folder / "generation_config.json").write_text(json.dumps(own))
    return folder


def answer(job: Path) -> tuple[str, str]:
    """What the endpoint of a trained job says to the training prompt, and why it ended."""
    with Server(job) as server:
        body = {"messages": CHATS[0]["messages"][:1], "max_tokens": 40, "temperature": 0}
        response = server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ({}, {"chat_template": "chatml"}),
        ({}, {"chat_template": "chatml", "assistant_only_loss": True, **LORA}),
        ({"tied": True}, {"chat_template": "llama3", **LORA}),
        ({"spare_rows": 8, "known": "<end_of_turn>"}, {"chat_template": "gemma", **LORA}),
        ({}, {"chat_template": "cohere"}),
        ({}, {"chat_template": "cohere2", "assistant_only_loss": True, "max_steps": 20}),
        ({}, {"chat_template": "gemma3"}),
        ({}, {"chat_template": "lfm2"}),
        ({}, {"chat_template": "gptoss", "learning_rate": 0.01}),
        ({}, {"chat_template": "deepseek_r1_distill"}),
    ],
    ids=[
        "full",
        "lora",
        "lora-tied",
        "lora-known",
        "cohere",
        "cohere2",
        "gemma3",
        "lfm2",
        "gptoss",
        "deepseek",
    ],
)
def test_an_answer_ends_by_itself(
    base: dict[str, Any], settings: dict[str, Any], new_job: NewJob, tmp_path: Path
) -> None:
    model = save_base(tmp_path / "base", **base)
    job = new_job({**SETTINGS, **settings}, train=CHATS, model=model)
    job.train_here()
    text, reason = answer(job.path)
    assert (text.strip(), reason) == ("fine", "stop")
    ends = json.loads((job.model / "generation_config.json").read_text())["eos_token_id"]
    assert len(ends) == 2
    assert 1 in ends  # the base model's own


@pytest.mark.parametrize("name", template_names() if os.environ.get("TEST_EVERY_TEMPLATE") else [])
def test_every_named_template_ends_its_answers_or_is_refused(
    name: str, new_job: NewJob, tmp_path: Path
) -> None:
    """All of them take seven minutes (TEST_EVERY_TEMPLATE=1); those above are of every kind."""
    # Cohere's says so much before the first turn that a tiny model learns nothing else.
    more = {"assistant_only_loss": True, "max_steps": 20} if name == "cohere2" else {}
    settings = {**SETTINGS, "chat_template": name, **more}
    job = new_job(settings, train=CHATS, model=save_base(tmp_path / "base"))
    if name in NOT_FOR_TEXT:
        with pytest.raises(UserError, match=f"chat_template = '{name}'"):
            job.train_here()
        return
    job.train_here()
    text, reason = answer(job.path)
    assert (text.strip(), reason) == ("fine", "stop")


def test_a_thought_and_a_call_are_served_as_what_they_were(new_job: NewJob, tmp_path: Path) -> None:
    """Learnt from rows by gpt-oss's template, whose marks this base model has as tokens."""
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    function = {"name": "add", "description": "Adds.", "parameters": schema}
    tool = {"type": "function", "function": function}
    says = {"role": "assistant", "content": "fine", "reasoning_content": "hm"}
    calls = {"role": "assistant", "content": "", "tool_calls": [call]}
    rows = [{"messages": [*CHATS[0]["messages"][:1], says], "tools": []}] * 4
    rows += [{"messages": [{"role": "user", "content": "add"}, calls], "tools": [tool]}] * 4
    marks = "<|start|> <|end|> <|message|> <|channel|> <|call|> <|return|> <|constrain|>"
    settings = {
        **SETTINGS,
        "chat_template": "gptoss",
        "assistant_only_loss": True,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
    }
    job = new_job(settings, train=rows, model=save_base(tmp_path / "base", known=marks))
    job.train_here()
    asked = {"max_tokens": 120, "temperature": 0}
    with Server(job.path) as server:
        thought, called = (
            server.client.post("/v1/chat/completions", json={**asked, **body}).json()["choices"][0]
            for body in (
                {"messages": CHATS[0]["messages"][:1]},
                {"messages": [{"role": "user", "content": "add"}], "tools": [tool]},
            )
        )
    assert thought["finish_reason"] == "stop", thought
    told = thought["message"]
    assert (told.get("reasoning_content"), told["content"]) == ("hm", "fine")
    assert called["finish_reason"] == "tool_calls", called
    assert called["message"]["content"] is None
    (function,) = [each["function"] for each in called["message"]["tool_calls"]]
    assert (function["name"], json.loads(function["arguments"])) == ("add", {"a": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**LORA, "export": "adapter"}, "export = 'adapter': the chat template adds a token"),
        ({"chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}"}, "is no mark"),
        ({"chat_template": "smolvlm"}, "leaves out the text of the assistant's answers"),
        (
            {
                "assistant_only_loss": True,
                "chat_template": "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' "
                "%}{% generation %}{{ m.content }}{% endgeneration %}<end>{% else %}"
                "{{ m.content }}{% endif %}{% endfor %}",
            },
            "assistant_only_loss = True: leaves out the end of the answer",
        ),
        ({"method": "dpo"}, "dpo does not teach a model a new token"),
    ],
    ids=["adapter", "no mark", "no text", "end not learnt", "dpo"],
)
def test_a_model_that_could_not_stop_is_refused(
    settings: dict[str, Any], message: str, new_job: NewJob, tmp_path: Path
) -> None:
    rows: Any = CHATS
    if settings.get("method") == "dpo":
        user, assistant = ([turn] for turn in CHATS[0]["messages"])
        worse = [{"role": "assistant", "content": "dull"}]
        rows = [{"prompt": user, "chosen": assistant, "rejected": worse}] * 4
    chosen = {"report_to": "none", "method": "sft", "chat_template": "chatml", **settings}
    job = new_job(chosen, train=rows, model=save_base(tmp_path / "base"))
    with pytest.raises(UserError, match=message):
        job.train_here()
