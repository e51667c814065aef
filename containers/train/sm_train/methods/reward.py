"""Reward models with TRL: a score that is higher for the chosen answer."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from sm_train.data.formats import check_formats_apart, preference_columns, preference_row
from sm_train.errors import UserError
from sm_train.modelling.sequences import reward_tokens
from sm_train.results.asking import tell
from sm_train.settings.settings import HeldOut, Method

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data
    from sm_train.settings.settings import Config

MARGIN = "margin"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class RewardArguments:
    """Reward modelling has no hyperparameters beside TRL's own."""


def clean_row(row: dict[str, Any], config: Config[RewardArguments]) -> dict[str, Any]:
    """A pair, and by how much more the chosen answer should score where the rows say it."""
    cleaned = preference_row(row, config)
    margin = row.get(MARGIN)
    if margin is None:
        return cleaned
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not isfinite(margin):
        raise ValueError(f"{MARGIN} is no number")
    return {**cleaned, MARGIN: float(margin)}


def columns(row: dict[str, Any], sequences: list[Any]) -> dict[str, Any]:
    """Both conversations and the margin as TRL's trainer takes them."""
    chosen, rejected = (tokens.ids for tokens in sequences) if sequences else ([], [])
    margin = {MARGIN: row[MARGIN]} if MARGIN in row else {}
    return {"chosen_ids": chosen, "rejected_ids": rejected, **margin}


def check_data(config: Config[RewardArguments], data: Data) -> None:
    """One format, and a margin in every row or in none: TRL looks at the first of a batch."""
    check_formats_apart(config, data)
    rows = [row for split in SPLITS for row in data.split(split) or ()]
    with_margin = sum(MARGIN in row for row in rows)
    if with_margin not in (0, len(rows)):
        raise UserError(
            f"{with_margin} of {len(rows)} rows have one",
            field=f"column {MARGIN}",
            fix="give every row of every channel a margin (0 where there is none), or remove it",
        )


def train(job: Job) -> None:
    """Train a one-number head on top of the base model."""
    from trl import RewardTrainer

    from sm_train.loop.fit import callbacks, train_and_export, training_arguments
    from sm_train.loop.learning import learnable
    from sm_train.modelling.model import load_model, load_tokenizer, peft_config

    tokenizer, arguments = load_tokenizer(job), training_arguments(job)
    job, tokens = learnable(job, tokenizer, arguments)
    model = load_model(job, "AutoModelForSequenceClassification", num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    asked = {"eos_token": tokenizer.eos_token, "truncation": False}
    tell(model, job.config, asked, {"text": "prompt", "label": "chosen"})
    trainer = RewardTrainer(
        model=model,
        args=arguments,
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        peft_config=peft_config(job, "SEQ_CLS", ("score",)),
        callbacks=callbacks(job),
    )
    train_and_export(job, trainer, tokenizer, tokens["test"])


METHOD = Method(
    name="reward",
    training_config="trl:RewardConfig",
    arguments=RewardArguments,
    clean_row=clean_row,
    tokens=reward_tokens,
    columns=columns,
    reads_text=lambda _, name: name != MARGIN,
    required_columns=preference_columns,
    check_data=check_data,
    streams=True,
    answers="scored",
    pipeline_tag="text-classification",
    held_out=HeldOut(2),
    in_memory=(2, 1),
    defaults={"num_train_epochs": 1, "warmup_steps": 0.1, "metric_for_best_model": "loss"},
)
