"""Classification on every kind of base model, in full and with LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Sentiment = Callable[[int, int], list[dict[str, Any]]]
SETTINGS = {
    "method": "text-classification",
    "learning_rate": 0.005,
    "num_train_epochs": 3,
    "report_to": "none",
}

# A frozen random base has no features to combine: one word settles the class.
EASY = [
    {"text": f"{word} w1{' w2' * (i % 3)}", "label": label}
    for i, (word, label) in enumerate(
        [("great", "pos"), ("awful", "neg"), ("fine", "pos"), ("dull", "neg")]
    )
]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("base", ["bert", "roberta", "distilbert", "decoder"])
def test_every_kind_of_model_learns(
    base: str,
    lora: bool,
    new_job: Callable[..., Any],
    encoders: dict[str, Path],
    decoder: Path,
) -> None:
    from transformers import pipeline

    settings = {**SETTINGS, "use_peft": lora, "learning_rate": 0.005, "num_train_epochs": 6}
    model = decoder if base == "decoder" else encoders[base]
    job = new_job(
        settings,
        train=EASY * 40,
        validation=EASY * 4,
        test=EASY * 4,
        model=model,
    )
    job.train_here()
    assert job.results["test_accuracy"] > 0.9
    classify = pipeline("text-classification", model=str(job.model))
    answers = classify(["great w1 w2", "awful w1"], batch_size=2)  # one is padded
    assert [a["label"] for a in answers] == ["pos", "neg"]


def test_early_stopping_keeps_the_best_weights(
    new_job: Callable[..., Any], encoders: dict[str, Path], sentiment: Sentiment
) -> None:
    import json

    settings = {**SETTINGS, "num_train_epochs": 20, "early_stopping_patience": 2}
    job = new_job(
        settings,
        train=sentiment(160, 1),
        validation=sentiment(40, 2),
        test=sentiment(40, 2),
        model=encoders["bert"],
    )
    job.train_here()
    summary = json.loads((job.path / "output" / "data" / "training_summary.json").read_text())
    assert summary["epochs"] < 20
    best = max(row["eval_f1"] for row in job.log if "eval_f1" in row)
    assert job.results["test_f1"] == pytest.approx(best)
    assert len(list(job.checkpoints.glob("checkpoint-*"))) <= 2


def test_a_classifier_with_other_classes_is_refused_or_gets_a_new_head(
    new_job: Callable[..., Any], encoders: dict[str, Path], sentiment: Sentiment, tmp_path: Path
) -> None:
    import shutil

    from transformers import AutoModelForSequenceClassification

    from sm_train.errors import UserError

    base = tmp_path / "three"
    shutil.copytree(encoders["bert"], base)
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=3).save_pretrained(base)
    settings = {**SETTINGS, "max_steps": 1}
    job = new_job(settings, train=sentiment(40, 1), model=base)
    with pytest.raises(UserError, match=r"has a head for 3 classes .* and the data has 2"):
        job.train_here()
    new_job({**settings, "replace_head": True}).train_here()


def test_accumulated_batches_count_as_one(
    session_job: Callable[..., Any], encoders: dict[str, Path], sentiment: Sentiment
) -> None:
    def losses(batch: int, accumulation: int) -> list[float]:
        settings = {
            **SETTINGS,
            "max_steps": 4,
            "logging_steps": 1,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "model_init_kwargs": {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0},
            "train_sampling_strategy": "sequential",
        }
        job = session_job(settings, train=sentiment(64, 1), model=encoders["bert"])
        job.train_here()
        return list(job.losses.values())

    assert losses(8, 2) == pytest.approx(losses(16, 1), rel=1e-4)
