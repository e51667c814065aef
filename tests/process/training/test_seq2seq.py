"""Encoder-decoders learn and answer as transformers' own Seq2SeqTrainer has it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sm_train.errors import UserError

from .conftest import save_tokenizer

pytestmark = pytest.mark.slow

CHANCE = random.Random(5)
TOKENS = [f"w{i}" for i in range(12)]
SETTINGS = {"num_train_epochs": 2, "learning_rate": 0.01, "per_device_train_batch_size": 8,
            "logging_steps": 1, "lr_scheduler_type": "constant", "warmup_steps": 0,
            "report_to": "none", "weight_decay": 0.0, "bf16": False}  # fmt: skip


def rows(count: int) -> list[dict[str, Any]]:
    """A text and its beginning, of many lengths, so that a mean of means would differ."""
    drawn = (CHANCE.choices(TOKENS, k=CHANCE.randint(2, 14)) for _ in range(count))
    return [{"source": " ".join(t), "target": " ".join(t[: 1 + len(t) // 2])} for t in drawn]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 without dropout."""
    import transformers as tf

    folder = tmp_path_factory.mktemp("t5")
    config = tf.T5Config(
        vocab_size=save_tokenizer(folder), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2,
        dropout_rate=0.0, decoder_start_token_id=0, eos_token_id=4, pad_token_id=0,
    )  # fmt: skip
    tf.set_seed(0)
    tf.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def by_transformers(base: Path, folder: Path, data: list[dict[str, Any]], test: Any) -> Any:
    """What its example script run_summarization.py does with these rows."""
    import transformers as tf
    from datasets import Dataset

    tokenizer = tf.AutoTokenizer.from_pretrained(base)
    model = tf.AutoModelForSeq2SeqLM.from_pretrained(base)

    def tokenised(chosen: list[dict[str, Any]]) -> Any:
        def one(row: dict[str, Any]) -> dict[str, Any]:
            made = tokenizer("w1 " + row["source"], max_length=10, truncation=True)
            target = tokenizer(text_target=row["target"], max_length=6, truncation=True)
            return {**made, "labels": target["input_ids"]}

        return Dataset.from_list(chosen).map(one, remove_columns=["source", "target"])

    trainer = tf.Seq2SeqTrainer(
        model=model,
        args=tf.Seq2SeqTrainingArguments(
            output_dir=str(folder), predict_with_generate=True, generation_max_length=7,
            per_device_eval_batch_size=1, use_cpu=True, save_strategy="no", disable_tqdm=True,
            **SETTINGS,
        ),
        train_dataset=tokenised(data),
        data_collator=tf.DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    answers = trainer.predict(tokenised(test)).predictions
    texts = tokenizer.batch_decode(
        [[max(t, 0) for t in answer] for answer in answers.tolist()], skip_special_tokens=True
    )
    return [row["loss"] for row in trainer.state.log_history if "loss" in row], texts


def test_losses_and_answers_are_those_of_transformers(
    new_job: Callable[..., Any], base: Path, tmp_path: Path
) -> None:
    from sm_train.results.generated_text import text_scores

    data, test = rows(40), rows(10)
    own = {"method": "seq2seq", "source_prefix": "w1 ", "max_source_length": 10,
           "max_target_length": 6, "train_sampling_strategy": "random"}  # fmt: skip
    job = new_job({**own, **SETTINGS}, train=data, test=test, model=base)
    job.train_here()
    losses, texts = by_transformers(base, tmp_path / "theirs", data, test)
    assert list(job.losses.values()) == pytest.approx(losses, rel=1e-4)
    expected = text_scores(texts, [row["target"] for row in test])
    measured = {name: job.results[f"test_{name}"] for name in expected}
    assert measured == pytest.approx(expected, abs=1e-6)
    config = json.loads((job.model / "config.json").read_text())
    assert config["prefix"] == "w1 "
    assert config["task_specific_params"].keys() == {"seq2seq"}


def test_each_target_token_counts_alike_however_a_step_is_cut_up(
    session_job: Callable[..., Any], base: Path
) -> None:
    data, held_out = rows(32), rows(7)
    runs = []
    for batch, parts, evaluated in ((8, 1, 7), (2, 4, 3)):
        settings = {"method": "seq2seq", **SETTINGS, "num_train_epochs": 1,
                    "train_sampling_strategy": "sequential", "predict_with_generate": False,
                    "per_device_train_batch_size": batch, "gradient_accumulation_steps": parts,
                    "per_device_eval_batch_size": evaluated}  # fmt: skip
        job = session_job(settings, train=data, validation=held_out, model=base)
        job.train_here()
        runs.append([*job.losses.values(), job.results["eval_loss"]])
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)


def test_an_adapter_of_an_encoder_decoder_is_merged(
    new_job: Callable[..., Any], base: Path
) -> None:
    from transformers import AutoModelForSeq2SeqLM

    settings = {"method": "seq2seq", **SETTINGS, "max_steps": 1, "use_peft": True,
                "export": "both", "source_prefix": "w1 ", "max_target_length": 9}  # fmt: skip
    job = new_job(settings, train=rows(16), test=rows(2), model=base)
    job.train_here()
    _, info = AutoModelForSeq2SeqLM.from_pretrained(job.model, output_loading_info=True)
    assert not info["missing_keys"]
    assert not (job.model / "adapter_config.json").exists()
    for folder in (job.model, job.model / "adapter"):  # an adapter alone says it, too
        assert json.loads((folder / "config.json").read_text())["prefix"] == "w1 "
        generation = json.loads((folder / "generation_config.json").read_text())
        assert generation["max_length"] == 10


def test_a_base_model_without_encoder_and_decoder_is_refused(
    new_job: Callable[..., Any], decoder: Path
) -> None:
    job = new_job({"method": "seq2seq", **SETTINGS}, train=rows(8), model=decoder)
    with pytest.raises(UserError, match=r"no encoder-decoder \(llama\)"):
        job.train_here()


def test_languages_mark_both_texts(
    new_job: Callable[..., Any], session_job: Callable[..., Any], tmp_path: Path
) -> None:
    import transformers as tf

    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *(f"\u2581{t}" for t in TOKENS)]
    tokenizer = tf.MBartTokenizer(vocab=[(t, -float(i)) for i, t in enumerate(vocabulary)])
    folder = tmp_path / "mbart"
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers",
             "attention_heads")} | {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip
    config = tf.MBartConfig(
        vocab_size=len(tokenizer), d_model=16, max_position_embeddings=64, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, **sizes,
    )  # fmt: skip
    tf.MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    data = [{"translation": {"en": row["source"], "ro": row["target"]}} for row in rows(16)]
    settings = {"method": "seq2seq", **SETTINGS, "max_steps": 1, "num_train_epochs": 1,
                "source_lang": "en_XX", "target_lang": "ro_RO", "max_source_length": 32,
                "max_target_length": 16}  # fmt: skip
    job = new_job(settings, train=data, test=data[:2], model=folder)
    job.train_here()
    target = tokenizer.convert_tokens_to_ids("ro_RO")
    generation = json.loads((job.model / "generation_config.json").read_text())
    assert generation["forced_bos_token_id"] == target
    kept = tf.AutoTokenizer.from_pretrained(job.model)
    assert (kept.src_lang, kept.tgt_lang) == ("en_XX", "ro_RO")
    for change, message in (
        ({"target_lang": "ro"}, "no language of the base model's tokenizer"),
        ({"max_target_length": 64}, "max_target_length = 64: the base model has 64 positions"),
    ):
        refused = session_job({**settings, **change}, train=data, model=folder)
        with pytest.raises(UserError, match=message):
            refused.train_here()
