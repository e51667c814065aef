"""Odds ratio preference optimisation with TRL (experimental there): no reference model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sm_train.data.formats import check_one_format, preference_columns, preference_row
from sm_train.modelling.sequences import preference_tokens
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job


@dataclass(frozen=True)
class OrpoArguments:
    """ORPO has no hyperparameters beside TRL's own."""


def train(job: Job) -> None:
    """Prefer the chosen answers while learning them."""
    from trl.experimental.orpo import ORPOTrainer

    from sm_train.loop.fit import (
        callbacks,
        tokenised_preferences,
        train_and_export,
        training_arguments,
    )
    from sm_train.loop.learning import learnable
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config

    tokenizer, arguments = load_tokenizer(job), training_arguments(job)
    job, _ = learnable(job, tokenizer, arguments)
    trainer = ORPOTrainer(
        model=load_model(job, "AutoModelForCausalLM"),
        args=arguments,
        train_dataset=job.dataset("train"),
        eval_dataset=job.dataset("validation"),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    train_and_export(
        job, trainer, tokenizer, tokenised_preferences(trainer, job.dataset("test"), tokenizer)
    )


METHOD = Method(
    name="orpo",
    training_config="trl.experimental.orpo:ORPOConfig",
    arguments=OrpoArguments,
    clean_row=preference_row,
    tokens=preference_tokens,
    required_columns=preference_columns,
    check_data=check_one_format,
    answers="taught",
    held_out=HeldOut(1, "chosen_attention_mask", {"eval_nll_loss": (0,)}),
    in_memory=(2, 1),
    defaults={"num_train_epochs": 1, "warmup_steps": 0.1, "metric_for_best_model": "loss"},
    experimental=True,
)
