"""Several data sets with weights, streams, and answers while training, against TRL and datasets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.errors import UserError

pytestmark = pytest.mark.slow

SETTINGS = {"method": "sft", "per_device_train_batch_size": 4, "logging_steps": 1,
            "learning_rate": 0.01, "lr_scheduler_type": "constant", "warmup_steps": 0,
            "report_to": "none", "num_train_epochs": 1,
            "train_sampling_strategy": "sequential"}  # fmt: skip
WEIGHTS = {"chat": 3, "code": 1}


def code(count: int) -> list[dict[str, str]]:
    return [{"question": f"w{i} w{i % 7}", "reply": f" good w{i % 5}"} for i in range(count)]


def chat(count: int) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"w{i % 9} capital"},
                      {"role": "assistant", "content": f"city w{i % 4} w{i % 3} w{i % 2}"}]}
        for i in range(count)
    ]  # fmt: skip


def by_trl(decoder: Path, folder: Path) -> dict[str, Any]:
    """What TRL's script does with the same rows, interleaved by datasets."""
    from datasets import Dataset, interleave_datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(decoder)
    arguments = SFTConfig(
        str(folder), use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True,
        per_device_eval_batch_size=1, gradient_checkpointing=False,
        **{k: v for k, v in SETTINGS.items() if k != "method"},
    )  # fmt: skip

    def tokens(rows: list[dict[str, Any]]) -> Any:
        return SFTTrainer(
            model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        ).train_dataset.select_columns(["input_ids", "labels"])

    def renamed(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{"prompt": row["question"], "completion": row["reply"]} for row in rows]

    mixed = interleave_datasets([tokens(chat(20)), tokens(renamed(code(12)))], [0.75, 0.25], seed=7)
    held_out = {"chat": tokens(chat(5)), "code": tokens(renamed(code(3)))}
    trainer = SFTTrainer(
        model, arguments, train_dataset=mixed, eval_dataset=held_out, processing_class=tokenizer
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"losses": losses, "rows": len(mixed)}


def test_weights_mix_as_datasets_and_losses_are_those_of_trl(
    new_job: Callable[..., Any], decoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"code": {"question": "prompt", "reply": "completion"}}
    settings = {**SETTINGS, "dataset_weights": WEIGHTS, "dataset_columns": columns, "data_seed": 7,
                "bf16": False, "predict_with_generate": True, "generation_rows": 2,
                "generation_max_new_tokens": 3}  # fmt: skip
    channels = {"train-chat": chat(20), "train-code": code(12), "validation-chat": chat(5),
                "validation-code": code(3), "test-chat": chat(4), "test-code": code(4)}  # fmt: skip
    job = new_job(settings, **channels, model=decoder)
    job.train_here()
    log = capsys.readouterr().out
    theirs = by_trl(decoder, tmp_path / "theirs")
    assert list(job.losses.values()) == pytest.approx(theirs["losses"], rel=1e-4)
    assert f"channel train: {theirs['rows']} rows" in log
    assert "data set code: 12 rows, weight 0.25" in log
    assert "train-code 1 (" in log  # the preview shows rows of each
    check_scores_apart(job.results)
    check_answers(job, log)


def check_scores_apart(results: dict[str, float]) -> None:
    """Those of each data set, and of all rows, weighed by their learnt tokens."""
    for split in ("eval", "test"):
        losses = {name: results[f"{split}_{name}_loss"] for name in ("code", "chat")}
        assert min(losses.values()) < results[f"{split}_loss"] < max(losses.values())
        assert f"{split}_code_mean_token_accuracy" in results
        assert f"{split}_chat_perplexity" in results


def check_answers(job: Any, log: str) -> None:
    samples = [
        json.loads(line)
        for line in (job.path / "output/data/samples.jsonl").read_text().splitlines()
    ]
    of_all = [row for row in samples if row["split"] == "eval"]
    assert [row["expected"] for row in of_all] == [
        "city w0 w0 w0", "city w1 w1 w1", "good w0", "good w1",
    ]  # fmt: skip
    assert {row["split"] for row in samples} == {
        f"{split}{name}" for split in ("eval", "test") for name in ("", "_code", "_chat")
    }
    assert "eval_code sample 1: " in log
    assert {"eval_rougeL", "eval_code_exact_match", "test_bleu"} <= job.results.keys()
    assert "## Answers" in (job.model / "README.md").read_text()


def test_a_stream_has_the_losses_of_the_rows_and_resumes_at_its_row(
    session_job: Callable[..., Any], decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"w{i % 40} w{i % 7} good w{i % 11}"} for i in range(24)]
    channels = {"train": rows, "validation": rows[:4], "model": decoder}
    whole = session_job({**SETTINGS, "num_train_epochs": 2}, **channels)
    whole.train_here()
    streaming = {**SETTINGS, "num_train_epochs": 2, "streaming": True, "save_total_limit": 9}
    del streaming["train_sampling_strategy"]
    in_order = session_job({**streaming, "shuffle_buffer_size": 0}, **channels)
    in_order.train_here()
    assert in_order.losses == pytest.approx(whole.losses)
    assert in_order.results["eval_loss"] == pytest.approx(whole.results["eval_loss"])
    capsys.readouterr()
    steps = {"eval_strategy": "steps", "eval_steps": 4, "save_steps": 4}
    job = session_job({**streaming, **steps, "shuffle_buffer_size": 5}, **channels)
    job.train_here()
    assert "a stream of 24 rows a pass, shuffled in a buffer of 5 rows" in capsys.readouterr().out
    untouched = job.losses
    assert list(untouched) == list(range(1, 13))
    assert untouched != pytest.approx(in_order.losses)  # another order
    for other in job.checkpoints.glob("checkpoint-*"):
        if other.name != "checkpoint-8":  # in the middle of the second pass
            shutil.rmtree(other)
    shutil.rmtree(job.model)
    job.train_here()
    assert "resuming from checkpoint-8" in capsys.readouterr().out
    assert job.losses == pytest.approx(untouched, rel=1e-6)


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_a_stream_of_pairs_has_the_losses_of_the_rows(
    method: str, session_job: Callable[..., Any], decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"w{i} w{i % 7}", "chosen": f" good w{i % 5}", "rejected": f" w{i % 3} bad"}
        for i in range(12)
    ]
    if method == "reward":
        rows = [{**row, "margin": i / 10} for i, row in enumerate(rows)]
    settings = {**SETTINGS, "method": method}
    channels = {"validation": rows[:4], "model": decoder}
    whole = session_job(settings, train=rows, **channels)
    whole.train_here()
    streaming = {**settings, "streaming": True, "shuffle_buffer_size": 0}
    del streaming["train_sampling_strategy"]
    monkeypatch.setattr("sm_train.data.streaming.HEAD", 4)
    streamed = session_job(streaming, train=rows, **channels)
    streamed.train_here()
    assert len(whole.losses) == 3
    assert streamed.losses == pytest.approx(whole.losses)
    assert streamed.results["eval_loss"] == pytest.approx(whole.results["eval_loss"])
    if method == "reward":
        del rows[9]["margin"]
        with pytest.raises(UserError, match=r"row 10 has no margin.*to every row, or to none"):
            session_job(streaming, train=rows, **channels).train_here()


CLASSES: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "one": ({"labels": ["neg", "pos"], "class_weights": {"pos": 3}},
            lambda i: {"text": f"w{i} w{i % 7} good", "label": ("neg", "pos")[i % 3 == 0]}),
    "pairs": ({"labels": ["neg", "pos"], "text_pair_column": "other"},
              lambda i: {"text": f"w{i}", "other": f"w{i % 7}", "label": ("neg", "pos")[i % 2]}),
    "several": ({"labels": ["a", "b"], "problem_type": "multi_label_classification"},
                lambda i: {"text": f"w{i} w{i % 7}", "label": ["a", "b"][: i % 3]}),
    "measure": ({"problem_type": "regression"},
                lambda i: {"text": f"w{i} w{i % 7}", "label": i % 5 / 2}),
    "tags": ({"method": "token-classification", "labels": ["O", "B-X"], "class_weights": {"O": 2}},
             lambda i: {"tokens": [f"w{i}", "good"], "tags": [("O", "B-X")[i % 2], "O"]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(CLASSES))
def test_a_stream_of_classes_has_the_losses_of_the_rows(
    kind: str,
    session_job: Callable[..., Any],
    encoders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, make = CLASSES[kind]
    # A stream draws from the generator in the second pass, too: dropout would be another one.
    still = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    settings = {**SETTINGS, "method": "text-classification", "num_train_epochs": 2,
                "model_init_kwargs": still, "bf16": False, **given}  # fmt: skip
    rows = [make(i) for i in range(12)]
    channels = {"train": rows, "validation": rows[:5], "model": encoders["bert"]}
    whole = session_job(settings, **channels)
    whole.train_here()
    streaming = {**settings, "streaming": True, "shuffle_buffer_size": 0}
    del streaming["train_sampling_strategy"]
    monkeypatch.setattr("sm_train.data.streaming.HEAD", 1)
    capsys.readouterr()
    streamed = session_job(streaming, **channels)
    streamed.train_here()
    assert len(whole.losses) == 6
    assert streamed.losses == pytest.approx(whole.losses)
    assert streamed.results["eval_loss"] == pytest.approx(whole.results["eval_loss"])
    log = capsys.readouterr().out
    assert "a stream of 12 rows a pass" in log
    if kind == "several":
        assert "channel train (its first rows): rows by label: " in log


def test_a_stream_that_begins_with_many_rows_of_one_class_says_so(
    session_job: Callable[..., Any],
    encoders: dict[str, Path],
    sentiment: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = sorted(sentiment(40, 1), key=lambda row: row["label"])
    settings = {"method": "text-classification", "max_steps": 1, "report_to": "none",
                "labels": ["neg", "pos"], "streaming": True}  # fmt: skip
    session_job(settings, train=rows, model=encoders["bert"]).train_here()
    assert "are all of" not in capsys.readouterr().out  # 40 rows have both
    session_job(settings, train=rows[:20], model=encoders["bert"]).train_here()
    assert "the first 20 rows of the stream are all of 'neg'" in capsys.readouterr().out


def test_classes_are_scored_apart_from_the_same_predictions(
    session_job: Callable[..., Any], encoders: dict[str, Path], sentiment: Callable[..., Any]
) -> None:
    settings = {"method": "text-classification", "max_steps": 1, "report_to": "none",
                "metric_for_best_model": "eval_b_accuracy"}  # fmt: skip
    channels = {"train-a": sentiment(8, 1), "train-b": sentiment(8, 2)}
    held_out = {"validation-a": sentiment(4, 3), "validation-b": sentiment(12, 4)}
    job = session_job(settings, **channels, **held_out, model=encoders["bert"])
    job.train_here()
    for name in ("loss", "accuracy"):
        apart = [job.results[f"eval_{data_set}_{name}"] for data_set in "ab"]
        together = (4 * apart[0] + 12 * apart[1]) / 16
        assert job.results[f"eval_{name}"] == pytest.approx(together, rel=1e-5)
