"""Direct preference optimisation with TRL: chosen and rejected answers to a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sm_train.data.formats import check_formats_apart, preference_columns, preference_row
from sm_train.modelling.sequences import pair_columns, preference_tokens
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job


@dataclass(frozen=True)
class DpoArguments:
    """DPO has no hyperparameters beside TRL's own."""


def train(job: Job) -> None:
    """Prefer the chosen answers; the reference is the base model itself."""
    from trl import DPOTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import learnable
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config

    tokenizer, arguments = load_tokenizer(job), training_arguments(job)
    job, tokens = learnable(job, tokenizer, arguments)

    class Tokenised(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            """The rows, whose columns are those that TRL would make of them here."""
            return dataset

    trainer = Tokenised(
        model=load_model(job, "AutoModelForCausalLM"),
        args=arguments,
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=callbacks(job),
    )
    train_and_export(job, trainer, tokenizer, tokens["test"])


METHOD = Method(
    name="dpo",
    training_config="trl:DPOConfig",
    arguments=DpoArguments,
    clean_row=preference_row,
    tokens=preference_tokens,
    columns=pair_columns,
    required_columns=preference_columns,
    check_data=check_formats_apart,
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
