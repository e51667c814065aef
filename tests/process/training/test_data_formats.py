"""Public data sets' own shapes, chat templates and TRL's YAML, each trained on for real."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.errors import UserError
from sm_train.modelling.generation_prompt import as_made

pytestmark = pytest.mark.slow

NewJob = Callable[..., Any]
FAST = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none"}
PROMPTS = [f"w{i} w{i + 1}" for i in range(12)]
PLAIN = "{% for m in messages %}{{ m.role }} {{ m.content }} {{ eos_token }}{% endfor %}"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


CHATS = [{"messages": [user(p), assistant("good w3")]} for p in PROMPTS]
GSM8K = [{"question": p, "answer": f"w1 <<1+1=2>> w2 #### {i}"} for i, p in enumerate(PROMPTS)]
ULTRAFEEDBACK = [
    {
        "prompt": p,
        "prompt_id": str(i),
        "chosen": [user(p), assistant("good")],
        "rejected": [user(p), assistant("bad")],
        "messages": [user(p), assistant("good")],
        "score_chosen": 8.5,
        "score_rejected": 3,
    }
    for i, p in enumerate(PROMPTS)
]
ONLINE = {"num_generations": 2, "max_completion_length": 4}


def as_parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    return folder


def as_csv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: v if isinstance(v, str | int) else json.dumps(v) for k, v in row.items()}
            )
    return folder


@pytest.mark.parametrize(
    ("settings", "rows", "write"),
    [
        (
            {"method": "sft", "columns": {"question": "prompt", "answer": "completion"}},
            GSM8K,
            as_csv,
        ),
        ({"method": "grpo", "columns": {"question": "prompt"}, **ONLINE}, GSM8K, as_parquet),
        ({"method": "dpo"}, ULTRAFEEDBACK, as_parquet),
        ({"method": "reward"}, ULTRAFEEDBACK, as_csv),
        ({"method": "kto"}, ULTRAFEEDBACK, as_parquet),
        ({"method": "sft", "assistant_only_loss": True}, CHATS, as_csv),
    ],
    ids=["sft-gsm8k", "grpo-gsm8k", "dpo-ultra", "reward-ultra", "kto-pairs", "sft-chat"],
)
def test_public_data_sets_train_as_they_are(
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    write: Callable[..., Path],
    new_job: NewJob,
    decoder: Path,
    tmp_path: Path,
) -> None:
    job = new_job({**FAST, **settings}, train=write(tmp_path / "data", rows), model=decoder)
    job.train_here()
    assert max(job.losses) == 2
    assert (job.model / "model.safetensors").is_file()


def test_tool_calls_reach_the_template_with_their_own_arguments(
    new_job: NewJob, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerBase

    rendered: list[str] = []
    apply = PreTrainedTokenizerBase.apply_chat_template

    def record(self: Any, conversation: Any, **options: Any) -> Any:
        rendered.append(json.dumps([conversation, options.get("tools")]))
        return apply(self, conversation, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "apply_chat_template", record)
    rows = []
    for i, prompt in enumerate(PROMPTS):
        call = {"name": "w1", "arguments": {"x": i} if i % 2 else {"y": [prompt]}}
        turns = [user(prompt), {"role": "assistant", "content": "w2", "tool_calls": []}]
        turns[1]["tool_calls"] = [{"type": "function", "function": call}]
        turns += [{"role": "tool", "name": "w1", "content": "w3"}, assistant("good")]
        rows.append({"messages": turns, **({"tools": [{"name": "w1"}]} if i else {})})
    shows = (
        "{{ tools }}{% for m in messages %}{{ m.role }} {{ m.tool_calls }} {{ m.content }}"
        "{{ eos_token }}{% endfor %}"
    )
    job = new_job({"method": "sft", **FAST, "chat_template": shows}, train=rows, model=decoder)
    job.train_here()
    text = "\n".join(rendered)
    assert '"arguments": {"x": 1}' in text
    assert '"arguments": {"y": ["w0 w1"]}' in text
    assert "null}" not in text
    assert '[{"type": "function", "function": {"name": "w1"}}]' in text


def test_squad_v2_with_lora(new_job: NewJob, encoders: dict[str, Path], tmp_path: Path) -> None:
    questions = []
    for i in range(48):
        context = f"w{i % 7} w{i % 5} capital w{20 + i % 10} w{i % 3}"
        place = context.index("capital ") + 8
        answers = [{"text": f"w{20 + i % 10}", "answer_start": place}] if i % 3 else []
        question = {"id": str(i), "question": "capital ?" if i % 3 else "city ? " * 60}
        question |= {"answers": answers, "is_impossible": not answers}
        questions.append({"context": context, "qas": [question]})
    folder = tmp_path / "squad"
    folder.mkdir()
    file = {"version": "v2.0", "data": [{"title": "t", "paragraphs": questions}]}
    (folder / "train-v2.0.json").write_text(json.dumps(file))
    settings = {"method": "question-answering", "use_peft": True, "max_length": 48, **FAST}
    job = new_job(settings, train=folder, test=folder, model=encoders["bert"])
    job.train_here()
    assert {"test_exact_match", "test_f1"} <= job.results.keys()
    assert job.results["test_exact_match"] <= 1


@pytest.fixture(scope="session")
def without_template(decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama as a base model that is no chat model."""
    import shutil

    folder = tmp_path_factory.mktemp("base") / "llama"
    shutil.copytree(decoder, folder, ignore=lambda *_: ["chat_template.jinja"])
    return folder


def test_a_template_is_given_by_name_text_or_file(
    new_job: NewJob, without_template: Path, tmp_path: Path
) -> None:
    import shutil

    from transformers import AutoTokenizer

    files = tmp_path / "config"
    files.mkdir()
    (files / "mine.jinja").write_text(PLAIN)
    job = new_job({"method": "sft"}, train=CHATS, model=without_template, config=files)
    settings = job.path / "input" / "config" / "hyperparameters.json"
    for chosen, begins in (
        ({"chat_template": "chatml", "assistant_only_loss": "true"}, "{% for message in"),
        ({"chat_template": PLAIN}, PLAIN),
        ({"chat_template": "mine.jinja"}, PLAIN),
        ({"chat_template_path": "config/mine.jinja"}, PLAIN),
        # TRL's patched template masks; what is exported stays the model's own.
        ({"chat_template": "qwen3", "assistant_only_loss": "true"}, "{%- if tools %}"),
    ):
        values = {key: str(value) for key, value in FAST.items()}
        settings.write_text(json.dumps({"method": "sft", **values, **chosen}))
        shutil.rmtree(job.checkpoints, ignore_errors=True)  # each is a job of its own
        job.train_here()
        template = AutoTokenizer.from_pretrained(job.model).chat_template
        assert as_made(template).startswith(begins)


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        ({}, CHATS, "chat_template: .*no chat template.*chatml"),
        (
            {"chat_template": PLAIN, "assistant_only_loss": True},
            CHATS,
            r"assistant_only_loss = True: .*\{% generation %\}.*chatml",
        ),
        ({"chat_template": "{% for"}, CHATS, "refuses conversation 1 of train"),
        (
            {"chat_template": "{{ raise_exception('no system role') }}"},
            CHATS,
            "refuses conversation 1 of train: no system role",
        ),
        ({"chat_template_path": "owner/name"}, CHATS, "chat_template_path = 'owner/name'"),
        ({"eos_token": "<|im_end|>"}, CHATS, "eos_token = .*not a token of the base model.*</s>"),
        ({}, [{"input_ids": [5, 6000]}], "input_ids = 6000: .*does not know"),
        (
            {"use_peft": True, "lora_target_modules": "c_attn"},
            [{"text": p} for p in PROMPTS],
            "no module c_attn.*q_proj",
        ),
    ],
)
def test_what_is_refused_before_training(
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    message: str,
    new_job: NewJob,
    without_template: Path,
) -> None:
    job = new_job({"method": "sft", **FAST, **settings}, train=rows, model=without_template)
    with pytest.raises(UserError, match=message):
        job.train_here()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\x10" * 100, "not a safetensors file.*Fix: copy"),
        ("tokenizer.json", b"{", "cannot be loaded: JSONDecodeError"),
        ("config.json", b"\xff", r"config\.json: is not valid JSON"),
        ("config.json", b'{"model_type": "bert"}', r"is an encoder \(bert\).*decoder"),
    ],
)
def test_a_base_model_that_cannot_be_used_is_refused(
    name: str, content: bytes, message: str, new_job: NewJob, decoder: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(decoder, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    job = new_job({"method": "sft", **FAST}, train=CHATS, model=tmp_path / "model")
    with pytest.raises(UserError, match=message):
        job.train_here()


def test_prompts_that_leave_no_room_for_an_answer_are_refused(
    new_job: NewJob, decoder: Path
) -> None:
    rows = [{"prompt": "w1 " * 50, "chosen": "good", "rejected": "bad"}] * 4
    job = new_job({"method": "dpo", **FAST, "max_length": 16}, train=rows, model=decoder)
    with pytest.raises(UserError, match="max_length = 16: no row of the train channel is left"):
        job.train_here()


def test_lora_options_change_what_is_trained(new_job: NewJob, decoder: Path) -> None:
    from safetensors import safe_open

    rows = [{"text": p} for p in PROMPTS]
    settings = {"method": "sft", **FAST, "use_peft": True, "export": "adapter", "lora_r": 2}
    settings |= {"lora_target_modules": r".*layers\.1.*(q|v)_proj", "use_rslora": True}
    settings |= {"lora_modules_to_save": ["lm_head"]}
    job = new_job(settings, train=rows, model=decoder)
    job.train_here()
    with safe_open(job.model / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    adapted = {name.split(".lora_")[0].rsplit("model.", 1)[-1] for name in names if "lora_" in name}
    assert adapted == {"layers.1.self_attn.q_proj", "layers.1.self_attn.v_proj"}
    assert any("lm_head" in name for name in names)
    assert json.loads((job.model / "adapter_config.json").read_text())["use_rslora"] is True


def test_a_reward_model_of_ours_judges_in_grpo(new_job: NewJob, decoder: Path) -> None:
    import shutil

    job = new_job({"method": "reward", **FAST}, train=ULTRAFEEDBACK, model=decoder)
    job.train_here()
    judge = job.path.parent / "judge"
    shutil.move(job.model, judge)
    shutil.rmtree(job.checkpoints)
    shutil.rmtree(job.path / "input")
    settings = {"method": "grpo", **FAST, **ONLINE, "reward_model_name_or_path": "channel:judge"}
    rows = [{"prompt": [user(p)]} for p in PROMPTS]
    job = new_job(settings, train=rows, model=decoder, judge=judge)
    job.train_here()
    assert "reward" in job.log[0]
