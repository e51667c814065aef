"""Every method on every data format that it takes: a model that loads comes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.results.metrics import METRIC_DEFINITIONS, log_line

pytestmark = pytest.mark.slow

FAST = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none"}


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


PROMPTS = [f"w{i} w{i + 1}" for i in range(12)]
TEXT_PAIRS = [{"prompt": p, "chosen": " good w1", "rejected": " bad w2"} for p in PROMPTS]
CHAT_PAIRS = [
    {
        "prompt": chat(p, "")[:1],
        "chosen": chat("", "good w1")[1:],
        "rejected": chat("", "bad w2")[1:],
    }
    for p in PROMPTS
]
IMPLICIT = [{"chosen": chat(p, "good"), "rejected": chat(p, "bad")} for p in PROMPTS]
MARKED = [{"prompt": p, "completion": " good", "label": i % 2 == 0} for i, p in enumerate(PROMPTS)]
QUESTIONS = [{"prompt": p, "answer": "#### 4", "note": "x"} for p in PROMPTS]
CHAT_QUESTIONS = [{"prompt": chat(p, "")[:1], "answer": "4"} for p in PROMPTS]
MATHS = [{"prompt": p, "solution": r"\boxed{\frac{1}{2}}"} for p in PROMPTS]
ONLINE = {"num_generations": 2, "max_completion_length": 4}

PREFERENCES = {"train:reward_margin", "train:reward_accuracy", "eval:reward_accuracy"}
ONLINE_METRICS = {"train:reward", "eval:reward", "test:reward"}
METRICS: dict[str, set[str]] = {
    "sft": {"train:mean_token_accuracy", "eval:perplexity", "test:perplexity", "train:grad_norm"},
    "dpo": PREFERENCES,
    "orpo": PREFERENCES,
    "cpo": PREFERENCES,
    "kto": {"train:kl"},
    "reward": {
        *("train:reward_margin", "train:reward_accuracy", "train:reward", "eval:accuracy"),
        *("eval:reward_margin", "test:reward_margin", "test:accuracy"),
    },
    "grpo": ONLINE_METRICS,
    "rloo": ONLINE_METRICS,
    "distillation": set(),
}
"""What CloudWatch must find in each method's log beside losses, under the launcher's names."""

CASES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("sft", {"use_peft": True, "learning_rate": 0.01}, [{"text": p} for p in PROMPTS]),
    ("sft", {}, [{"prompt": p, "completion": " good"} for p in PROMPTS]),
    ("sft", {"assistant_only_loss": True}, [{"messages": chat(p, "good w3")} for p in PROMPTS]),
    ("dpo", {}, TEXT_PAIRS),
    ("dpo", {"use_peft": True}, IMPLICIT),
    ("dpo", {"export": "both", "use_peft": True}, CHAT_PAIRS),
    ("kto", {}, MARKED),
    ("orpo", {}, TEXT_PAIRS),
    ("cpo", {"use_peft": True}, CHAT_PAIRS),
    ("reward", {}, IMPLICIT),
    ("reward", {"use_peft": True}, TEXT_PAIRS),
    ("grpo", {**ONLINE, "reward_funcs": ["exact_answer", "length", "json"]}, QUESTIONS),
    ("grpo", {**ONLINE, "use_peft": True}, CHAT_QUESTIONS),
    ("grpo", {**ONLINE, "reward_funcs": ["accuracy_reward", "think_format_reward"]}, MATHS),
    ("rloo", {**ONLINE, "reward_funcs": "regex", "reward_pattern": "good"}, QUESTIONS),
    ("distillation", {"max_completion_length": 4}, QUESTIONS),
]


@pytest.mark.parametrize(("method", "settings", "rows"), CASES)
def test_a_model_comes_out(
    method: str,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    new_job: Callable[..., Any],
    decoder: Path,
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    if method == "distillation":
        settings = {**settings, "teacher_model_name_or_path": "channel:model"}
    job = new_job(
        {"method": method, **FAST, **settings},
        train=rows,
        validation=rows[:4],
        test=rows[:4],
        model=decoder,
    )
    job.train_here()
    assert max(job.losses) == 2
    assert "test_loss" in job.results
    lines = [log_line(row) for row in job.log]
    written = {
        d["Name"] for d in METRIC_DEFINITIONS if any(re.search(d["Regex"], line) for line in lines)
    }
    assert {"train:loss", "eval:loss", "test:loss", *METRICS[method]} <= written
    samples = job.path / "output/data/samples.jsonl"
    assert samples.is_file() == (method in ("grpo", "rloo", "distillation"))
    reads = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    model, info = reads.from_pretrained(job.model, output_loading_info=True)
    assert not info["missing_keys"]
    tokens = AutoTokenizer.from_pretrained(job.model)("w1 w2", return_tensors="pt")
    assert model(**tokens).logits.isfinite().all()
    assert (job.model / "adapter").is_dir() == (settings.get("export") == "both")
    assert list(job.model.glob("*.bin")) == []


def test_a_user_s_reward_from_the_code_channel(
    new_job: Callable[..., Any], decoder: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text(
        "def longest(completions, note, **_):\n    return [float(len(n)) for n in note]\n"
    )
    settings = {"method": "grpo", **FAST, **ONLINE, "reward_funcs": "mine.py:longest"}
    job = new_job(settings, train=QUESTIONS, model=decoder, code=code)
    job.train_here()
    assert job.log[0]["reward"] == 1.0


def test_trl_s_rewards_know_equal_expressions() -> None:
    from sm_train.config import parse_config
    from sm_train.contract import Paths
    from sm_train.methods.rewards import reward_functions

    names = ["accuracy_reward", "reasoning_accuracy_reward"]
    config = parse_config({"method": "grpo", "reward_funcs": names})
    plain, reasoning = reward_functions(config, Paths(Path()))
    texts = [r"It is \boxed{0.5}", r"It is \boxed{\frac{2}{4}}", r"\boxed{2}", "a half"]
    solution = [row["solution"] for row in MATHS[:4]]
    assert plain(completions=texts, solution=solution) == [1, 1, 0, 0]
    thought = [f"<think>\\boxed{{2}}</think>{text}" for text in texts]
    chats = [[{"role": "assistant", "content": text}] for text in thought]
    assert reasoning(completions=chats, solution=solution) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "mlp.no_such.weight",
            "the base model has no parameter mlp.no_such.weight. Fix: use",
        ),
        ("input_layernorm.weight", "input_layernorm.weight is no matrix"),
        ("mlp.up_proj.weight", ""),
    ],
)
def test_lora_on_single_parameters(
    target: str, message: str, new_job: Callable[..., Any], decoder: Path
) -> None:
    from sm_train.errors import UserError

    settings = {"method": "sft", **FAST, "use_peft": True, "lora_target_parameters": target}
    job = new_job(settings, train=[{"text": p} for p in PROMPTS], model=decoder)
    if not message:
        job.train_here()
        assert max(job.losses) == 2
        return
    with pytest.raises(UserError, match=message):
        job.train_here()


def test_an_adapter_alone(new_job: Callable[..., Any], decoder: Path) -> None:
    settings = {"method": "sft", **FAST, "use_peft": True, "export": "adapter", "use_dora": True}
    job = new_job(settings, train=[{"text": p} for p in PROMPTS], model=decoder)
    job.train_here()
    assert (job.model / "adapter_model.safetensors").is_file()
    assert not (job.model / "model.safetensors").exists()


def test_an_adapter_of_a_classifier_names_its_labels(
    new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from sm_train.contract import Paths
    from sm_train.errors import UserError
    from sm_train.modelling.base_model import resolve_model

    rows = [{"text": f"w{i} {kind}", "label": kind} for i in range(8) for kind in ("good", "bad")]
    settings = {"method": "text-classification", **FAST, "use_peft": True, "export": "adapter"}
    job = new_job(settings, train=rows, model=encoders["bert"])
    job.train_here()
    assert not (job.model / "model.safetensors").exists()
    config = AutoConfig.from_pretrained(job.model)
    assert config.id2label == {0: "bad", 1: "good"}
    assert config.architectures == ["BertForSequenceClassification"]
    base = AutoModelForSequenceClassification.from_pretrained(encoders["bert"], config=config)
    assert PeftModel.from_pretrained(base, job.model).config.id2label == config.id2label
    with pytest.raises(UserError, match="holds an adapter alone"):
        resolve_model(Paths(job.path), str(job.model), "model_name_or_path")


@pytest.mark.parametrize("lora", [False, True])
def test_token_classification(
    lora: bool, new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    from transformers import pipeline

    rows = [
        {"tokens": ["w1", "good", "bad", f"w{i}"], "tags": ["O", "B-X", "I-X", "O"]}
        for i in range(2, 34)
    ]
    settings = {"method": "token-classification", "learning_rate": 0.02, "use_peft": lora}
    settings |= {"num_train_epochs": 4, "report_to": "none"}
    job = new_job(settings, train=rows, validation=rows[:8], test=rows[:8], model=encoders["bert"])
    job.train_here()
    assert job.results["test_f1"] > 0.9
    tagger = pipeline("token-classification", model=str(job.model))
    tags = [answer["entity"] for answer in tagger("w1 good bad") if answer["entity"] != "O"]
    assert tags == ["B-X", "I-X"]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "squad"])
def test_question_answering(
    nested: bool, new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    flat = []
    for i in range(96):
        context = f"w{i % 7} w{i % 5} capital w{20 + i % 10} w{i % 3}"
        answer = {"text": f"w{20 + i % 10}", "answer_start": context.index("capital ") + 8}
        flat.append({"question": "capital ?", "context": context, "answers": [answer]})
    rows: Any = flat
    if nested:
        paragraphs = [{"context": r["context"], "qas": [r]} for r in flat]
        rows = [{"title": "x", "paragraphs": paragraphs}]
    settings = {"method": "question-answering", "learning_rate": 0.01, "num_train_epochs": 10}
    settings |= {"report_to": "none"}
    job = new_job(settings, train=rows, validation=rows, test=rows, model=encoders["bert"])
    job.train_here()
    assert job.results["test_exact_match"] > 0.9
    assert job.results["test_f1"] >= job.results["test_exact_match"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"lora_target_modules": "q_proj,embed_tokens"}, "lora_target_modules"),
        ({"lora_target_modules": "lm_head"}, "lora_target_modules"),
        ({"lora_modules_to_save": "embed_tokens"}, "lora_modules_to_save"),
        ({"lora_target_parameters": "embed_tokens.weight"}, "lora_target_parameters"),
        ({"lora_target_modules": "q_proj,embed_tokens", "export": "adapter"}, ""),
        ({}, ""),
    ],
)
def test_what_the_merge_will_refuse_is_known_before_training(
    settings: dict[str, Any], field: str, new_job: Callable[..., Any], tied_decoder: Path
) -> None:
    from sm_train.errors import UserError

    chosen = {"method": "sft", **FAST, "use_peft": True, **settings}
    job = new_job(chosen, train=[{"text": p} for p in PROMPTS], model=tied_decoder)
    if not field:
        job.train_here()
        assert job.model.is_dir()
        return
    with pytest.raises(UserError, match=rf"{field} = .* share their weights, which cannot be"):
        job.train_here()
    assert not list(job.checkpoints.glob("checkpoint-*"))
