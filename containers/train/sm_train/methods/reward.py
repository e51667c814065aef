"""Reward models with TRL: a score that is higher for the chosen answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sm_train.formats import check_one_format, preference_columns, preference_row
from sm_train.methods import Method

if TYPE_CHECKING:
    from sm_train.job import Job


@dataclass(frozen=True)
class RewardArguments:
    """Reward modelling has no hyperparameters beside TRL's own."""


def train(job: Job) -> None:
    """Train a one-number head on top of the base model."""
    from trl import RewardTrainer

    from sm_train.model import load_model, load_tokenizer, peft_config
    from sm_train.run import callbacks, finish, training_arguments

    tokenizer = load_tokenizer(job)
    model = load_model(job, "AutoModelForSequenceClassification", num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = RewardTrainer(
        model=model,
        args=training_arguments(job),
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job, "SEQ_CLS", ("score",)),
        callbacks=callbacks(job),
    )
    finish(job, trainer, tokenizer, job.dataset("test"))


METHOD = Method(
    name="reward",
    training_config="trl:RewardConfig",
    arguments=RewardArguments,
    clean_row=preference_row,
    train=train,
    required_columns=preference_columns,
    check_data=check_one_format,
    defaults={"num_train_epochs": 1, "warmup_steps": 0.1, "metric_for_best_model": "loss"},
)
