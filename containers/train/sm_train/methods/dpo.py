"""Direct preference optimisation with TRL: chosen and rejected answers to a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sm_train.data.formats import (
    check_formats_apart,
    check_one_format,
    check_settings_with_images,
    preference_columns,
    preference_row,
)
from sm_train.modelling.images import compared_columns, compared_tokens
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data
    from sm_train.settings.settings import Config


@dataclass(frozen=True)
class DpoArguments:
    """DPO has no hyperparameters beside TRL's own."""


def check_data(config: Config[DpoArguments], data: Data) -> None:
    """Refuse mixed formats, and settings that mean nothing beside images."""
    check_formats_apart(config, data)
    if data.has_images:
        check_one_format(config, data)
        check_settings_with_images(config, "precompute_ref_log_probs", "padding_free")


def train(job: Job) -> None:
    """Prefer the chosen answers; the reference is the base model itself."""
    from trl import DPOTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import learnable
    from sm_train.modelling.images import ImageBatches
    from sm_train.modelling.model import generator, load_model, load_tokenizer, peft_config

    tokenizer, arguments = load_tokenizer(job), training_arguments(job)
    job, tokens = learnable(job, tokenizer, arguments)

    class Tokenised(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            """The rows, whose columns are those that TRL would make of them here."""
            return dataset

    trainer = Tokenised(
        model=load_model(job, generator(job)),
        args=arguments,
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    if job.has_images:
        trainer.data_collator = ImageBatches(trainer.data_collator, tokenizer)
    train_and_export(job, trainer, tokenizer, tokens["test"])


METHOD = Method(
    name="dpo",
    training_config="trl:DPOConfig",
    arguments=DpoArguments,
    clean_row=preference_row,
    tokens=compared_tokens,
    columns=compared_columns,
    images=True,
    required_columns=preference_columns,
    check_data=check_data,
    streams=True,
    answers="compared",
    held_out=HeldOut(
        2,
        "completion_mask",
        {
            "entropy": (0, 1),
            "mean_token_accuracy": (0,),
            "logits/chosen": (0,),
            "logits/rejected": (1,),
        },
    ),
    in_memory=(2, 2),
    defaults={"num_train_epochs": 1, "warmup_steps": 0.1, "metric_for_best_model": "loss"},
)
