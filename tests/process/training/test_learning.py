"""What the model sees and learns: TRL's own tokens, rows that teach nothing, the preview."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.errors import UserError

pytestmark = pytest.mark.slow

FAST = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none"}
PROMPTS = [f"w{i} w{i + 1} w3" for i in range(6)]


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


TURNS = [{"prompt": chat(p, "")[:1], "completion": chat("", "good w1")[1:]} for p in PROMPTS]
SFT_CASES: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({}, [{"text": p} for p in PROMPTS]),
    ({}, [{"prompt": p, "completion": " good w1"} for p in PROMPTS]),
    ({"completion_only_loss": False}, [{"prompt": p, "completion": " good"} for p in PROMPTS]),
    ({}, TURNS),
    ({}, [{"messages": chat(p, "good w3")} for p in PROMPTS]),
    (
        {"assistant_only_loss": True},
        [{"messages": chat(p, "good") + chat(p, "bad w2")} for p in PROMPTS],
    ),
    ({"max_length": 4}, [{"prompt": p, "completion": " good w1"} for p in PROMPTS]),
    (
        {"max_length": 4, "truncation_mode": "keep_end"},
        [{"prompt": p, "completion": " good"} for p in PROMPTS],
    ),
]


@pytest.mark.parametrize(("settings", "rows"), SFT_CASES)
def test_sft_sees_and_learns_the_tokens_of_trl(
    settings: dict[str, Any], rows: list[dict[str, Any]], decoder: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from sm_train.loop.token_columns import token_columns

    config = parse_config({"method": "sft", **settings})
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    ours = [token_columns(row, config, tokenizer) for row in rows]
    arguments = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", **settings)
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(decoder),
        arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    for column in ("input_ids", "labels"):
        assert [row[column] for row in ours] == list(trainer.train_dataset[column])


def test_pairs_are_seen_as_trl_sees_them(decoder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from sm_train.modelling.sequences import preference_tokens

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    config = parse_config({"method": "dpo"})
    plain = [{"prompt": p, "chosen": " good", "rejected": " bad w1"} for p in PROMPTS]
    implicit = [{"chosen": chat(p, "good"), "rejected": chat(p, "bad")} for p in PROMPTS]
    for rows in (plain, implicit):
        trainer = DPOTrainer(
            AutoModelForCausalLM.from_pretrained(decoder),
            args=DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        for row, theirs in zip(rows, trainer.train_dataset, strict=True):
            for tokens in preference_tokens(row, config, tokenizer):
                answer = theirs[f"{tokens.name}_ids"]
                assert tokens.ids == theirs["prompt_ids"] + answer
                assert tokens.learnt_count == len(answer)


METHODS: list[tuple[str, dict[str, Any], Callable[[str], dict[str, Any]]]] = [
    ("sft", {}, lambda p: {"prompt": p, "completion": " good"}),
    ("sft", {"packing": True}, lambda p: {"prompt": p, "completion": " good"}),
    ("dpo", {}, lambda p: {"prompt": p, "chosen": " good", "rejected": " bad"}),
    ("cpo", {}, lambda p: {"prompt": p, "chosen": " good", "rejected": " bad"}),
    ("kto", {}, lambda p: {"prompt": p, "completion": " good", "label": True}),
    ("reward", {}, lambda p: {"prompt": p, "chosen": " good", "rejected": " bad"}),
]


@pytest.mark.parametrize(("method", "settings", "make"), METHODS)
def test_a_channel_that_teaches_nothing_fails_before_the_model_is_loaded(
    method: str,
    settings: dict[str, Any],
    make: Callable[[str], dict[str, Any]],
    new_job: Callable[..., Any],
    decoder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sm_train.modelling import model

    monkeypatch.setattr(model, "load_model", lambda *_, **__: pytest.fail("loaded"))
    long = make("w1 " * 30)
    given = {"method": method, **FAST, **settings, "max_length": 16}
    job = new_job(given, train=[long] * 4, model=decoder)
    with pytest.raises(UserError, match="max_length = 16: no row of the train channel is left"):
        job.train_here()
    data = job.path / "input" / "data"
    (data / "train").rename(data / "test")
    (data / "train").mkdir()
    text = "\n".join(json.dumps(make(prompt)) for prompt in PROMPTS)
    (data / "train" / "data.jsonl").write_text(text)
    with pytest.raises(UserError, match="no row of the test channel is left"):
        job.train_here()


def test_rows_that_teach_nothing_are_set_aside_and_counted(
    new_job: Callable[..., Any], decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": p, "completion": " good"} for p in PROMPTS]
    rows += [
        {"prompt": "w1 " * 30, "completion": " good"},
        {"prompt": "w1", "completion": " w2" * 9},
    ]
    settings = {"method": "sft", **FAST, "max_length": 8, "max_rejected_share": 0.2}
    job = new_job(settings, train=rows, model=decoder)
    job.train_here()
    log = capsys.readouterr().out
    assert "channel train: 7 rows, 38 tokens, 19 of them learnt (50.0%)" in log
    assert "1 rows cut at max_length 8 (3 tokens)" in log
    assert "1 without a learnt token set aside" in log
    before, _, after = log.partition("step=1")
    assert "⟦good </s>⟧" in before
    assert "⟦" not in after
    output = job.path / "output" / "data"
    (record,) = map(json.loads, (output / "rejected.jsonl").read_text().splitlines())
    assert (record["channel"], record["file"], record["row"]) == ("train", "data.jsonl", 7)
    assert "no learnt token is left" in record["reason"]
    learnt = json.loads((output / "training_summary.json").read_text())["learnt"]["train"]
    assert (learnt["rows"], learnt["set_aside"], learnt["cut"]) == (7, 1, 1)


def test_the_preview_shows_rows_without_training(
    new_job: Callable[..., Any],
    decoder: Path,
    encoders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sm_train import preview

    job = new_job({"method": "sft"}, train=TURNS, model=decoder)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job.path))
    assert preview.main(["--rows", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("⟦good w1 </s>⟧") == 2
    assert "train 1 (12 tokens, 3 learnt): < user > w0 w1 w3 < assistant >" in shown
    assert not job.model.exists()
    (job.path / "input" / "data" / "train" / "data.jsonl").write_text('{"prompt": 1}\n')
    assert preview.main([]) == 1
    assert capsys.readouterr().err.startswith("error: channel train")


def test_long_texts_are_shortened_and_cannot_steer_a_terminal(decoder: Path) -> None:
    from transformers import AutoTokenizer

    from sm_train.modelling.preview import marked_text
    from sm_train.rows import Tokens

    class Raw:
        def decode(self, ids: list[int]) -> str:
            return "".join(map(chr, ids))

    text = "a\x1b[31mb\n" + "x" * 5000
    shown = marked_text(Tokens([ord(c) for c in text], [True] * len(text)), Raw())
    assert shown.startswith("⟦a\\x1b[31mb\\n")
    assert len(shown) < 400
    ids = AutoTokenizer.from_pretrained(decoder)("w1 w2")["input_ids"] * 50
    many = Tokens(ids, [place % 2 == 0 for place in range(len(ids))])
    assert marked_text(many, AutoTokenizer.from_pretrained(decoder)).count("⟦") == 12


def test_a_turn_that_is_not_to_be_learnt_is_not(decoder: Path) -> None:
    """OpenAI's weight, with and without marks in the template, beside each loss setting."""
    from transformers import AutoTokenizer

    from sm_train.loop.token_columns import token_columns

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    marked = tokenizer.chat_template
    plain = re.sub(r"{% (end)?generation %}", "", marked)
    turns: list[dict[str, Any]] = [*chat("w1", "bad w2"), *chat("w3", "good w4")]
    turns[1]["weight"] = 0
    everything = "<user>w1<assistant><user>w3<assistant>goodw4</s>"
    for template in (marked, plain):
        tokenizer.chat_template = template
        for given, learnt in (
            ({}, "goodw4</s>"),
            ({"assistant_only_loss": True}, "goodw4</s>"),
            ({"assistant_only_loss": False}, everything),
        ):
            config = parse_config({"method": "sft", **given})
            row = config.method.clean_row({"messages": turns}, config)
            columns = token_columns(row, config, tokenizer)
            kept = [token for token in columns["labels"] if token != -100]
            assert tokenizer.decode(kept).replace(" ", "") == learnt
            assert columns["learnt"] == len(kept)


TOOLS = [{"type": "function", "function": {"name": "w1", "parameters": {"type": "object"}}}]


def tool_row(content: str | None) -> dict[str, Any]:
    function = {"name": "w1", "arguments": '{"city": "w2"}'}
    call = {"id": "1", "type": "function", "function": function}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "w1"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "w3"},
        {"role": "assistant", "content": "good"},
    ]
    return {"messages": turns, "tools": TOOLS}


@pytest.mark.parametrize(
    ("template", "hidden"),
    [
        ("chatml", "tools, the name of a tool that is called, the arguments"),
        ("{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}", "does not show tools"),
        ("{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}", "the name of a tool"),
        ("{{ tools }}{% for m in messages if m.role != 'tool' %}{{ m }}{% endfor %}", "answered"),
        ("qwen3", None),
        ("llama3_1", None),
        ("qwen2_5", None),
    ],
)
def test_a_template_that_hides_tools_refuses_rows_that_have_them(
    template: str, hidden: str | None, decoder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from sm_train.contract import Paths
    from sm_train.loop.token_columns import token_columns
    from sm_train.modelling.chat_templates import template_text

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    tokenizer.chat_template = template_text(Paths(tmp_path), template)
    config = parse_config({"method": "sft"})
    for content in ("", None):
        row = config.method.clean_row(tool_row(content), config)
        assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"city": "w2"}
        reason = token_columns(row, config, tokenizer)["reason"]
        assert hidden in reason if hidden else not reason
    plain = config.method.clean_row({"messages": chat("w1", "good")}, config)
    assert not token_columns(plain, config, tokenizer)["reason"]


def test_numbers_are_predicted_where_regression_is_asked_for(
    new_job: Callable[..., Any], encoders: dict[str, Path]
) -> None:
    rows = [{"text": f"w{i} " + ("good" if i % 2 else "bad"), "label": i / 7} for i in range(12)]
    settings = {"method": "text-classification", **FAST, "num_labels": 1}
    job = new_job(settings, train=rows, validation=rows, test=rows, model=encoders["bert"])
    job.train_here()
    assert {"test_mse", "test_mae", "test_pearson", "eval_loss"} <= job.results.keys()
    made = json.loads((job.model / "config.json").read_text())
    assert (made["problem_type"], list(made["id2label"].values())) == ("regression", ["score"])


class Counting:
    """A tokenizer that counts the texts and conversations it is asked about."""

    def __init__(self, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        for name in ("__call__", "apply_chat_template"):
            self._count(type(tokenizer), name, monkeypatch)

    def _count(self, kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        own = getattr(kind, name)

        def counted(tokenizer: Any, *given: Any, **options: Any) -> Any:
            inner = self.calls + options.get("tokenize", True)
            encoded = own(tokenizer, *given, **options)
            self.calls = inner  # what it asks of itself is no call of its own
            return encoded

        monkeypatch.setattr(kind, name, counted)


def pair(question: str, chat_rows: bool) -> dict[str, Any]:
    if chat_rows:
        turns, worse = chat(question, "good w1"), chat(question, "bad")
        return {"prompt": turns[:1], "chosen": turns[1:], "rejected": worse[1:]}
    return {"prompt": question, "chosen": " good w1", "rejected": " bad"}


@pytest.mark.parametrize(
    ("method", "times", "chats"), [("dpo", 3, True), ("reward", 2, False)], ids=["dpo", "reward"]
)
def test_pairs_are_tokenised_once_and_the_losses_are_those_of_trl(
    method: str,
    times: int,
    chats: bool,
    new_job: Callable[..., Any],
    decoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import trl
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        set_seed,
    )

    rows = [pair(f"{p} w{i % 4}", chats) for i, p in enumerate(PROMPTS * 2)]
    settings = {**FAST, "learning_rate": 0.01, "warmup_steps": 0, "bf16": False}
    if method == "dpo":  # some are cut
        settings["max_length"] = 12
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    counter = Counting(tokenizer, monkeypatch)
    job = new_job({"method": method, **settings}, train=rows, validation=rows[:3], model=decoder)
    job.train_here()
    ours = [row["loss"] for row in job.log if "loss" in row]
    few = 25  # the preview, the template's checks and the export
    assert counter.calls <= times * (len(rows) + 3) + few
    name = {"dpo": "DPO", "reward": "Reward"}[method]
    kind = AutoModelForCausalLM if method == "dpo" else AutoModelForSequenceClassification
    counter.calls = 0
    set_seed(42)
    trainer = getattr(trl, f"{name}Trainer")(
        kind.from_pretrained(decoder, **({} if method == "dpo" else {"num_labels": 1})),
        args=getattr(trl, f"{name}Config")(str(tmp_path), use_cpu=True, **settings),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:3]),
        processing_class=tokenizer,
    )
    assert counter.calls == times * (len(rows) + 3)
    trainer.train()
    assert ours == [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_texts_beside_a_chat_template_are_told(decoder: Path) -> None:
    from transformers import AutoTokenizer

    from sm_train.modelling.preview import preview
    from sm_train.rows import Data

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    texts = [{"prompt": p, "completion": " good"} for p in PROMPTS]
    for rows, told in ((texts, True), (TURNS, False), ([{"text": "w1"}], False)):
        first, *_ = preview(parse_config({"method": "sft"}), tokenizer, Data(rows, None, None))
        assert first.startswith("warning: the prompts of 6 rows are texts") == told
    tokenizer.chat_template = None
    first, *_ = preview(parse_config({"method": "sft"}), tokenizer, Data(texts, None, None))
    assert not first.startswith("warning")
