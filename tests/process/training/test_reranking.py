"""Rerankers learn and are measured as sentence-transformers' own trainer and evaluator have it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import VOCABULARY, save_tokenizer

pytestmark = pytest.mark.slow

SETTINGS = {"num_train_epochs": 3, "learning_rate": 0.003, "lr_scheduler_type": "constant",
            "per_device_train_batch_size": 8, "weight_decay": 0.0, "warmup_steps": 0,
            "logging_steps": 1, "report_to": "none"}  # fmt: skip


def groups(count: int, seed: int) -> list[dict[str, Any]]:
    """Queries with one to five documents, of which the first alone is relevant."""
    chance, made = random.Random(seed), []
    for number in range(count):
        answer, *others = chance.sample(VOCABULARY[:20], chance.randint(2, 6))
        documents = [f"{token} {chance.choice(VOCABULARY)}" for token in (answer, *others)]
        labels = [1, *(0 for _ in others)]
        made.append({"query": f"{answer} w{number}", "documents": documents, "labels": labels})
    return made


@pytest.mark.parametrize("loss", ["LambdaLoss", "ListNetLoss"])
def test_losses_and_scores_are_those_of_sentence_transformers(
    loss: str, new_job: Callable[..., Any], tmp_path: Path
) -> None:
    import transformers as tf
    from datasets import Dataset
    from sentence_transformers import cross_encoder as ce
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    base = tmp_path / "base"
    config = tf.BertConfig(
        vocab_size=save_tokenizer(base), hidden_size=32, num_hidden_layers=1, num_labels=1,
        num_attention_heads=2, intermediate_size=64, max_position_embeddings=160, pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    tf.set_seed(0)
    tf.BertForSequenceClassification(config).save_pretrained(base)
    train, test = groups(8, 1), groups(6, 2)
    job = new_job(
        {"method": "reranking", "loss": loss, "bf16": False, **SETTINGS},
        train=train,
        test=test,
        model=base,
    )
    job.train_here()
    theirs = ce.CrossEncoder(str(base), num_labels=1, device="cpu")
    trainer = ce.CrossEncoderTrainer(
        model=theirs,
        args=ce.CrossEncoderTrainingArguments(
            output_dir=str(tmp_path / "theirs"), save_strategy="no", use_cpu=True, bf16=False,
            disable_tqdm=True, **SETTINGS,
        ),
        train_dataset=Dataset.from_list(train),
        loss=getattr(ce.losses, loss)(theirs),
    )  # fmt: skip
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert list(job.losses.values()) == pytest.approx(losses, rel=1e-3)
    samples = [
        {"query": r["query"], "positive": r["documents"][:1], "negative": r["documents"][1:]}
        for r in test
    ]
    evaluator = CrossEncoderRerankingEvaluator(samples, write_csv=False)
    measured = evaluator(ce.CrossEncoder(str(job.model), device="cpu"))
    own = {name: job.results[f"test_{name}"] for name in measured}
    assert own == pytest.approx(measured, abs=1e-6)
